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
  /// Of what is kept for exchanges, here and by a transport, in steps of up to `max_rows` rows.
  [[nodiscard]] static constexpr index_t exchange_floats(const ModelConfig&, const Ranks&, index_t /*max_rows*/) {
    return 0;
  }

  explicit WholeModel(const Communicator&, const ModelConfig&, const Ranks&, index_t /*max_rows*/, bool /*overlap*/) {}

  void begin(const RowSet& /*computed*/, bool /*hides_sums*/) {}
  [[nodiscard]] ConstActivations gather(Worker&, ConstActivations x) { return x; }
  void start_combine(Worker&, Activations /*partial*/) {}
  template <SimdBackend B>
  void finish_combine(Worker& worker, Activations partial, Activations x) {
    add_rows<B>(worker, x, partial);
  }
};

/// A sum over the ranks of the inner dimension, started by one move and finished by another; hidden sums travel in the
/// background, on a communicator of their own. Called by every worker; the first one communicates.
class StartedSum {
 public:
  StartedSum(const Communicator& comm, bool overlap) : comm_(comm), hidden_(comm) {
    if (overlap && comm_.size() > 1) hidden_ = comm_.in_background();
  }

  void begin(bool hides_sums) { hides_ = hides_sums; }
  [[nodiscard]] Communicator& comm() { return comm_; }
  /// `start(communicator)` returns the Pending. Called behind the kernel whose results are summed, at whose end all
  /// workers have met.
  template <class Start>
  void start(Worker& worker, Start&& start) {
    if (worker.index() == 0) pending_ = start(hides_ ? hidden_ : comm_);
  }
  void finish(Worker& worker) {
    finish_first(worker);
    worker.barrier();
  }
  /// On the first worker alone; the others do not wait for it before they meet again. Whether this is the first.
  bool finish_first(Worker& worker) {
    if (worker.index() != 0) return false;
    pending_.wait();
    return true;
  }

 private:
  Communicator comm_;
  Communicator hidden_;
  bool hides_ = false;
  Pending pending_;
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
  [[nodiscard]] static constexpr Traffic traffic(const ModelConfig& config, const Ranks& ranks, index_t rows) {
    return Traffic{}.add(Collective::allreduce, 2, 2 * rows * config.hidden, ranks.size);
  }
  /// The terms of a sum.
  [[nodiscard]] static constexpr index_t exchange_floats(const ModelConfig& config, const Ranks& ranks,
                                                         index_t max_rows) {
    return ranks.size == 1 ? 0 : max_rows * config.hidden;
  }

  SplitHeads(const Communicator& comm, const ModelConfig&, const Ranks&, index_t /*max_rows*/, bool overlap)
      : sum_(comm, overlap) {}

  void begin(const RowSet& /*computed*/, bool hides_sums) { sum_.begin(hides_sums); }
  [[nodiscard]] ConstActivations gather(Worker&, ConstActivations x) { return x; }
  void start_combine(Worker& worker, Activations partial) {
    sum_.start(worker, [&](Communicator& comm) {
      return comm.start_allreduce({partial.data, static_cast<std::size_t>(partial.rows * partial.cols)});
    });
  }
  template <SimdBackend B>
  void finish_combine(Worker& worker, Activations partial, Activations x) {
    if (x.rows == 1) {  // is the first worker's, here and in the norm that follows, at whose end all meet
      if (sum_.finish_first(worker)) add_floats<B>(x.row(0), partial.row(0), x.cols);
      return;
    }
    sum_.finish(worker);
    add_rows<B>(worker, x, partial);
  }

 private:
  StartedSum sum_;
};

}  // namespace tessera
