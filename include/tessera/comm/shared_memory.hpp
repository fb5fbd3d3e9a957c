#pragma once
// Ranks of one machine move data through memory that they share: one copy in, one copy (or sum) out.

#include <sched.h>
#include <signal.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <numeric>
#include <vector>

#include <tessera/comm/communicator.hpp>
#include <tessera/comm/shared_group.hpp>

namespace tessera {

/// One rank of a group on one machine, made collectively out of any communicator of the same ranks.
///
/// A move is cut into steps; all ranks go through all steps of all moves in order. In a step a rank writes into its own
/// buffer, raises its counter, waits until all counters have come as far, and reads the others' buffers. Buffers are
/// two per rank, used in turns, and that is all it takes: whoever has raised its counter for step s has read what it
/// wants of step s-1, so that a rank which has seen all of them may write step s+1 over it. One raise and one look per
/// step and rank, and no lock that a killed rank could hold.
///
/// Waiting spins for 50 us when every rank can have a core, and then sleeps in the kernel; with more ranks than cores
/// it sleeps at once.
class SharedMemory {
 public:
  /// Collective. Errors: Error on all ranks when the ranks do not share a machine or its memory is short.
  [[nodiscard]] static SharedMemory over(Communicator via) {
    return SharedMemory({via.rank(), everyone(via.size()), [&](const Offer& mine) { return gather(via, mine); }});
  }

  [[nodiscard]] int rank() const { return rank_; }
  [[nodiscard]] int size() const { return size_; }
  [[nodiscard]] std::string_view name() const { return "shared memory"; }

  Ticket start_allgather(std::span<const std::byte> mine, std::span<std::byte> all, std::span<const index_t> counts) {
    Move& move = claim(Kind::allgather, mine, all.data());
    set_begins(move.receive_begin, counts);
    move.header.steps = steps(*std::max_element(counts.begin(), counts.end()), buffer_bytes);
    return start();
  }

  Ticket start_alltoall(std::span<const std::byte> send, std::span<const index_t> send_counts,
                        std::span<std::byte> receive, std::span<const index_t> receive_counts) {
    Move& move = claim(Kind::alltoall, send, receive.data());
    set_begins(move.send_begin, send_counts);
    set_begins(move.receive_begin, receive_counts);
    move.header.steps = steps(*std::max_element(send_counts.begin(), send_counts.end()), group_.part_bytes());
    return start();
  }

  Ticket start_exchange(std::span<const std::byte> send, int dest, std::span<std::byte> receive, int source) {
    Move& move = claim(Kind::exchange, send, receive.data());
    move.header.dest = dest;
    move.source = source;
    move.receive_begin.assign({0, static_cast<index_t>(receive.size())});
    move.header.steps = dest == rank_ ? 1 : steps(static_cast<index_t>(send.size()), buffer_bytes);
    return start();
  }

  Ticket start_reduce(std::span<const float> in, std::span<const index_t> counts, std::span<float> sum) {
    Move& move = claim(counts.empty() ? Kind::reduce_all : Kind::reduce_parts, std::as_bytes(in),
                       std::as_writable_bytes(sum).data());
    set_begins(move.send_begin, counts, sizeof(float));
    const index_t longest =
        counts.empty() ? move.header.bytes : *std::max_element(counts.begin(), counts.end()) * index_t{sizeof(float)};
    move.header.steps = steps(longest, counts.empty() ? buffer_bytes : group_.part_bytes());
    return start();
  }

  [[nodiscard]] bool test(Ticket ticket) {
    progress();
    return finished(ticket);
  }

  [[nodiscard]] bool wait_until(Ticket ticket, WaitClock::time_point deadline);

  [[nodiscard]] SharedMemory split(int color, int key);

 private:
  using Kind = shared::Kind;
  using Header = shared::Header;
  using Offer = shared::Offer;
  static constexpr index_t buffer_bytes = shared::Group::buffer_bytes;
  static constexpr auto spin = std::chrono::microseconds(50);
  static constexpr auto look_around = std::chrono::milliseconds(500);  // sleeping ranks look whether the others live

