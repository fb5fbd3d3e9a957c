#pragma once
// Helix: decode with projections and FFN by heads and columns, and attention by position, on the same ranks
// (arXiv:2507.07120). Contexts and ranks are not limited by the number of KV heads.

#include <vector>

#include <tessera/comm/loopback.hpp>
#include <tessera/policies/feature_split.hpp>
#include <tessera/policies/row_selection.hpp>
#include <tessera/policies/stored_rows.hpp>
#include <tessera/policies/striped_attention.hpp>

namespace tessera {

/// Four collectives in a layer: q, k and v of all heads to all ranks; partial attention to the heads' owners; and the
/// two sums of head-wise sharding. Every rank keeps all rows.
class Helix {
 public:
  static constexpr std::string_view name = "helix";
  using Cache = CacheByPosition;

  static void check(const ModelConfig&, const Ranks&) {}  // an empty share of heads is legal

  [[nodiscard]] static constexpr Plan plan(const ModelConfig& config, const Ranks& ranks, index_t rows) {
    WeightSlice slice = slice_by_heads(config, ranks);
    slice.kv_heads = ranks.part(config.kv_heads);  // each once: they are gathered before anybody reads them
    return {all_rows(rows), all_rows(rows), slice};
  }
  [[nodiscard]] static constexpr CacheLayout layout(const ModelConfig& config, const Ranks& ranks) {
    return {{0, config.kv_heads}, ranks.size, ranks.rank};
  }
  [[nodiscard]] static constexpr WeightSlice widest(const ModelConfig& config, const Ranks& ranks) {
    return plan(config, ranks, 1).slice;
  }
  [[nodiscard]] static constexpr index_t max_rows(const ModelConfig&, const Ranks&, const Limits& limits) {
    return limits.max_tokens;
  }

  explicit Helix(const ShardingContext& context)
      : context_(context),
        self_(Loopback{}),
        tasks_(context.limits),
        sent_(context.limits.max_tokens * row_size(context.comm.rank())),
        gathered_(context.limits.max_tokens * (context.config.heads + 2 * context.config.kv_heads) * head_dim()),
        q_(context.limits.max_tokens * context.config.heads * head_dim()),
        kv_(context.limits.max_tokens * 2 * context.config.kv_heads * head_dim()),
        counts_(static_cast<std::size_t>(context.comm.size())),
        features_(context.comm, context.config, context.ranks(), context.limits.max_tokens),
        selection_(context.limits.max_tokens, context.config.hidden, 1),
        attention_({context.comm, context.config, context.limits, q_heads_of_all()}) {}

  template <class F>
  void visit(const Step& step, F&& f) {
    begin(step);
    f(*this);
  }

  void begin(const Step& step) {
    step_ = step;
    tasks_.plan(step, all_rows(step.rows), layout(context_.config, context_.ranks()));
  }
  [[nodiscard]] ConstActivations gather(Worker& worker, ConstActivations x) { return features_.gather(worker, x); }

  template <class Softmax, SimdBackend B>
  void attend(Worker& worker, ConstActivations q, ConstActivations kv, KvCache& cache, index_t layer, Activations out) {
    worker.once([&] {
      gather_heads(q, kv);
      tasks_.aim(cache, layer);
    });
    const auto all_kv = kv_.matrix(step_.rows, 2 * context_.config.kv_heads * head_dim());
    store_rows(worker, step_, all_kv, {}, head_dim(), cache, layer);
    const AttentionProblem problem{
        head_layout(context_.config, {0, context_.config.heads}, {0, context_.config.kv_heads}),
        attention_scale(context_.config), q_.matrix(step_.rows, context_.config.heads * head_dim()), tasks_.tasks()};
    attention_.template attend<Softmax, B>(worker, problem, step_, cache.layout(), out);
  }
  template <SimdBackend B>
  void combine(Worker& worker, Activations partial, Activations x) {
    features_.template combine<B>(worker, partial, x);
  }
  [[nodiscard]] ConstActivations select(Worker& worker, ConstActivations x) {
    worker.once(
        [&] { selected_ = selection_.select(self_, x, step_.wanted, [&](index_t) { return all_rows(step_.rows); }); });
    return selected_;
  }

 private:
  [[nodiscard]] index_t head_dim() const { return context_.config.head_dim; }
  [[nodiscard]] WeightSlice slice_of(index_t r) const { return plan(context_.config, context_.ranks().at(r), 1).slice; }
  [[nodiscard]] index_t row_size(index_t r) const {
    const WeightSlice slice = slice_of(r);
    return (slice.q_heads.size() + 2 * slice.kv_heads.size()) * head_dim();
  }
  [[nodiscard]] std::vector<Range> q_heads_of_all() const {
    std::vector<Range> heads;
    for (index_t r = 0; r < context_.comm.size(); ++r) heads.push_back(slice_of(r).q_heads);
    return heads;
  }

  /// One allgather of rows [q | k | v], of every rank's heads, into q_ and kv_ of all heads.
  void gather_heads(ConstActivations q, ConstActivations kv) {
    float* to = sent_.data();
    for (index_t t = 0; t < step_.rows; ++t) {
      to = std::copy_n(q.row(t), q.cols, to);
      to = std::copy_n(kv.row(t), kv.cols, to);
    }
    index_t total = 0;
    for (index_t r = 0; r < context_.comm.size(); ++r)
      total += counts_[static_cast<std::size_t>(r)] = step_.rows * row_size(r);
    context_.comm.allgather<float>({sent_.data(), to}, gathered_.span().first(static_cast<std::size_t>(total)),
                                   counts_);
    const index_t values = context_.config.kv_heads * head_dim();  // where the values begin in a row of kv_
    const float* from = gathered_.data();
    for (index_t r = 0; r < context_.comm.size(); ++r) {
      const WeightSlice slice = slice_of(r);
      for (index_t t = 0; t < step_.rows; ++t) {
        from = copy_heads(from, slice.q_heads, q_.data() + t * context_.config.heads * head_dim());
        from = copy_heads(from, slice.kv_heads, kv_.data() + t * 2 * values);
        from = copy_heads(from, slice.kv_heads, kv_.data() + t * 2 * values + values);
      }
    }
  }
  const float* copy_heads(const float* from, Range heads, float* row) const {
    const index_t n = heads.size() * head_dim();
    std::copy_n(from, n, row + heads.begin * head_dim());
    return from + n;
  }

  ShardingContext context_;
  Communicator self_;
  AttentionTasks tasks_;
  Buffer<float> sent_;
  Buffer<float> gathered_;
  Buffer<float> q_;
  Buffer<float> kv_;
  std::vector<index_t> counts_;
  SplitHeads features_;
  RowSelection selection_;
  StripedAttention attention_;
  ConstActivations selected_;
  Step step_;
};

static_assert(PhasePolicy<Helix> && ShardingPolicy<Helix>);

}  // namespace tessera
