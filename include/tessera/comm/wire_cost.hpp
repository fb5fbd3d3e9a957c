#pragma once
// What an operation puts on the wire when it runs in rank order (rank_order.hpp), as arithmetic.

#include <tessera/comm/operations.hpp>

namespace tessera {

/// An allreduce or a broadcast of up to so many bytes is one move, in which everybody sends all it has to everybody.
inline constexpr index_t one_shot_bytes = 32 << 10;

/// What leaves one rank, and how many messages wait for one another.
struct WireCost {
  index_t bytes = 0;
  index_t messages = 0;
  index_t rounds = 0;  ///< moves that follow each other: each costs a latency

  constexpr WireCost& operator+=(const WireCost& more) {
    bytes += more.bytes, messages += more.messages, rounds += more.rounds;
    return *this;
  }
  friend constexpr WireCost operator*(index_t times, const WireCost& each) {
    return {times * each.bytes, times * each.messages, times * each.rounds};
  }
};

/// One operation of `bytes` of payload (as comm/recording.hpp counts it) among `ranks` ranks that have even parts.
[[nodiscard]] constexpr WireCost wire_cost(Collective kind, index_t bytes, index_t ranks) {
  const index_t others = ranks - 1;
  if (others == 0 || (bytes == 0 && kind != Collective::barrier)) return {};
  switch (kind) {
    case Collective::allreduce:
      if (bytes <= one_shot_bytes) return {bytes * others, others, 1};
      return {2 * bytes * others / ranks, 2 * others, 2};  // slices to their ranks, sums to all
    case Collective::broadcast:
      if (bytes <= one_shot_bytes || ranks == 2) return {bytes * others, others, 1};
      return {2 * bytes * others / ranks, 2 * others, 2};
    case Collective::exchange: return {bytes, 1, 1};
    case Collective::barrier: return {others, others, 1};
    case Collective::allgather:
    case Collective::reduce_scatter:
    case Collective::alltoall: return {bytes * others / ranks, others, 1};
  }
  return {};
}

}  // namespace tessera
