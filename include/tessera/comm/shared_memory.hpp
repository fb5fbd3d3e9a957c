#pragma once
// Ranks of one machine move data through memory that they share: one copy in, one copy (or sum) out.

#include <sched.h>
#include <signal.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <numeric>
#include <utility>
#include <vector>

#include <tessera/comm/communicator.hpp>
#include <tessera/comm/shared_move.hpp>

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
    return SharedMemory({via.rank(), everyone(via.size()), [&](const Offer& mine) { return gather(via, mine); }}, true);
  }

  [[nodiscard]] int rank() const { return rank_; }
  [[nodiscard]] int size() const { return size_; }
  [[nodiscard]] std::string_view name() const { return "shared memory"; }
  [[nodiscard]] int machine() const { return 0; }
  void be_patient() { spins_ = false; }

  Ticket start_allgather(std::span<const std::byte> mine, std::span<std::byte> all, std::span<const index_t> counts) {
    Move& move = claim(Kind::allgather, mine, all.data());
    shared::set_begins(move.receive_begin, counts);
    move.header.steps = shared::steps_of(*std::max_element(counts.begin(), counts.end()), buffer_bytes);
    return start();
  }

  Ticket start_alltoall(std::span<const std::byte> send, std::span<const index_t> send_counts,
                        std::span<std::byte> receive, std::span<const index_t> receive_counts) {
    Move& move = claim(Kind::alltoall, send, receive.data());
    shared::set_begins(move.send_begin, send_counts);
    shared::set_begins(move.receive_begin, receive_counts);
    move.header.steps =
        shared::steps_of(*std::max_element(send_counts.begin(), send_counts.end()), group_.part_bytes());
    return start();
  }

  Ticket start_exchange(std::span<const std::byte> send, int dest, std::span<std::byte> receive, int source) {
    Move& move = claim(Kind::exchange, send, receive.data());
    move.header.dest = dest;
    move.source = source;
    move.receive_begin.assign({0, static_cast<index_t>(receive.size())});
    move.header.steps = dest == rank_ ? 1 : shared::steps_of(static_cast<index_t>(send.size()), buffer_bytes);
    return start();
  }

  Ticket start_reduce(std::span<const float> in, std::span<const index_t> counts, std::span<float> sum) {
    Move& move = claim(counts.empty() ? Kind::reduce_all : Kind::reduce_parts, std::as_bytes(in),
                       std::as_writable_bytes(sum).data());
    shared::set_begins(move.send_begin, counts, sizeof(float));
    const index_t longest =
        counts.empty() ? move.header.bytes : *std::max_element(counts.begin(), counts.end()) * index_t{sizeof(float)};
    move.header.steps = shared::steps_of(longest, counts.empty() ? buffer_bytes : group_.part_bytes());
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
  using Move = shared::Move;
  using Offer = shared::Offer;
  static constexpr index_t buffer_bytes = shared::Group::buffer_bytes;
  static constexpr auto spin = std::chrono::microseconds(50);
  static constexpr auto look_around = std::chrono::milliseconds(500);  // sleepers look whether the others live

  SharedMemory(shared::Group group, bool may_spin)
      : group_(std::move(group)),
        rank_(group_.rank()),
        size_(group_.size()),
        spins_(may_spin && size_ <= group_.cores()) {}

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
      shared::write_part(group_, move, step_);
      group_.block(rank_).steps_begun.raise();
      written_ = true;
    }
    if (!everyone_reached(step_ + 1)) return;
    if (move.step == 0) shared::read_headers(group_, move, step_);
    shared::read_part(group_, move, step_);
    ++step_, written_ = false;
    if (++move.step == move.steps) {
      move.busy = false;
      ++moves_finished_;
    }
  }
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
    const auto until = std::min(deadline, now + look_around);
    counter.sleep_until(goal_, until);
    if (WaitClock::now() >= until && !counter.reached(goal_)) require_alive(awaited_);
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
  std::sort(members.begin(), members.end(),
            [&](int a, int b) { return std::pair(at(a).key, a) < std::pair(at(b).key, b); });
  return SharedMemory({rank_, members, [&](const Offer& mine) { return gather_here(mine); }}, spins_);
}

static_assert(ReducingCollectives<SharedMemory> && BlockingCollectives<SharedMemory> &&
              PatientCollectives<SharedMemory> && MachineAwareCollectives<SharedMemory>);

}  // namespace tessera
