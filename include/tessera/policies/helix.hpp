#pragma once
// Helix: decode with projections and FFN by heads and columns, and attention by position, on the same ranks
// (arXiv:2507.07120). Contexts and ranks are not limited by the number of KV heads.

#include <vector>

#include <tessera/comm/loopback.hpp>
#include <tessera/policies/attention_tasks.hpp>
#include <tessera/policies/feature_split.hpp>
#include <tessera/policies/mesh_shape.hpp>
#include <tessera/policies/row_selection.hpp>
#include <tessera/policies/stored_rows.hpp>
#include <tessera/policies/striped_attention.hpp>

namespace tessera {

/// Four collectives in a layer: q, k and v of all heads to all ranks; partial attention to the heads' owners; and the
/// two sums of head-wise sharding. Every rank keeps all rows. On a two-dimensional mesh the ranks of one outer
/// dimension share the heads of their inner place, and attention's collectives stay among them; the sums run over all
/// ranks.
template <class Shape>
class HelixOn {
 public:
  static constexpr std::string_view name = "helix";
  static constexpr std::string_view decode_name = name;
  using Cache = CacheByPosition;

  static void check(const ModelConfig& config, const Ranks& ranks) {
    SplitHeads::check(config, mesh_of<Shape>(ranks).inner);  // within a group of heads an empty share is legal
  }

  [[nodiscard]] static constexpr Plan plan(const ModelConfig& config, const Ranks& ranks, index_t rows) {
    const MeshRanks mesh = mesh_of<Shape>(ranks);
    const WeightSlice group = slice_by_heads(config, mesh.inner);
    // KV heads once each in a group: they are gathered before anybody reads them.
    const WeightSlice slice{within(group.q_heads, q_part_of(group, mesh.outer, mesh.outer.rank)),
                            within(group.kv_heads, kv_part_of(group, mesh.outer, mesh.outer.rank)),
                            ranks.part(config.intermediate, ranks.rank, ffn_grain), vocab_part(config.vocab, ranks)};
    return {all_rows(rows), all_rows(rows), slice};
  }
  [[nodiscard]] static constexpr Plan plan(const ModelConfig& config, const Ranks& ranks, const Step& step) {
    return plan(config, ranks, step.rows);
  }
  [[nodiscard]] static constexpr CacheLayout layout(const ModelConfig& config, const Ranks& ranks) {
    const MeshRanks mesh = mesh_of<Shape>(ranks);
    return Cache::layout(config, slice_by_heads(config, mesh.inner), mesh.outer);
  }
  [[nodiscard]] static constexpr WeightSlice widest(const ModelConfig& config, const Ranks& ranks) {
    return plan(config, ranks, 1).slice;
  }
  [[nodiscard]] static constexpr index_t max_rows(const ModelConfig&, const Ranks&, const Limits& limits) {
    return limits.max_tokens;
  }

  /// What a rank asks of its communicators in a layer, for a softmax whose states merge.
  [[nodiscard]] static Traffic traffic(const ModelConfig& config, const Ranks& ranks, const Step& step) {
    const MeshRanks mesh = mesh_of<Shape>(ranks);
    const WeightSlice group = slice_by_heads(config, mesh.inner);
    return SplitHeads::traffic(config, ranks, step.rows)
        .add(Collective::allgather, 1, step.rows * qkv_floats(config, group), mesh.outer.size)
        .add(Collective::deal, 1, step.rows * group.q_heads.size() * (config.head_dim + 2), mesh.outer.size);
  }
  [[nodiscard]] static Traffic selection_traffic(const ModelConfig&, const Ranks&, const Step&) { return {}; }
  /// Floats of the buffers that its moves touch, where one row of each sequence is wanted.
  [[nodiscard]] static index_t exchange_floats(const ModelConfig& config, const Ranks& ranks, const Limits& limits) {
    const MeshRanks mesh = mesh_of<Shape>(ranks);
    const WeightSlice group = slice_by_heads(config, mesh.inner);
    const WeightSlice mine = plan(config, ranks, limits.max_tokens).slice;
    return limits.max_tokens * (qkv_floats(config, mine) + 2 * qkv_floats(config, group)) +  // sent; gathered, unpacked
           (limits.states_merge
                ? MergeStates::exchange_floats(limits.max_tokens, config.head_dim, group.q_heads.size(),
                                               mine.q_heads.size(), mesh.outer.size)
                : GatherScores::exchange_floats(limits.max_tokens, config.head_dim, group.q_heads.size(),
                                                mesh.outer.size, limits.max_positions)) +
           SplitHeads::exchange_floats(config, ranks, limits.max_tokens) +
           RowSelection::exchange_floats(limits.max_sequences, config.hidden);
  }
  /// Query heads times keys that a rank's attention visits in a layer: all heads of the group, a stripe of the keys.
  [[nodiscard]] static index_t pairs(const ModelConfig& config, const Ranks& ranks, const Step& step) {
    const CacheLayout stripe = layout(config, ranks);
    index_t keys = 0;
    for (const Segment& s : step.segments)
      for (index_t i = 0; i < s.count; ++i) keys += stripe.slots(s.sequence, s.position + i + 1);
    return keys * slice_by_heads(config, mesh_of<Shape>(ranks).inner).q_heads.size();
  }

