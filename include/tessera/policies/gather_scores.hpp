#pragma once
// Attention over striped keys for a softmax that needs its whole row at once.

#include <tessera/policies/striped_context.hpp>

namespace tessera {

/// Any other softmax needs its whole row at once: the scores of all stripes are gathered (not the keys), every rank
/// turns them into weights, weighs its stripe of values, and the heads' owners sum the outputs.
class GatherScores {
 public:
  /// Of the buffers: the scores of this stripe, of all stripes, and of whole rows; the outputs here and on their way.
  [[nodiscard]] static constexpr index_t exchange_floats(index_t rows, index_t head_dim, index_t heads, index_t ranks,
                                                         index_t max_positions) {
    const index_t stripe = CacheLayout{{}, ranks, 0}.capacity(max_positions);
    return rows * heads * ((1 + ranks) * stripe + max_positions + 2 * head_dim);
  }

  explicit GatherScores(const StripedContext& context)
      : comm_(context.comm),
        q_heads_(context.q_heads),
        heads_(context.heads),
        head_dim_(context.config.head_dim),
        max_positions_(context.limits.max_positions),
        local_(context.limits.max_tokens * heads_ * stripe_capacity(context)),
        gathered_(local_.size() * comm_.size()),
        rows_(context.limits.max_tokens * heads_ * context.limits.max_positions),
        output_(context.limits.max_tokens * heads_ * head_dim_),
        sent_(output_.size()),
        counts_(q_heads_.size()) {}

  template <SoftmaxPolicy Softmax, SimdBackend B>
  void attend(Worker& worker, const AttentionProblem& problem, const Step& step, const CacheLayout& layout,
              Activations out) {
    const index_t rows = problem.queries.rows;
    const index_t width = widest(step, layout, layout.stripe);
    const Activations local{local_.data(), rows * heads_, width};
    Softmax::template scores<B>(worker, problem, local);
    worker.once([&] {
      index_t total = 0;
      for (index_t r = 0; r < comm_.size(); ++r)
        total += counts_[static_cast<std::size_t>(r)] = rows * heads_ * widest(step, layout, r);
      comm_.allgather<float>({local.data, static_cast<std::size_t>(rows * heads_ * width)},
                             gathered_.span().first(static_cast<std::size_t>(total)), counts_);
    });
    for (const Segment& s : step.segments)
      for (index_t t = s.row; t < s.row + s.count; ++t) weigh_row<Softmax, B>(worker, s, t, step, layout, local);
    worker.barrier();
    const Activations output = output_.matrix(rows, heads_ * head_dim_);
    Softmax::template weigh<B>(worker, problem, local, output);
    worker.once([&] {
      float* to = sent_.data();
      for (std::size_t r = 0; r < q_heads_.size(); ++r) {
        const index_t columns = q_heads_[r].size() * head_dim_;
        for (index_t i = 0; i < rows; ++i) to = std::copy_n(output.row(i) + q_heads_[r].begin * head_dim_, columns, to);
        counts_[r] = rows * columns;
      }
      comm_.reduce_scatter({sent_.data(), to}, {out.data, static_cast<std::size_t>(rows * out.cols)}, counts_);
    });
  }

 private:
  [[nodiscard]] static index_t stripe_capacity(const StripedContext& context) {
    return CacheLayout{{}, context.comm.size(), 0}.capacity(context.limits.max_positions);
  }
  /// The most slots of stripe `r` that a row of the step sees: the row length of its scores.
  [[nodiscard]] static index_t widest(const Step& step, const CacheLayout& layout, index_t r) {
    index_t most = 0;
    for (const Segment& s : step.segments) most = std::max(most, layout.slots_of(s.sequence, s.position + s.count, r));
    return most;
  }

  /// Turns the gathered scores of row t into softmax weights, in position order, and keeps those of the own stripe.
  template <SoftmaxPolicy Softmax, SimdBackend B>
  void weigh_row(Worker& worker, const Segment& s, index_t t, const Step& step, const CacheLayout& layout,
                 const Activations& weights) {
    const index_t positions = s.position + (t - s.row) + 1;
    const Range mine = worker.share(heads_);
    for (index_t h = mine.begin; h < mine.end; ++h) {
      float* row = rows_.data() + (t * heads_ + h) * max_positions_;
      const float* part = gathered_.data();
      for (index_t r = 0; r < comm_.size(); ++r) {
        const index_t width = counts_[static_cast<std::size_t>(r)] / (step.rows * heads_);  // as gathered
        const CacheLayout stripe{layout.kv_heads, layout.stripes, r};
        const float* from = part + (t * heads_ + h) * width;
        for (index_t slot = 0; slot < stripe.slots(s.sequence, positions); ++slot)
          row[stripe.position(s.sequence, slot)] = from[slot];
        part += step.rows * heads_ * width;
      }
      Softmax::template normalize_row<B>(row, positions);
      float* own = weights.row(t * heads_ + h);
      for (index_t slot = 0; slot < layout.slots(s.sequence, positions); ++slot)
        own[slot] = row[layout.position(s.sequence, slot)];
    }
  }

  Communicator comm_;
  std::vector<Range> q_heads_;
  index_t heads_;
  index_t head_dim_;
  index_t max_positions_;
  Buffer<float> local_;
  Buffer<float> gathered_;
  Buffer<float> rows_;
  Buffer<float> output_;
  Buffer<float> sent_;
  std::vector<index_t> counts_;
};

}  // namespace tessera
