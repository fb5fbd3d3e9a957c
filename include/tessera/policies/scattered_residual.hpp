#pragma once
// Heads and FFN columns over ranks as SplitHeads, and the residual stream over ranks by tokens between the blocks.

#include <vector>

#include <tessera/comm/communicator.hpp>
#include <tessera/core/buffer.hpp>
#include <tessera/policies/feature_split.hpp>

namespace tessera {

/// An allgather before a block and a reduce-scatter after it stand where SplitHeads has one allreduce: the same bytes,
/// and 1/P of the norms' work and of the residual's memory (Megatron-LM's sequence parallelism, arXiv:2205.05198).
class ScatteredResidual {
 public:
  static constexpr bool scatters = true;

  static void check(const ModelConfig& config, const Ranks& ranks) { SplitHeads::check(config, ranks); }
  [[nodiscard]] static constexpr WeightSlice slice(const ModelConfig& config, const Ranks& ranks) {
    return slice_by_heads(config, ranks);
  }
  [[nodiscard]] static constexpr RowSet kept(const RowSet& computed, const Ranks& ranks) {
    return computed.sub(ranks.part(computed.size()));
  }

  [[nodiscard]] static constexpr Traffic traffic(const ModelConfig& config, const Ranks& ranks, index_t rows) {
    return Traffic{}
        .add(Collective::allgather, 2, 2 * rows * config.hidden, ranks.size)
        .add(Collective::reduce_scatter, 2, 2 * rows * config.hidden, ranks.size);
  }
  /// Gathered rows, a rank's sums, and their terms.
  [[nodiscard]] static constexpr index_t exchange_floats(const ModelConfig& config, const Ranks& ranks,
                                                         index_t max_rows) {
    return (max_rows + (ranks.size == 1 ? 1 : 2) * ceil_div(max_rows, ranks.size)) * config.hidden;
  }

  ScatteredResidual(const Communicator& comm, const ModelConfig& config, const Ranks& ranks, index_t max_rows,
                    bool overlap)
      : sum_(comm, overlap),
        ranks_(ranks),
        hidden_(config.hidden),
        gathered_(max_rows * config.hidden),
        summed_(max_rows * config.hidden),
        counts_(static_cast<std::size_t>(ranks.size)) {}

  void begin(const RowSet& computed, bool hides_sums) {
    sum_.begin(hides_sums);
    rows_ = computed.size();
    for (index_t r = 0; r < ranks_.size; ++r)
      counts_[static_cast<std::size_t>(r)] = ranks_.part(rows_, r).size() * hidden_;
  }
  [[nodiscard]] ConstActivations gather(Worker& worker, ConstActivations x) {
    worker.once([&] {
      sum_.comm().allgather_activations({x.data, elements(x.rows)}, gathered_.span().first(elements(rows_)), counts_);
    });
    return gathered_.matrix(rows_, hidden_);
  }
  void start_combine(Worker& worker, Activations partial) {
    sum_.start(worker, [&](Communicator& comm) {
      const index_t mine = counts_[static_cast<std::size_t>(ranks_.rank)];
      return comm.start_reduce_scatter({partial.data, elements(rows_)},
                                       summed_.span().first(static_cast<std::size_t>(mine)), counts_);
    });
  }
  template <SimdBackend B>
  void finish_combine(Worker& worker, Activations /*partial*/, Activations x) {
    sum_.finish(worker);
    add_rows<B>(worker, x, summed_.matrix(x.rows, hidden_));
  }

 private:
  [[nodiscard]] std::size_t elements(index_t rows) const { return static_cast<std::size_t>(rows * hidden_); }

  StartedSum sum_;
  OwnedRanks ranks_;
  index_t hidden_;
  index_t rows_ = 0;
  Buffer<float> gathered_;
  Buffer<float> summed_;
  std::vector<index_t> counts_;
};

}  // namespace tessera