  explicit HelixOn(const ShardingContext& context)
      : context_(context),
        mesh_(mesh_of<Shape>(context_.ranks())),
        group_(slice_by_heads(context_.config, mesh_.inner)),
        group_comm_(context_.comm.split(static_cast<int>(mesh_.inner.rank), static_cast<int>(mesh_.outer.rank))),
        self_(Loopback{}),
        tasks_(context.limits),
        sent_(context.limits.max_tokens * row_size(mesh_.outer.rank)),
        gathered_(context.limits.max_tokens * qkv_floats(context.config, group_)),
        q_(context.limits.max_tokens * group_.q_heads.size() * head_dim()),
        kv_(context.limits.max_tokens * 2 * group_.kv_heads.size() * head_dim()),
        counts_(static_cast<std::size_t>(mesh_.outer.size)),
        features_(context.comm, context.config, context_.ranks(), context.limits.max_tokens, false),
        selection_(context.limits.max_tokens, context.config.hidden, 1),
        attention_({group_comm_, context.config, context.limits, group_.q_heads.size(), q_heads_of_group()}) {}

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
    worker.once_after_kernel([&] {
      gather_heads<B>(q, kv);
      tasks_.aim(cache, layer);
    });
    const auto all_kv = kv_.matrix(step_.rows, 2 * group_.kv_heads.size() * head_dim());
    store_rows<B>(worker, step_, all_kv, {}, group_.kv_heads, head_dim(), cache, layer);
    const AttentionProblem problem{
        head_layout(context_.config, group_.q_heads, group_.kv_heads), attention_scale(context_.config),
        q_.matrix(step_.rows, group_.q_heads.size() * head_dim()), tasks_.tasks(), tasks_.blocks()};
    attention_.template attend<Softmax, B>(worker, problem, step_, cache.layout(), out);
  }
  void start_combine(Worker& worker, Activations partial) { features_.start_combine(worker, partial); }
  template <SimdBackend B>
  void finish_combine(Worker& worker, Activations partial, Activations x) {
    features_.template finish_combine<B>(worker, partial, x);
  }
  [[nodiscard]] ConstActivations select(Worker& worker, ConstActivations x) {
    worker.once(
        [&] { selected_ = selection_.select(self_, x, step_.wanted, [&](index_t) { return all_rows(step_.rows); }); });
    return selected_;
  }

 private:
  [[nodiscard]] index_t head_dim() const { return context_.config.head_dim; }
  [[nodiscard]] static constexpr Range within(Range heads, Range part) {
    return {heads.begin + part.begin, heads.begin + part.end};
  }
  /// Heads that number `r` of the group projects, counted within the group. Of query heads that do not divide the first
  /// ranks have one more, of KV heads the last, so that nobody has both. (A query head has as many weights as a KV
  /// head: q_proj and o_proj, or k_proj and v_proj.) Shares say what a rank can do, and are kept to.
  [[nodiscard]] static constexpr Range q_part_of(const WeightSlice& group, const Ranks& ranks, index_t r) {
    return ranks.part(group.q_heads.size(), r);
  }
  [[nodiscard]] static constexpr Range kv_part_of(const WeightSlice& group, const Ranks& ranks, index_t r) {
    const index_t heads = group.kv_heads.size();
    if (!ranks.shares.empty()) return ranks.part(heads, r);
    const Range mirrored = ranks.part(heads, ranks.size - 1 - r);
    return {heads - mirrored.end, heads - mirrored.begin};
  }
  [[nodiscard]] Range q_part(index_t r) const { return q_part_of(group_, mesh_.outer, r); }
  [[nodiscard]] Range kv_part(index_t r) const { return kv_part_of(group_, mesh_.outer, r); }
  [[nodiscard]] index_t row_size(index_t r) const { return (q_part(r).size() + 2 * kv_part(r).size()) * head_dim(); }
  [[nodiscard]] std::vector<Range> q_heads_of_group() const {
    std::vector<Range> heads;
    for (index_t r = 0; r < mesh_.outer.size; ++r) heads.push_back(q_part(r));
    return heads;
  }

  /// One allgather of rows [q | k | v], of the heads that each rank of the group projects, into q_ and kv_.
  template <SimdBackend B>
  void gather_heads(ConstActivations q, ConstActivations kv) {
    float* to = sent_.data();
    for (index_t t = 0; t < step_.rows; ++t) {
      to = copy_floats<B>(q.row(t), q.cols, to);
      to = copy_floats<B>(kv.row(t), kv.cols, to);
    }
    index_t total = 0;
    for (index_t r = 0; r < mesh_.outer.size; ++r)
      total += counts_[static_cast<std::size_t>(r)] = step_.rows * row_size(r);
    group_comm_.allgather<float>({sent_.data(), to}, gathered_.span().first(static_cast<std::size_t>(total)), counts_);
    const index_t values = group_.kv_heads.size() * head_dim();  // where the values begin in a row of kv_
    const float* from = gathered_.data();
    for (index_t r = 0; r < mesh_.outer.size; ++r)
      for (index_t t = 0; t < step_.rows; ++t) {
        from = copy_heads<B>(from, q_part(r), q_.data() + t * group_.q_heads.size() * head_dim());
        from = copy_heads<B>(from, kv_part(r), kv_.data() + t * 2 * values);
        from = copy_heads<B>(from, kv_part(r), kv_.data() + t * 2 * values + values);
      }
  }
  template <SimdBackend B>
  const float* copy_heads(const float* from, Range heads, float* row) const {
    const index_t n = heads.size() * head_dim();
    copy_floats<B>(from, n, row + heads.begin * head_dim());
    return from + n;
  }

  ShardingContext context_;
  MeshRanks mesh_;
  WeightSlice group_;        ///< heads that the ranks of this outer dimension share
  Communicator group_comm_;  ///< these ranks
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

/// All ranks share all heads.
using Helix = HelixOn<TokensOnly>;

static_assert(PhasePolicy<Helix> && ShardingPolicy<Helix>);

}  // namespace tessera
