#pragma once
// Attention over ranks on tensors of a caller's own: any sharding policy, without the rest of a model.

#include <vector>

#include <tessera/core/tensor_view.hpp>
#include <tessera/policies/online_softmax.hpp>
#include <tessera/policies/sequence.hpp>
#include <tessera/policies/stored_rows.hpp>

namespace tessera {

/// Query heads, the KV heads that groups of them share, and the floats of a head.
struct AttentionShape {
  index_t heads = 0;
  index_t kv_heads = 0;
  index_t head_dim = 0;
};

/// How much attention may hold, and what it may use.
struct AttentionOptions {
  Limits limits;
  int threads = 1;
  std::vector<double> shares = {};  ///< how the ranks share the work; empty: equally
  index_t inner = 1;                ///< ranks of the inner dimension of a Hybrid
};

/// The next tokens of one sequence.
struct NewTokens {
  index_t sequence = 0;
  index_t count = 0;
};

/// Causal attention of one layer with a KV cache that the ranks of a communicator share as `Sharding` says. Every rank
/// makes it with the same arguments and calls the same steps. Moves are cheap, there is no copy. Not for several
/// threads at a time.
template <class Sharding = Sequence<>, class Softmax = OnlineSoftmax, class Backend = XsimdBackend<>>
class DistributedAttention {
  static_assert(ShardingPolicy<Sharding>, "DistributedAttention: the first slot needs a ShardingPolicy");
  static_assert(SoftmaxPolicy<Softmax>, "DistributedAttention: the second slot needs a SoftmaxPolicy");
  static_assert(SimdBackend<Backend>, "DistributedAttention: the third slot needs a SimdBackend");

 public:
  /// Takes all memory that steps within the limits need. Throws Error for a shape that is none, and for more ranks than
  /// the policy can use.
  DistributedAttention(Communicator comm, AttentionShape shape, AttentionOptions options)
      : context_(
            checked({std::move(comm), config_of(shape), options.limits, std::move(options.shares), options.inner})),
        team_(options.threads),
        sharding_(context_),
        cache_(Sharding::layout(config(), ranks()), 1, options.limits.max_sequences, options.limits.max_positions,
               shape.head_dim, options.limits.cache),
        lengths_(static_cast<std::size_t>(options.limits.max_sequences), 0) {
    const WeightSlice widest = Sharding::widest(config(), ranks());
    const index_t rows = Sharding::max_rows(config(), ranks(), options.limits);
    q_ = Buffer<float>(rows * widest.q_heads.size() * shape.head_dim);
    kv_ = Buffer<float>(rows * 2 * widest.kv_heads.size() * shape.head_dim);
    attended_ = Buffer<float>(q_.size());
    segments_.reserve(lengths_.size());
  }

  /// What this rank brings to such a step and gets from it: the tokens `computed`, numbered through the step, and the
  /// query and KV heads of `slice`. Arithmetic alone.
  [[nodiscard]] Plan plan(std::span<const NewTokens> tokens) {
    const Step step = prepare(tokens);
    Plan plan;
    sharding_.visit(step, [&](auto& phase) { plan = plan_of(phase, step); });
    return plan;
  }

  /// Appends the tokens' keys and values to the cache, and writes to `out` what their queries find there: each sees its
  /// sequence up to itself. With plan(tokens): q and out [computed, q heads, head_dim], k and v [computed, KV heads,
  /// head_dim], in any strides, `out` apart from the others. Scores are scaled by head_dim^-1/2. Throws Error, and
  /// changes nothing, for other shapes and for more tokens or positions than planned.
  void step(std::span<const NewTokens> tokens, TensorView<const float, 3> q, TensorView<const float, 3> k,
            TensorView<const float, 3> v, TensorView<float, 3> out) {
    const Step step = prepare(tokens);
    sharding_.visit(step, [&](auto& phase) {
      const Plan plan = plan_of(phase, step);
      const index_t rows = plan.computed.size();
      const index_t heads = plan.slice.q_heads.size(), kv_heads = plan.slice.kv_heads.size();
      expect("q", q, rows, heads), expect("k", k, rows, kv_heads), expect("v", v, rows, kv_heads);
      expect("out", out, rows, heads);
      const index_t width = kv_heads * config().head_dim;
      const Activations queries = q_.matrix(rows, heads * config().head_dim);
      const Activations kv = kv_.matrix(rows, 2 * width);
      const Activations attended = attended_.matrix(rows, queries.cols);
      team_.run([&](Worker& worker) {
        const Range mine = worker.share(rows);
        copy_in(q, mine, queries);
        copy_in(k, mine, kv.col_range({0, width}));
        copy_in(v, mine, kv.col_range({width, 2 * width}));
        worker.barrier();
        round_as_stored<Backend>(worker, kv, config().head_dim, cache_.type());
        phase.template attend<Softmax, Backend>(worker, queries, kv, cache_, 0, attended);
        copy_out(attended, mine, out);
      });
    });
    for (const Segment& s : segments_) lengths_[static_cast<std::size_t>(s.sequence)] += s.count;
  }

