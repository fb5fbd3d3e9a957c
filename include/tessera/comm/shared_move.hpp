#pragma once
// One rank's part in a move through shared memory: what it writes into its buffer and what it reads from the others'.

#include <algorithm>
#include <cstring>
#include <span>
#include <vector>

#include <tessera/comm/collectives.hpp>
#include <tessera/comm/shared_group.hpp>
#include <tessera/comm/sum.hpp>

namespace tessera::shared {

/// A move of this rank, and how far it has come. A move is cut into steps of what a buffer holds.
struct Move {
  Header header{};
  bool busy = false;
  const std::byte* send = nullptr;
  std::byte* receive = nullptr;
  std::vector<index_t> send_begin, receive_begin;
  int source = no_rank;
  index_t step = 0;
  index_t steps = 0;
};

[[nodiscard]] inline index_t steps_of(index_t bytes, index_t per_step) {
  return std::max<index_t>(1, (bytes + per_step - 1) / per_step);
}
inline void set_begins(std::vector<index_t>& begins, std::span<const index_t> counts, index_t unit = 1) {
  begins.assign(1, 0);
  for (const index_t count : counts) begins.push_back(begins.back() + count * unit);
}

/// The part of a piece that belongs to one step.
struct Part {
  index_t begin;
  std::size_t bytes;
};
[[nodiscard]] inline Part part_of(index_t begin, index_t end, index_t step, index_t per_step) {
  const index_t from = std::min(end, begin + step * per_step);
  return {from, static_cast<std::size_t>(std::min(end, from + per_step) - from)};
}
[[nodiscard]] inline Part part_of(const std::vector<index_t>& begins, int r, index_t step, index_t per_step) {
  return part_of(begins[static_cast<std::size_t>(r)], begins[static_cast<std::size_t>(r) + 1], step, per_step);
}
inline void copy_bytes(std::byte* to, const std::byte* from, std::size_t bytes) {
  if (bytes != 0 && to != from) std::memcpy(to, from, bytes);
}

/// Writes what the others read in the move's present step; `turn` is the group's step, which chooses the buffer.
inline void write_part(const Group& group, const Move& move, std::uint32_t turn) {
  const int rank = group.rank();
  std::byte* mine = group.buffer(rank, turn);
  switch (move.header.kind) {
    case Kind::exchange:
      if (move.header.dest == no_rank || move.header.dest == rank) return;
      [[fallthrough]];
    case Kind::allgather:
    case Kind::reduce_all: {
      if (group.size() == 1) return;
      const Part part = part_of(0, move.header.bytes, move.step, Group::buffer_bytes);
      copy_bytes(mine, move.send + part.begin, part.bytes);
      return;
    }
    case Kind::alltoall:
    case Kind::reduce_parts:
      for (int r = 0; r < group.size(); ++r) {
        if (r == rank) continue;
        const Part part = part_of(move.send_begin, r, move.step, group.part_bytes());
        copy_bytes(mine + r * group.part_bytes(), move.send + part.begin, part.bytes);
      }
  }
}

/// All ranks of a move must be in the same kind of move, and their sizes must fit; the longest needs the most steps.
inline void read_headers(const Group& group, Move& move, std::uint32_t turn) {
  const int rank = group.rank();
  move.steps = 1;
  for (int r = 0; r < group.size(); ++r) {
    const Header& header = group.block(r).headers[turn % 2];
    require(header.kind == move.header.kind, "rank ", rank, " of ", group.size(), " and rank ", r,
            " are in different operations at the same time");
    move.steps = std::max(move.steps, header.steps);
    index_t expected = -1;
    if (header.kind == Kind::allgather)
      expected = move.receive_begin[static_cast<std::size_t>(r) + 1] - move.receive_begin[static_cast<std::size_t>(r)];
    if (header.kind == Kind::reduce_all || header.kind == Kind::reduce_parts) expected = move.header.bytes;
    if (header.kind == Kind::exchange) {
      require((header.dest == rank) == (move.source == r), "exchange: rank ", r, " sends to ", header.dest, ", rank ",
              rank, " of ", group.size(), " receives from ", move.source);
      if (move.source == r) expected = move.receive_begin[1];
    }
    require(expected < 0 || expected == header.bytes, "rank ", rank, " of ", group.size(), " expects ", expected,
            " bytes of rank ", r, ", which sends ", header.bytes);
  }
}

/// Sums all ranks' parts in rank order; this rank's own skips the buffer.
inline void sum_part(const Group& group, std::uint32_t turn, std::byte* to, const std::byte* own, index_t offset,
                     std::size_t bytes) {
  sum_in_rank_order(
      group.size(),
      [&](int r) { return reinterpret_cast<const float*>(r == group.rank() ? own : group.buffer(r, turn) + offset); },
      std::span(reinterpret_cast<float*>(to), bytes / sizeof(float)));
}

/// Reads what belongs to this rank in the move's present step.
inline void read_part(const Group& group, const Move& move, std::uint32_t turn) {
  const int rank = group.rank();
  switch (move.header.kind) {
    case Kind::allgather:
    case Kind::alltoall: {
      const bool parts = move.header.kind == Kind::alltoall;
      const index_t per_step = parts ? group.part_bytes() : Group::buffer_bytes;
      for (int i = 0; i < group.size(); ++i) {
        const int r = (rank + i) % group.size();
        const Part part = part_of(move.receive_begin, r, move.step, per_step);
        const std::byte* from = group.buffer(r, turn) + (parts ? rank * group.part_bytes() : 0);
        if (r == rank) {  // own data skip the buffer
          const index_t own = parts ? move.send_begin[static_cast<std::size_t>(rank)] : 0;
          from = move.send + own + (part.begin - move.receive_begin[static_cast<std::size_t>(rank)]);
        }
        copy_bytes(move.receive + part.begin, from, part.bytes);
      }
      return;
    }
    case Kind::exchange: {
      if (move.source == no_rank) return;
      if (move.source == rank) return copy_bytes(move.receive, move.send, static_cast<std::size_t>(move.header.bytes));
      const Part part = part_of(0, move.receive_begin[1], move.step, Group::buffer_bytes);
      copy_bytes(move.receive + part.begin, group.buffer(move.source, turn), part.bytes);
      return;
    }
    case Kind::reduce_all: {
      const Part part = part_of(0, move.header.bytes, move.step, Group::buffer_bytes);
      sum_part(group, turn, move.receive + part.begin, move.send + part.begin, 0, part.bytes);
      return;
    }
    case Kind::reduce_parts: {
      const Part part = part_of(move.send_begin, rank, move.step, group.part_bytes());
      std::byte* to = move.receive + (part.begin - move.send_begin[static_cast<std::size_t>(rank)]);
      sum_part(group, turn, to, move.send + part.begin, rank * group.part_bytes(), part.bytes);
    }
  }
}

}  // namespace tessera::shared
