#pragma once
// What a communicator can do, free of element types and of the transport: the interface behind the handle.

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <tessera/comm/collectives.hpp>

namespace tessera {

/// The kinds of collective operation, for reports and messages.
enum class Collective : std::uint8_t {
  allreduce,
  allgather,
  reduce_scatter,
  alltoall,
  deal,
  broadcast,
  exchange,
  barrier,
};
/// Kinds of operations.
inline constexpr int collective_kinds = 8;

/// As reports name it.
[[nodiscard]] constexpr std::string_view name_of(Collective kind) {
  switch (kind) {
    case Collective::allreduce: return "allreduce";
    case Collective::allgather: return "allgather";
    case Collective::reduce_scatter: return "reduce_scatter";
    case Collective::alltoall: return "alltoall";
    case Collective::deal: return "deal";
    case Collective::broadcast: return "broadcast";
    case Collective::exchange: return "exchange";
    case Collective::barrier: return "barrier";
  }
  return "?";
}

/// Collective operations of one rank on one group. Counts are bytes, except where the data are floats.
///
/// Law: all ranks start the same operations in the same order and wait for them in one order too; sums are taken in
/// rank order 0..P-1, so that every rank, run and transport gets the same bits.
class Operations {
 public:
  Operations() = default;
  Operations(const Operations&) = delete;
  Operations& operator=(const Operations&) = delete;
  virtual ~Operations() = default;

  [[nodiscard]] virtual int rank() const = 0;
  [[nodiscard]] virtual int size() const = 0;
  [[nodiscard]] virtual std::string_view name() const = 0;

  [[nodiscard]] virtual int start_allreduce(std::span<float> inout) = 0;
  [[nodiscard]] virtual int start_reduce_scatter(std::span<const float> in, std::span<float> mine,
                                                 std::span<const index_t> counts) = 0;
  [[nodiscard]] virtual int start_allgather(std::span<const std::byte> mine, std::span<std::byte> all,
                                            std::span<const index_t> counts) = 0;
  /// An allgather of activations, counts in floats; these may travel in fewer bits (compressed.hpp).
  [[nodiscard]] virtual int start_allgather_activations(std::span<const float> mine, std::span<float> all,
                                                        std::span<const index_t> counts) {
    byte_counts_.assign(counts.begin(), counts.end());
    for (index_t& count : byte_counts_) count *= static_cast<index_t>(sizeof(float));
    return start_allgather(std::as_bytes(mine), std::as_writable_bytes(all), byte_counts_);
  }
  [[nodiscard]] virtual int start_alltoall(std::span<const std::byte> send, std::span<const index_t> send_counts,
                                           std::span<std::byte> receive, std::span<const index_t> receive_counts) = 0;
  /// An all-to-all in which rank r receives counts[r] bytes of everybody: `counts` is the same on all ranks, so few
  /// bytes may travel in rounds (rounds.hpp).
  [[nodiscard]] virtual int start_deal(std::span<const std::byte> send, std::span<const index_t> counts,
                                       std::span<std::byte> receive) {
    byte_counts_.assign(counts.size(), counts[static_cast<std::size_t>(rank())]);
    return start_alltoall(send, counts, receive, byte_counts_);
  }
  [[nodiscard]] virtual int start_broadcast(std::span<std::byte> data, int root) = 0;
  [[nodiscard]] virtual int start_exchange(std::span<const std::byte> send, int dest, std::span<std::byte> receive,
                                           int source) = 0;
  [[nodiscard]] virtual int start_barrier() = 0;

  /// Finishes what a start returned, or throws Error after `timeout()` seconds.
  virtual void wait(int operation) = 0;

  [[nodiscard]] virtual std::shared_ptr<Operations> split(int color, int key) = 0;

  /// The same ranks once more; whoever waits leaves the core at once, for others compute there. Collective.
  [[nodiscard]] virtual std::shared_ptr<Operations> patient() = 0;
  /// Operations of patient() that run on a thread of their own (background.hpp). Collective.
  [[nodiscard]] virtual std::shared_ptr<Operations> in_background() = 0;

  /// Equal on ranks that can share memory.
  [[nodiscard]] virtual int machine() const = 0;

  [[nodiscard]] virtual double timeout() const = 0;
  /// May be called while another thread waits, which then observes it.
  virtual void set_timeout(double seconds) = 0;

  /// What is to be said at the end of a run; empty: nothing.
  [[nodiscard]] virtual std::string report() const { return {}; }

  /// Bytes that left this rank so far, a piece counted once per rank that it was handed to.
  [[nodiscard]] virtual index_t wire_bytes() const = 0;

 private:
  std::vector<index_t> byte_counts_;
};

}  // namespace tessera
