#pragma once
// Attention over striped keys for a softmax whose partial states merge.

#include <tessera/kernels/rows.hpp>
#include <tessera/kernels/softmax_states.hpp>
#include <tessera/policies/striped_context.hpp>

namespace tessera {

/// A mergeable softmax sends its partial states (m, l, o): head_dim + 2 floats for a row and head, whatever the
/// context.
class MergeStates {
 public:
  /// Of the buffers: all heads' states here and on their way, and those of `mine` heads from every rank.
  [[nodiscard]] static constexpr index_t exchange_floats(index_t rows, index_t head_dim, index_t heads, index_t mine,
                                                         index_t ranks) {
    return rows * (head_dim + 2) * (2 * heads + mine * ranks);
  }

  explicit MergeStates(const StripedContext& context)
      : comm_(context.comm),
        q_heads_(context.q_heads),
        heads_(context.heads),
        head_dim_(context.config.head_dim),
        sent_(context.limits.max_tokens * heads_ * (head_dim_ + 2)),
        received_(context.limits.max_tokens * mine().size() * (head_dim_ + 2) * comm_.size()),
        states_(context.limits.max_tokens * heads_ * (head_dim_ + 2)),
        parts_(q_heads_.size()),
        counts_(q_heads_.size()) {}

  /// `problem` asks for all heads over the local stripe; `out` [rows, heads of this rank * head_dim] is over all keys.
  template <MergeableSoftmax Softmax, SimdBackend B>
  void attend(Worker& worker, const AttentionProblem& problem, const Step&, const CacheLayout&, Activations out) {
    const index_t rows = problem.queries.rows;
    const SoftmaxStates all = states_at(states_.data(), rows, heads_);
    reset<B>(worker, all);
    Softmax::template attend_more<B>(worker, problem, all);
    worker.once_after_kernel([&] {
      float* to = sent_.data();
      float* from = received_.data();
      for (std::size_t r = 0; r < q_heads_.size(); ++r) {
        const SoftmaxStates part = states_at(to, rows, q_heads_[r].size());
        copy_heads<B>(all, q_heads_[r], part);
        to += counts_[r] = state_size(rows, q_heads_[r].size());
        parts_[r] = states_at(from, rows, mine().size());
        from += state_size(rows, mine().size());
      }
      comm_.deal<float>({sent_.data(), to}, counts_, {received_.data(), from});
    });
    merge_normalized<B>(worker, parts_, out);
  }

 private:
  [[nodiscard]] Range mine() const { return q_heads_[static_cast<std::size_t>(comm_.rank())]; }
  [[nodiscard]] index_t state_size(index_t rows, index_t heads) const { return rows * heads * (head_dim_ + 2); }

  [[nodiscard]] SoftmaxStates states_at(float* data, index_t rows, index_t heads) const {
    return {
        {data, rows, heads}, {data + rows * heads, rows, heads}, {data + 2 * rows * heads, rows, heads * head_dim_}};
  }
  template <SimdBackend B>
  void copy_heads(const SoftmaxStates& from, Range heads, const SoftmaxStates& to) const {
    for (index_t r = 0; r < from.maximum.rows; ++r) {
      copy_floats<B>(from.maximum.row(r) + heads.begin, heads.size(), to.maximum.row(r));
      copy_floats<B>(from.sum.row(r) + heads.begin, heads.size(), to.sum.row(r));
      copy_floats<B>(from.output.row(r) + heads.begin * head_dim_, heads.size() * head_dim_, to.output.row(r));
    }
  }

  Communicator comm_;
  std::vector<Range> q_heads_;
  index_t heads_;
  index_t head_dim_;
  Buffer<float> sent_;
  Buffer<float> received_;
  Buffer<float> states_;
  std::vector<SoftmaxStates> parts_;
  std::vector<index_t> counts_;
};

}  // namespace tessera