  explicit SharedMemory(shared::Group group)
      : group_(std::move(group)), rank_(group_.rank()), size_(group_.size()), spins_(size_ <= schedulable_cores()) {}

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

  static std::vector<int> everyone(int ranks) {
    std::vector<int> all(static_cast<std::size_t>(ranks));
    std::iota(all.begin(), all.end(), 0);
    return all;
  }
  static std::vector<Offer> gather(Communicator& via, const Offer& mine) {
    std::vector<Offer> all(static_cast<std::size_t>(via.size()));
    const std::vector<index_t> one_each(all.size(), 1);
    via.allgather<Offer>(std::span(&mine, 1), std::span(all), one_each);
    return all;
  }
  std::vector<Offer> gather_here(const Offer& mine) {
    std::vector<Offer> all(static_cast<std::size_t>(size_));
    const std::vector<index_t> counts(all.size(), sizeof(Offer));
    (void)wait_until(
        start_allgather(std::as_bytes(std::span(&mine, 1)), std::as_writable_bytes(std::span(all)), counts),
        WaitClock::time_point::max());
    return all;
  }

  [[nodiscard]] static index_t steps(index_t bytes, index_t per_step) {
    return std::max<index_t>(1, (bytes + per_step - 1) / per_step);
  }
  static void set_begins(std::vector<index_t>& begins, std::span<const index_t> counts, index_t unit = 1) {
    begins.assign(1, 0);
    for (const index_t count : counts) begins.push_back(begins.back() + count * unit);
  }
  /// The part of piece r that belongs to the current step.
  struct Chunk {
    index_t begin;
    std::size_t bytes;
  };
  [[nodiscard]] static Chunk chunk_of(index_t begin, index_t end, index_t step, index_t per_step) {
    const index_t from = std::min(end, begin + step * per_step);
    return {from, static_cast<std::size_t>(std::min(end, from + per_step) - from)};
  }
  [[nodiscard]] static Chunk chunk_of(const std::vector<index_t>& begins, int r, index_t step, index_t per_step) {
    return chunk_of(begins[static_cast<std::size_t>(r)], begins[static_cast<std::size_t>(r) + 1], step, per_step);
  }
  static void copy(std::byte* to, const std::byte* from, std::size_t bytes) {
    if (bytes != 0 && to != from) std::memcpy(to, from, bytes);
  }

  Move& claim(Kind kind, std::span<const std::byte> send, std::byte* receive) {
    Move& move = moves_[static_cast<std::size_t>(moves_started_ % moves_at_once)];
    require(!move.busy, "more than ", moves_at_once, " moves under way on rank ", rank_);
    move.header = {kind, no_rank, static_cast<index_t>(send.size()), 1};
    move.send = send.data(), move.receive = receive;
    move.source = no_rank, move.step = 0, move.busy = true;
    return move;
  }
  Ticket start() {
    const auto ticket = static_cast<Ticket>(moves_started_++ % moves_at_once);
    progress();
    return ticket;
  }
  [[nodiscard]] bool finished(Ticket ticket) const { return !moves_[static_cast<std::size_t>(ticket)].busy; }

  /// Goes on as far as the others have come; afterwards awaited_ and goal_ say what for.
  void progress();
  [[nodiscard]] bool everyone_reached(std::uint32_t goal);
  void write_chunk(const Move& move);
  void read_chunk(const Move& move);
  void read_headers(Move& move);
  void sum_chunk(std::byte* to, const std::byte* own, index_t offset, std::size_t bytes) const;
  void require_alive(int r) const;

