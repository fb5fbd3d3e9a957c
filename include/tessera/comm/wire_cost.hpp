#pragma once
// What an operation puts on the wire when it runs in rank order (rank_order.hpp), as arithmetic.

#include <tessera/comm/operations.hpp>

namespace tessera {

/// Whether an allreduce or a broadcast is one move, in which everybody sends all it has to everybody, and not two, of
/// slices: what one move sends more, (P-1)(P-2)/P times the bytes, must take less than a latency. 32 KiB take 26 us at
/// 10 Gbit/s.
[[nodiscard]] constexpr bool is_one_move(index_t bytes, index_t ranks) {
  constexpr index_t limit = 32 << 10;
  return bytes <= limit && bytes * (ranks - 1) * (ranks - 2) <= limit * ranks;
}

/// What leaves one rank, and how many messages wait for one another.
struct WireCost {
  index_t bytes = 0;
  index_t messages = 0;
  index_t rounds = 0;  ///< messages that wait for one another: each costs a latency

  constexpr WireCost& operator+=(const WireCost& more) {
    bytes += more.bytes, messages += more.messages, rounds += more.rounds;
    return *this;
  }
  friend constexpr WireCost operator*(index_t times, const WireCost& each) {
    return {times * each.bytes, times * each.messages, times * each.rounds};
  }
};

/// Messages that follow each other until what each rank has is everywhere, when the ranks that have it double.
[[nodiscard]] constexpr index_t doublings(index_t ranks) {
  index_t rounds = 0;
  while ((index_t{1} << rounds) < ranks) ++rounds;
  return rounds;
}

/// One operation of `bytes` of payload (as comm/recording.hpp counts it) among `ranks` ranks that have even parts.
[[nodiscard]] constexpr WireCost wire_cost(Collective kind, index_t bytes, index_t ranks) {
  const index_t others = ranks - 1;
  const index_t gathering = doublings(ranks);  // messages between pairs, as of all-to-all, all start at once
  if (others == 0 || (bytes == 0 && kind != Collective::barrier)) return {};
  switch (kind) {
    case Collective::allreduce:
      if (is_one_move(bytes, ranks)) return {bytes * others, others, gathering};
      return {2 * bytes * others / ranks, 2 * others, 1 + gathering};  // slices to their ranks, sums to all
    case Collective::broadcast:
      if (is_one_move(bytes, ranks) || ranks == 2) return {bytes * others, others, gathering};
      return {2 * bytes * others / ranks, 2 * others, 1 + gathering};
    case Collective::exchange: return {bytes, 1, 1};
    case Collective::barrier: return {others, others, gathering};
    case Collective::allgather: return {bytes * others / ranks, others, gathering};
    case Collective::reduce_scatter:
    case Collective::alltoall: return {bytes * others / ranks, others, 1};
  }
  return {};
}

}  // namespace tessera