  /// Positions of a sequence that the cache holds.
  [[nodiscard]] index_t length(index_t sequence) const { return lengths_.at(static_cast<std::size_t>(sequence)); }

  /// Cuts a sequence back to its first `length` positions. Throws Error if it has fewer.
  void truncate(index_t sequence, index_t length) {
    index_t& now = lengths_.at(static_cast<std::size_t>(sequence));
    require(0 <= length && length <= now, "truncate: sequence ", sequence, " holds ", now,
            " positions, it cannot be cut to ", length);
    now = length;
  }

 private:
  /// The part of a model's configuration that attention depends on.
  [[nodiscard]] static ModelConfig config_of(AttentionShape shape) {
    require(shape.kv_heads > 0 && shape.head_dim > 0 && shape.heads > 0 && shape.heads % shape.kv_heads == 0,
            "attention: expected heads that are a multiple of the KV heads, found ", shape.heads, " heads and ",
            shape.kv_heads, " KV heads of ", shape.head_dim);
    ModelConfig config;
    config.layers = 1;
    config.heads = shape.heads;
    config.kv_heads = shape.kv_heads;
    config.head_dim = shape.head_dim;
    return config;
  }
  [[nodiscard]] static ShardingContext checked(ShardingContext context) {
    context.ranks().require_shares();
    Sharding::check(context.config, context.ranks());
    return context;
  }
  [[nodiscard]] const ModelConfig& config() const { return context_.config; }
  [[nodiscard]] Ranks ranks() const { return context_.ranks(); }

  template <class Phase>
  [[nodiscard]] Plan plan_of(const Phase&, const Step& step) const {
    return Phase::plan(config(), ranks(), step.rows);
  }

  [[nodiscard]] Step prepare(std::span<const NewTokens> tokens) {
    const Limits& limits = context_.limits;
    segments_.clear();
    index_t rows = 0;
    for (const NewTokens& more : tokens) {
      require(0 <= more.sequence && more.sequence < limits.max_sequences && more.count > 0,
              "attention: expected tokens of a sequence below ", limits.max_sequences, ", found ", more.count,
              " of sequence ", more.sequence);
      for (const Segment& s : segments_)
        require(s.sequence != more.sequence, "attention: sequence ", more.sequence, " occurs twice");
      const index_t past = length(more.sequence);
      require(past + more.count <= limits.max_positions, "attention: sequence ", more.sequence, " would have ",
              past + more.count, " positions; there is room for ", limits.max_positions);
      segments_.push_back({more.sequence, past, rows, more.count});
      rows += more.count;
    }
    require(rows <= limits.max_tokens, "attention: planned for ", limits.max_tokens, " tokens at a time, found ", rows);
    return {segments_, rows, {}};
  }

  template <class View>
  void expect(std::string_view name, const View& view, index_t rows, index_t heads) const {
    require(view.extent(0) == rows && view.extent(1) == heads && view.extent(2) == config().head_dim, name,
            ": expected [", rows, ", ", heads, ", ", config().head_dim, "], found [", view.extent(0), ", ",
            view.extent(1), ", ", view.extent(2), "]");
  }

  static void copy_in(const TensorView<const float, 3>& from, Range rows, Activations to) {
    for (index_t r = rows.begin; r < rows.end; ++r)
      for (index_t h = 0; h < from.extent(1); ++h)
        for (index_t d = 0; d < from.extent(2); ++d) to.row(r)[h * from.extent(2) + d] = from(r, h, d);
  }
  static void copy_out(ConstActivations from, Range rows, const TensorView<float, 3>& to) {
    for (index_t r = rows.begin; r < rows.end; ++r)
      for (index_t h = 0; h < to.extent(1); ++h)
        for (index_t d = 0; d < to.extent(2); ++d) to(r, h, d) = from.row(r)[h * to.extent(2) + d];
  }

  ShardingContext context_;
  Team team_;
  Sharding sharding_;
  KvCache cache_;
  Buffer<float> q_, kv_, attended_;
  std::vector<index_t> lengths_;
  std::vector<Segment> segments_;
};

}  // namespace tessera