  shared::Group group_;
  int rank_;
  int size_;
  bool spins_;
  std::uint32_t step_ = 0;  // begun by the group, this rank's view; wraps around
  bool written_ = false;    // this rank has written its part of step_
  int awaited_ = 0;
  std::uint32_t goal_ = 0;
  index_t moves_started_ = 0;
  index_t moves_finished_ = 0;
  std::array<Move, moves_at_once> moves_;
};

inline bool SharedMemory::everyone_reached(std::uint32_t goal) {
  // The rank that was awaited last time comes first: most calls end there.
  for (int i = 0; i < size_; ++i) {
    const int r = awaited_ + i < size_ ? awaited_ + i : awaited_ + i - size_;
    if (group_.block(r).steps_begun.reached(goal)) continue;
    awaited_ = r, goal_ = goal;
    return false;
  }
  return true;
}

inline void SharedMemory::progress() {
  while (moves_finished_ < moves_started_) {
    Move& move = moves_[static_cast<std::size_t>(moves_finished_ % moves_at_once)];
    if (!written_) {
      if (move.step == 0) group_.block(rank_).headers[step_ % 2] = move.header;
      write_chunk(move);
      group_.block(rank_).steps_begun.raise();
      written_ = true;
    }
    if (!everyone_reached(step_ + 1)) return;
    if (move.step == 0) read_headers(move);
    read_chunk(move);
    ++step_, written_ = false;
    if (++move.step == move.steps) {
      move.busy = false;
      ++moves_finished_;
    }
  }
}

inline void SharedMemory::write_chunk(const Move& move) {
  std::byte* mine = group_.buffer(rank_, step_);
  switch (move.header.kind) {
    case Kind::exchange:
      if (move.header.dest == no_rank || move.header.dest == rank_) return;
      [[fallthrough]];
    case Kind::allgather:
    case Kind::reduce_all: {
      if (size_ == 1) return;
      const Chunk chunk = chunk_of(0, move.header.bytes, move.step, buffer_bytes);
      copy(mine, move.send + chunk.begin, chunk.bytes);
      return;
    }
    case Kind::alltoall:
    case Kind::reduce_parts:
      for (int r = 0; r < size_; ++r) {
        if (r == rank_) continue;
        const Chunk chunk = chunk_of(move.send_begin, r, move.step, group_.part_bytes());
        copy(mine + r * group_.part_bytes(), move.send + chunk.begin, chunk.bytes);
      }
  }
}

/// All ranks of a move must be in the same kind of move, and their sizes must fit; the longest needs the most steps.
inline void SharedMemory::read_headers(Move& move) {
  move.steps = 1;
  for (int r = 0; r < size_; ++r) {
    const Header& header = group_.block(r).headers[step_ % 2];
    require(header.kind == move.header.kind, "rank ", rank_, " of ", size_, " and rank ", r,
            " are in different operations at the same time");
    move.steps = std::max(move.steps, header.steps);
    index_t expected = -1;
    if (header.kind == Kind::allgather)
      expected = move.receive_begin[static_cast<std::size_t>(r) + 1] - move.receive_begin[static_cast<std::size_t>(r)];
    if (header.kind == Kind::reduce_all || header.kind == Kind::reduce_parts) expected = move.header.bytes;
    if (header.kind == Kind::exchange) {
      require((header.dest == rank_) == (move.source == r), "exchange: rank ", r, " sends to ", header.dest, ", rank ",
              rank_, " of ", size_, " receives from ", move.source);
      if (move.source == r) expected = move.receive_begin[1];
    }
    require(expected < 0 || expected == header.bytes, "rank ", rank_, " of ", size_, " expects ", expected,
            " bytes of rank ", r, ", which sends ", header.bytes);
  }
}

inline void SharedMemory::read_chunk(const Move& move) {
  switch (move.header.kind) {
    case Kind::allgather:
    case Kind::alltoall: {
      const bool parts = move.header.kind == Kind::alltoall;
      const index_t per_step = parts ? group_.part_bytes() : buffer_bytes;
      for (int i = 0; i < size_; ++i) {
        const int r = (rank_ + i) % size_;
        const Chunk chunk = chunk_of(move.receive_begin, r, move.step, per_step);
        const std::byte* from = group_.buffer(r, step_) + (parts ? rank_ * group_.part_bytes() : 0);
        if (r == rank_) {  // own data skip the buffer
          const index_t own = parts ? move.send_begin[static_cast<std::size_t>(rank_)] : 0;
          from = move.send + own + (chunk.begin - move.receive_begin[static_cast<std::size_t>(rank_)]);
        }
        copy(move.receive + chunk.begin, from, chunk.bytes);
      }
      return;
    }
    case Kind::exchange: {
      if (move.source == no_rank) return;
      if (move.source == rank_) return copy(move.receive, move.send, static_cast<std::size_t>(move.header.bytes));
      const Chunk chunk = chunk_of(0, move.receive_begin[1], move.step, buffer_bytes);
      copy(move.receive + chunk.begin, group_.buffer(move.source, step_), chunk.bytes);
      return;
    }
    case Kind::reduce_all: {
      const Chunk chunk = chunk_of(0, move.header.bytes, move.step, buffer_bytes);
      sum_chunk(move.receive + chunk.begin, move.send + chunk.begin, 0, chunk.bytes);
      return;
    }
    case Kind::reduce_parts: {
      const Chunk chunk = chunk_of(move.send_begin, rank_, move.step, group_.part_bytes());
      std::byte* to = move.receive + (chunk.begin - move.send_begin[static_cast<std::size_t>(rank_)]);
      sum_chunk(to, move.send + chunk.begin, rank_ * group_.part_bytes(), chunk.bytes);
    }
  }
}

inline void SharedMemory::sum_chunk(std::byte* to, const std::byte* own, index_t offset, std::size_t bytes) const {
  sum_in_rank_order(
      size_, [&](int r) { return reinterpret_cast<const float*>(r == rank_ ? own : group_.buffer(r, step_) + offset); },
      std::span(reinterpret_cast<float*>(to), bytes / sizeof(float)));
}

inline bool SharedMemory::wait_until(Ticket ticket, WaitClock::time_point deadline) {
  constexpr int looks_per_clock = 64;
  auto spin_until = WaitClock::time_point::min();
  for (int look = 0;; ++look) {
    const std::uint32_t before = step_;
    progress();
    if (finished(ticket)) return true;
    if (before != step_) spin_until = WaitClock::time_point::min();  // the group moves: spin afresh
    if (spins_ && look % looks_per_clock != 0) continue;
    const auto now = WaitClock::now();
    if (now >= deadline) return false;
    if (spin_until == WaitClock::time_point::min()) spin_until = now + spin;
    if (spins_ && now < spin_until) {
      ::sched_yield();  // the awaited rank may have been put on this very core
      continue;
    }
    SharedCounter& counter = group_.block(awaited_).steps_begun;
    counter.sleep_until(goal_, std::min(deadline, now + look_around));
    if (!counter.reached(goal_) && WaitClock::now() - now >= look_around) require_alive(awaited_);
  }
}

/// A killed rank is noticed, as soon as its launcher has reaped it, without waiting for the deadline.
inline void SharedMemory::require_alive(int r) const {
  const pid_t process = group_.block(r).process;
  require(::kill(process, 0) == 0 || errno != ESRCH, "rank ", r, " of ", size_, " (process ", process, ") has died");
}

inline SharedMemory SharedMemory::split(int color, int key) {
  Offer choice;
  choice.color = color, choice.key = key;
  const auto choices = gather_here(choice);
  const auto at = [&](int r) -> const Offer& { return choices[static_cast<std::size_t>(r)]; };
  std::vector<int> members = everyone(size_);
  std::erase_if(members, [&](int r) { return at(r).color != color; });
  std::stable_sort(members.begin(), members.end(), [&](int a, int b) { return at(a).key < at(b).key; });
  return SharedMemory({rank_, members, [&](const Offer& mine) { return gather_here(mine); }});
}

static_assert(ReducingCollectives<SharedMemory> && BlockingCollectives<SharedMemory>);

}  // namespace tessera
