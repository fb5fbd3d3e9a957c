#pragma once
// How tokens are split over the outer dimension of a mesh of ranks, and how attention then finds its keys.

#include <tessera/policies/attention_tasks.hpp>
#include <tessera/policies/stored_rows.hpp>
#include <tessera/policies/traffic.hpp>

namespace tessera {

/// Query heads times keys that the rows of a set see: what attention's arithmetic is proportional to.
[[nodiscard]] constexpr index_t attention_pairs(const Step& step, const RowSet& rows, index_t q_heads) {
  index_t keys = 0;
  for (const Segment& s : step.segments)
    for (const Range& run : rows.runs) {
      const Range here = intersect(run, {s.row, s.row + s.count});
      // Row t sees position + (t - row) + 1 keys.
      keys += here.size() * (s.position + 1) + (here.begin + here.end - 1 - 2 * s.row) * here.size() / 2;
    }
  return keys * q_heads;
}

/// What a token split is made from: all ranks, those among which tokens are split, and the heads of each of these.
struct TokenContext {
  Communicator all;
  Communicator comm;  ///< of the outer dimension
  MeshRanks mesh;
  ModelConfig config;
  Limits limits;
  WeightSlice slice;
  bool overlap = false;
};

/// Every rank computes all rows; its heads find all of their keys in its own cache.
class WholeSequence {
 public:
  static constexpr bool splits = false;
  using Cache = CacheByHeads;

  [[nodiscard]] static constexpr RowSet rows(index_t n, const Ranks&) { return all_rows(n); }
  [[nodiscard]] static constexpr CacheLayout layout(const ModelConfig&, const WeightSlice& slice, const MeshRanks&) {
    return {slice.kv_heads, 1, 0};
  }

  /// Of attention in a layer, for a softmax whose states merge.
  [[nodiscard]] static Traffic traffic(const ModelConfig&, const WeightSlice&, const MeshRanks&, const Step&) {
    return {};
  }
  /// Of what is kept for exchanges.
  [[nodiscard]] static constexpr index_t exchange_floats(const ModelConfig&, const WeightSlice&, const MeshRanks&,
                                                         const Limits&) {
    return 0;
  }
  [[nodiscard]] static constexpr index_t pairs(const ModelConfig&, const WeightSlice& slice, const MeshRanks&,
                                               const Step& step) {
    return attention_pairs(step, all_rows(step.rows), slice.q_heads.size());
  }

  explicit WholeSequence(const TokenContext& context)
      : config_(context.config), slice_(context.slice), tasks_(context.limits) {}

  void begin(const Step& step) {
    step_ = step;
    tasks_.plan(step, all_rows(step.rows), layout(config_, slice_, {}));
  }
  template <class Softmax, SimdBackend B>
  void attend(Worker& worker, ConstActivations q, ConstActivations kv, KvCache& cache, index_t layer, Activations out) {
    if (worker.index() == 0) tasks_.aim(cache, layer);
    store_rows<B>(worker, step_, kv, {}, slice_.kv_heads, config_.head_dim, cache, layer);
    const AttentionProblem problem{head_layout(config_, slice_.q_heads, slice_.kv_heads), attention_scale(config_), q,
                                   tasks_.tasks(), tasks_.blocks()};
    Softmax::template attend<B>(worker, problem, out);
  }

 private:
  ModelConfig config_;
  WeightSlice slice_;
  AttentionTasks tasks_;
  Step step_;
};

/// Tokens over ranks in zigzag order; `KvExchange` brings the keys to the queries, or these to the keys.
template <class KvExchange>
class ZigzagTokens {
 public:
  static constexpr bool splits = true;
  using Cache = typename KvExchange::Cache;

  [[nodiscard]] static constexpr RowSet rows(index_t n, const Ranks& ranks) {
    return zigzag_rows(n, ranks, ranks.rank);
  }
  [[nodiscard]] static constexpr CacheLayout layout(const ModelConfig& config, const WeightSlice& slice,
                                                    const MeshRanks& mesh) {
    return Cache::layout(config, slice, mesh.outer);
  }

  [[nodiscard]] static Traffic traffic(const ModelConfig& config, const WeightSlice& slice, const MeshRanks& mesh,
                                       const Step& step) {
    return KvExchange::traffic(config, slice, mesh.outer, step);
  }
  [[nodiscard]] static index_t exchange_floats(const ModelConfig& config, const WeightSlice& slice,
                                               const MeshRanks& mesh, const Limits& limits) {
    return KvExchange::exchange_floats(config, slice, mesh.outer, limits);
  }
  [[nodiscard]] static constexpr index_t pairs(const ModelConfig&, const WeightSlice& slice, const MeshRanks& mesh,
                                               const Step& step) {
    return attention_pairs(step, rows(step.rows, mesh.outer), slice.q_heads.size());
  }

  explicit ZigzagTokens(const TokenContext& context) : exchange_(context) {}

  void begin(const Step& step) { exchange_.begin(step); }
  template <class Softmax, SimdBackend B>
  void attend(Worker& worker, ConstActivations q, ConstActivations kv, KvCache& cache, index_t layer, Activations out) {
    exchange_.template attend<Softmax, B>(worker, q, kv, cache, layer, out);
  }

 private:
  KvExchange exchange_;
};

}  // namespace tessera
