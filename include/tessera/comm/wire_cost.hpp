#pragma once
// What an operation puts on the wire when it runs in rank order (rank_order.hpp), as arithmetic.

#include <tessera/comm/operations.hpp>
#include <tessera/comm/rounds.hpp>

namespace tessera {

/// What a latency is taken for, in bytes that a network carries in that time, wherever one algorithm is chosen before
/// another: 32 KiB take 26 us at 10 Gbit/s, as long as a small message with TCP, and 2.6 us at 100 Gbit/s, as with
/// RDMA. What is best depends on the network; the choice does not, so that all ranks and all runs make the same.
inline constexpr index_t latency_bytes = 32 << 10;
/// What sending and receiving a message keeps a rank busy for, a quarter of a latency.
inline constexpr index_t message_bytes = latency_bytes / 4;

/// Whether an allreduce or a broadcast is one move, in which everybody sends all it has to everybody, and not two, of
/// slices: what one move sends more, (P-1)(P-2)/P times the bytes, must take less than a latency.
[[nodiscard]] constexpr bool is_one_move(index_t bytes, index_t ranks) {
  return bytes <= latency_bytes && bytes * (ranks - 1) * (ranks - 2) <= latency_bytes * ranks;
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

/// `bytes` of which every rank has a piece for every other, all of one size for the same receiver: sent at once, or in
/// rounds (rounds.hpp).
[[nodiscard]] constexpr WireCost deal_at_once(index_t bytes, index_t ranks) {
  return {bytes * (ranks - 1) / ranks, ranks - 1, 1};
}
[[nodiscard]] constexpr WireCost deal_in_rounds(index_t bytes, index_t ranks) {
  const Rounds rounds = Rounds::among(ranks);
  return {bytes * rounds.moves() / ranks, rounds.messages(), rounds.count};
}

/// Whether operations that leave `bytes` in all on a rank, or take as many from it, travel in rounds: more bytes, for
/// each is sent once in every round that it has to go in, but fewer messages. 64 ranks send up to 470 KiB in rounds, 16
/// ranks 71 KiB, and 10 ranks nothing.
[[nodiscard]] constexpr bool travels_in_rounds(index_t bytes, index_t ranks) {
  constexpr index_t most = 1 << 20;  // beyond, a transport pays for bytes alone and knows best
  const auto weight = [](const WireCost& cost) {
    return cost.bytes + message_bytes * cost.messages + latency_bytes * cost.rounds;
  };
  return ranks > Rounds::most_together && bytes <= most &&
         weight(deal_in_rounds(bytes, ranks)) < weight(deal_at_once(bytes, ranks));
}

/// Messages that follow each other in a transport's own gather of `bytes` in all. As MPICH and Open MPI do it, ranks
/// double what they have; of much, parts go around a ring, in which every message waits for the one before.
[[nodiscard]] constexpr index_t rounds_of_gather(index_t bytes, index_t ranks) {
  const bool even = (index_t{1} << doublings(ranks)) == ranks;
  return bytes < (even ? 512 << 10 : 80 << 10) ? doublings(ranks) : ranks - 1;  // MPICH's limits
}

/// Every rank has a part of `bytes` and gets all of them.
[[nodiscard]] constexpr WireCost gather_cost(index_t bytes, index_t ranks) {
  const index_t others = ranks - 1;
  if (!travels_in_rounds(bytes, ranks)) return {bytes * others / ranks, others, rounds_of_gather(bytes, ranks)};
  const Rounds rounds = Rounds::among(ranks);
  return {bytes * others / ranks, rounds.messages(), rounds.count};
}
/// Every rank gets its slice of `bytes` from everybody.
[[nodiscard]] constexpr WireCost deal_cost(index_t bytes, index_t ranks) {
  return travels_in_rounds(bytes, ranks) ? deal_in_rounds(bytes, ranks) : deal_at_once(bytes, ranks);
}

/// How ranks on several machines sum: machines send each other all terms of their ranks; or the terms of slices, then
/// sums; or blocks of sums pass from machine to machine.
enum class SumOfMachines : std::uint8_t { one_move, slices, blocks };

/// Of `bytes`, among `machines` of up to `ranks_each` ranks, the one that takes the least, counted as above. Slices
/// send a machine's terms once and wait twice; a block waits once for every machine, and travels again with every one.
[[nodiscard]] constexpr SumOfMachines sum_of_machines(index_t bytes, index_t machines, index_t ranks_each,
                                                      index_t block_bytes) {
  constexpr index_t most = 1 << 20;  // of slices, of which a leader holds the terms of all ranks
  if (is_one_move(bytes * ranks_each, machines)) return SumOfMachines::one_move;
  const index_t slices = (ranks_each + 1) * bytes * (machines - 1) / machines + 2 * latency_bytes;
  const index_t blocks = (machines + 1) * (std::min(bytes, block_bytes) + latency_bytes) + bytes;
  return bytes <= most && slices < blocks ? SumOfMachines::slices : SumOfMachines::blocks;
}

/// One operation of `bytes` of payload (as comm/recording.hpp counts it) among `ranks` ranks that have even parts and
/// exchange messages. Ranks that read each other's memory take what they need at once.
[[nodiscard]] constexpr WireCost wire_cost(Collective kind, index_t bytes, index_t ranks) {
  if (ranks == 1 || (bytes == 0 && kind != Collective::barrier)) return {};
  const auto slices_and_sums = [&] {  // slices to their ranks, what they become to all
    WireCost cost = deal_cost(bytes, ranks);
    return cost += gather_cost(bytes, ranks);
  };
  switch (kind) {
    case Collective::allreduce:
      return is_one_move(bytes, ranks) ? gather_cost(bytes * ranks, ranks) : slices_and_sums();
    case Collective::broadcast: {  // of the root, which has it all
      const index_t others = ranks - 1;
      WireCost cost{bytes * others / ranks, others, 1};
      if (!is_one_move(bytes, ranks) && ranks != 2) return cost += gather_cost(bytes, ranks);
      cost = gather_cost(bytes, ranks);
      cost.bytes = bytes * cost.messages;
      return cost;
    }
    case Collective::exchange: return {bytes, 1, 1};
    case Collective::barrier: return gather_cost(ranks, ranks);
    case Collective::allgather: return gather_cost(bytes, ranks);
    case Collective::reduce_scatter:
    case Collective::deal: return deal_cost(bytes, ranks);
    case Collective::alltoall: return deal_at_once(bytes, ranks);
  }
  return {};
}

}  // namespace tessera
