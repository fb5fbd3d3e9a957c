#pragma once
// How features (heads, FFN columns) are split over the inner dimension of a mesh of ranks.

#include <tessera/comm/communicator.hpp>
#include <tessera/kernels/rows.hpp>
#include <tessera/policies/traffic.hpp>

namespace tessera {

/// Every rank uses all of the weights: nothing to gather, nothing to sum.
class WholeModel {
 public:
  static constexpr bool scatters = false;

  static void check(const ModelConfig&, const Ranks&) {}
  [[nodiscard]] static constexpr WeightSlice slice(const ModelConfig& config, const Ranks&) {
    return {{0, config.heads}, {0, config.kv_heads}, {0, config.intermediate}, {0, config.vocab}};
  }
  [[nodiscard]] static constexpr RowSet kept(const RowSet& computed, const Ranks&) { return computed; }
  /// Of a layer in which the ranks of the inner dimension compute `rows` rows.
  [[nodiscard]] static constexpr Traffic traffic(const ModelConfig&, const Ranks&, index_t /*rows*/) { return {}; }

  explicit WholeModel(const Communicator&, const ModelConfig&, const Ranks&, index_t /*max_rows*/) {}

  void begin(const RowSet& /*computed*/) {}
  [[nodiscard]] ConstActivations gather(Worker&, ConstActivations x) { return x; }
  template <SimdBackend B>
  void combine(Worker& worker, Activations partial, Activations x) {
    add_rows<B>(worker, x, partial);
  }
};

/// Each rank uses the weights of its heads and of its FFN columns; what they give is summed over the ranks, twice in a
/// layer (Megatron-LM's tensor parallelism, arXiv:1909.08053).
class SplitHeads {
 public:
  static constexpr bool scatters = false;

  static void check(const ModelConfig& config, const Ranks& ranks) {
    require(ranks.size <= config.heads, "head-wise sharding: expected at most as many ranks as query heads (",
            config.heads, "), found ", ranks.size, " ranks; start fewer ranks or use --parallel-strategy sequence");
  }
  [[nodiscard]] static constexpr WeightSlice slice(const ModelConfig& config, const Ranks& ranks) {
    return slice_by_heads(config, ranks);
  }
  [[nodiscard]] static constexpr RowSet kept(const RowSet& computed, const Ranks&) { return computed; }
  [[nodiscard]] static constexpr Traffic traffic(const ModelConfig& config, const Ranks&, index_t rows) {
    return Traffic{}.add(Collective::allreduce, 2, 2 * rows * config.hidden);
  }

  explicit SplitHeads(const Communicator& comm, const ModelConfig&, const Ranks&, index_t /*max_rows*/) : comm_(comm) {}

  void begin(const RowSet& /*computed*/) {}
  [[nodiscard]] ConstActivations gather(Worker&, ConstActivations x) { return x; }
  template <SimdBackend B>
  void combine(Worker& worker, Activations partial, Activations x) {
    worker.once([&] { comm_.allreduce({partial.data, static_cast<std::size_t>(partial.rows * partial.cols)}); });
    add_rows<B>(worker, x, partial);
  }

 private:
  Communicator comm_;
};

}  // namespace tessera
