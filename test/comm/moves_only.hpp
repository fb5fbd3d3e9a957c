#pragma once
// Ranks in one process that send and receive as processes on a network do.

#include <tessera/comm/in_process.hpp>

namespace tessera::test {

/// In process, but through the moves alone: without what shared memory adds.
class MovesOnly {
 public:
  explicit MovesOnly(InProcessRank rank) : rank_(std::move(rank)) {}
  [[nodiscard]] int rank() const { return rank_.rank(); }
  [[nodiscard]] int size() const { return rank_.size(); }
  [[nodiscard]] std::string_view name() const { return "moves only"; }
  Ticket start_allgather(std::span<const std::byte> mine, std::span<std::byte> all, std::span<const index_t> counts) {
    return rank_.start_allgather(mine, all, counts);
  }
  Ticket start_alltoall(std::span<const std::byte> send, std::span<const index_t> send_counts,
                        std::span<std::byte> receive, std::span<const index_t> receive_counts) {
    return rank_.start_alltoall(send, send_counts, receive, receive_counts);
  }
  Ticket start_exchange(std::span<const std::byte> send, int dest, std::span<std::byte> receive, int source) {
    return rank_.start_exchange(send, dest, receive, source);
  }
  [[nodiscard]] bool test(Ticket ticket) { return rank_.test(ticket); }
  [[nodiscard]] MovesOnly split(int color, int key) { return MovesOnly(rank_.split(color, key)); }

 private:
  InProcessRank rank_;
};
static_assert(Collectives<MovesOnly> && !ReducingCollectives<MovesOnly> && !BlockingCollectives<MovesOnly>);

template <class Body>
auto run_moves_only(int size, Body body) {
  return InProcess::run_transports(size,
                                   [&](InProcessRank rank) { return body(Communicator(MovesOnly(std::move(rank)))); });
}

}  // namespace tessera::test
