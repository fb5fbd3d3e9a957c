#pragma once
// What a transport between ranks must offer: three started data moves and a split. Everything else is built on them.

#include <concepts>
#include <cstddef>
#include <span>
#include <string_view>

#include <tessera/core/types.hpp>

namespace tessera {

/// In start_exchange: this rank sends nothing, or receives nothing.
inline constexpr int no_rank = -1;

/// Names one started move of one model until it has finished.
enum class Ticket : int {};

/// Moves that may be under way at a time on one rank.
inline constexpr int moves_at_once = 16;

/// A transport between the ranks of a group. All counts are bytes; none is limited to 2^31.
///
/// Law:
///  * Every rank of the group starts the same moves in the same order, from one thread at a time. A start returns
///    without waiting for other ranks; up to `moves_at_once` moves may be under way.
///  * Buffers are untouched by the caller from the start until the move has finished; counts are copied by the start.
///  * `start_allgather(mine, all, counts)`: afterwards `all` is, on every rank, the concatenation of all ranks' `mine`
///    in rank order; counts[r] = size of rank r's `mine`. `mine` may already lie in its place in `all`.
///  * `start_alltoall(send, send_counts, receive, receive_counts)`: `send` is one piece per receiver, in rank order;
///    `receive` is one piece per sender, in rank order; what r sends to s has the size that s expects of r.
///  * `start_exchange(send, dest, receive, source)`: `send` goes to `dest`, `receive` comes from `source`; whoever
///    names dest is named by it as source; `no_rank` on either side moves nothing there.
///  * `test(ticket)` makes progress and says whether the move has finished; a finished ticket is not used again.
///  * `split(color, key)`: the ranks of one color become a group, ordered by key, then by their former rank. It may
///    wait for the other ranks.
template <class C>
concept Collectives = std::movable<C> &&
    requires(C& c, const C& as_const, std::span<const std::byte> send, std::span<std::byte> receive,
             std::span<const index_t> counts, int rank, Ticket ticket) {
  { as_const.rank() } -> std::same_as<int>;
  { as_const.size() } -> std::same_as<int>;
  { as_const.name() } -> std::convertible_to<std::string_view>;
  { c.start_allgather(send, receive, counts) } -> std::same_as<Ticket>;
  { c.start_alltoall(send, counts, receive, counts) } -> std::same_as<Ticket>;
  { c.start_exchange(send, rank, receive, rank) } -> std::same_as<Ticket>;
  { c.test(ticket) } -> std::same_as<bool>;
  { c.split(rank, rank) } -> std::same_as<C>;
};

/// A transport whose ranks can read one another's memory, and so sum without moving the terms first.
///
/// Law: `start_reduce(in, counts, sum)` adds all ranks' `in`, which have one size, element by element in rank order.
/// `counts` (floats, the same on all ranks) cut the result and `sum` receives this rank's part of it; with empty
/// `counts` every rank receives the whole.
template <class C>
concept ReducingCollectives = Collectives<C> &&
    requires(C& c, std::span<const float> in, std::span<const index_t> counts, std::span<float> sum) {
  { c.start_reduce(in, counts, sum) } -> std::same_as<Ticket>;
};

/// A transport that adds by itself what it has brought.
///
/// Law: `sum_terms(count, terms, sum)` makes `sum` the sum of `count` vectors of its size, which lie one after the
/// other at `terms`, element by element in their order. `sum` may be the first of them.
template <class C>
concept SummingCollectives = Collectives<C> && requires(C& c, int count, const float* terms, std::span<float> sum) {
  c.sum_terms(count, terms, sum);
};

/// A transport that wants to know what one thread copies around its moves, to pack them and to take them apart.
template <class C>
concept PackingCollectives = Collectives<C> && requires(C& c, index_t bytes) {
  c.packed(bytes);
};

/// A transport that knows which of its ranks can share memory: those with the same `machine()`.
template <class C>
concept MachineAwareCollectives = Collectives<C> && requires(const C& c) {
  { c.machine() } -> std::same_as<int>;
};

/// A transport that can be told to leave the core at once when it waits, because others compute there.
template <class C>
concept PatientCollectives = Collectives<C> && requires(C& c) {
  c.be_patient();
};

/// A transport that has to be told when this rank gives up a move, because others may still read its memory.
template <class C>
concept AbandonableCollectives = Collectives<C> && requires(C& c, Ticket ticket) {
  c.abandon(ticket);
};

/// A transport that brings an allreduce of its own, in an order of its own: not the same bits for every layout.
/// `has_own_allreduce()` says whether it is to be used.
template <class C>
concept AllreducingCollectives = Collectives<C> && requires(C& c, const C& as_const, std::span<float> inout) {
  { as_const.has_own_allreduce() } -> std::same_as<bool>;
  { c.start_own_allreduce(inout) } -> std::same_as<Ticket>;
};

}  // namespace tessera
