#pragma once
// A rank that is a thread: it reads the memory that the others have posted, and blocks while it waits.

#include <algorithm>
#include <array>
#include <cstring>
#include <exception>
#include <memory>
#include <mutex>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include <tessera/comm/await.hpp>
#include <tessera/comm/in_process_move.hpp>

namespace tessera {

/// One rank of an in-process group. A move posts this rank's memory; when all have posted, each copies what it needs
/// straight from the others' memory; the move has finished when all have copied. A small message is posted as a copy:
/// then its sender need not wait, and be woken, for that. Moves that do not fit together (another kind, another size)
/// are an Error on every rank.
class InProcessRank {
 public:
  InProcessRank(std::shared_ptr<in_process::World> world, std::shared_ptr<in_process::Group> group, int rank)
      : world_(std::move(world)), group_(std::move(group)), rank_(rank) {}

  [[nodiscard]] int rank() const { return rank_; }
  [[nodiscard]] int size() const { return static_cast<int>(group_->members.size()); }
  [[nodiscard]] std::string_view name() const { return "in process"; }
  [[nodiscard]] int machine() const { return 0; }

  Ticket start_allgather(std::span<const std::byte> mine, std::span<std::byte> all, std::span<const index_t> counts) {
    Local& local = claim(in_process::Move::allgather);
    local.receive = all.data();
    local.counts.assign(counts.begin(), counts.end());
    return post(local, mine, no_rank, {});
  }

  Ticket start_alltoall(std::span<const std::byte> send, std::span<const index_t> send_counts,
                        std::span<std::byte> receive, std::span<const index_t> receive_counts) {
    Local& local = claim(in_process::Move::alltoall);
    local.receive = receive.data();
    local.counts.assign(receive_counts.begin(), receive_counts.end());
    return post(local, send, no_rank, send_counts);
  }

  Ticket start_exchange(std::span<const std::byte> send, int dest, std::span<std::byte> receive, int source) {
    Local& local = claim(in_process::Move::exchange);
    local.receive = receive.data();
    local.source = source;
    local.expected = static_cast<index_t>(receive.size());
    return post(local, send, dest, {});
  }

  Ticket start_reduce(std::span<const float> in, std::span<const index_t> counts, std::span<float> sum) {
    Local& local = claim(in_process::Move::reduce);
    local.sum = sum;
    local.first = counts.empty() ? 0 : std::accumulate(counts.begin(), counts.begin() + rank_, index_t{0});
    local.expected = static_cast<index_t>(in.size_bytes());
    return post(local, std::as_bytes(in), no_rank, {});
  }

  [[nodiscard]] bool test(Ticket ticket) { return wait_until(ticket, WaitClock::time_point::min()); }

  [[nodiscard]] bool wait_until(Ticket ticket, WaitClock::time_point deadline);

  /// Breaks the group: this rank's memory may go away.
  void abandon(Ticket ticket) {
    in_process::Slot& slot = group_->slots[static_cast<std::size_t>(ticket)];
    std::unique_lock lock(group_->mutex);
    withdraw(lock, slot, concat("rank ", group_->members[self()], " waited in vain"));
  }

  [[nodiscard]] InProcessRank split(int color, int key);

 private:
  using Local = in_process::Local;

  [[nodiscard]] std::size_t self() const { return static_cast<std::size_t>(rank_); }

  Local& claim(in_process::Move move) {
    Local& local = locals_[static_cast<std::size_t>(sequence_ % in_process::slots_of_group)];
    require(under_way_ < moves_at_once && !local.busy, "more than ", moves_at_once, " moves under way on rank ", rank_);
    ++under_way_;
    local.move = move;
    local.generation = sequence_ / in_process::slots_of_group;
    local.busy = true, local.copied = false;
    local.source = no_rank;
    return local;
  }

  Ticket post(Local& local, std::span<const std::byte> send, int dest, std::span<const index_t> send_counts);
  [[nodiscard]] bool all_posted(std::unique_lock<std::mutex>& lock, in_process::Slot& slot,
                                WaitClock::time_point deadline);
  [[nodiscard]] bool all_finished(std::unique_lock<std::mutex>& lock, in_process::Slot& slot, const Local& local,
                                  WaitClock::time_point deadline);
  [[nodiscard]] static bool sleep(std::unique_lock<std::mutex>& lock, std::condition_variable& until,
                                  WaitClock::time_point deadline);
  void await_free(std::unique_lock<std::mutex>& lock, const in_process::Slot& slot, const Local& local);
  void withdraw(std::unique_lock<std::mutex>& lock, in_process::Slot& slot, const std::string& reason);

  std::shared_ptr<in_process::World> world_;
  std::shared_ptr<in_process::Group> group_;
  int rank_;
  index_t sequence_ = 0;
  int under_way_ = 0;
  std::array<Local, in_process::slots_of_group> locals_;
};

inline Ticket InProcessRank::post(Local& local, std::span<const std::byte> send, int dest,
                                  std::span<const index_t> send_counts) {
  constexpr std::size_t copied_bytes = 32 << 10;
  const auto at = static_cast<std::size_t>(sequence_++ % in_process::slots_of_group);
  in_process::Slot& slot = group_->slots[at];
  bool last = false;
  {
    std::unique_lock lock(group_->mutex);
    await_free(lock, slot, local);
    in_process::Post& mine = slot.posts[self()];
    mine.move = local.move;
    mine.lent = local.lent = send.size() > copied_bytes;
    if (!mine.lent) mine.copy.assign(send.begin(), send.end());
    mine.send = mine.lent ? send.data() : mine.copy.data();
    mine.bytes = static_cast<index_t>(send.size());
    mine.dest = dest;
    mine.source = local.source;
    mine.send_begin.assign(1, 0);
    for (const index_t count : send_counts) mine.send_begin.push_back(mine.send_begin.back() + count);
    slot.has_posted[self()] = true;
    last = ++slot.posted == size();
  }
  if (last) group_->posted.notify_all();
  return static_cast<Ticket>(at);
}

inline bool InProcessRank::wait_until(Ticket ticket, WaitClock::time_point deadline) {
  const auto at = static_cast<std::size_t>(ticket);
  in_process::Slot& slot = group_->slots[at];
  Local& local = locals_[at];
  std::unique_lock lock(group_->mutex);
  if (!local.copied) {
    if (!all_posted(lock, slot, deadline)) return false;
    ++slot.copying;
    lock.unlock();
    std::exception_ptr fault;
    try {
      in_process::check(local, slot, rank_);
      in_process::take(local, slot, rank_);
    } catch (...) {
      fault = std::current_exception();
    }
    lock.lock();
    local.copied = true;
    if (--slot.copying == 0 && world_->troubled()) group_->finished.notify_all();
    if (fault != nullptr) {
      withdraw(lock, slot, concat("rank ", group_->members[self()], " found moves that do not fit together"));
      std::rethrow_exception(fault);
    }
    if (++slot.finished == size()) {
      slot.posted = slot.finished = 0;
      std::fill(slot.has_posted.begin(), slot.has_posted.end(), false);
      ++slot.generation;
      group_->finished.notify_all();
    }
  }
  if (local.lent && !all_finished(lock, slot, local, deadline)) return false;
  local.busy = false;
  --under_way_;
  return true;
}

/// Trouble goes before posts: a rank that withdrew may have taken its memory along.
inline bool InProcessRank::all_posted(std::unique_lock<std::mutex>& lock, in_process::Slot& slot,
                                      WaitClock::time_point deadline) {
  for (;;) {
    if (const auto reason = world_->trouble(*group_, slot); !reason.empty()) {
      withdraw(lock, slot, reason);
      throw RankAborted(reason);
    }
    if (slot.posted == size()) return true;
    if (!sleep(lock, group_->posted, deadline)) return false;
  }
}

inline bool InProcessRank::all_finished(std::unique_lock<std::mutex>& lock, in_process::Slot& slot, const Local& local,
                                        WaitClock::time_point deadline) {
  while (slot.generation == local.generation) {
    if (const auto reason = world_->trouble(*group_, slot); !reason.empty()) {
      withdraw(lock, slot, reason);
      throw RankAborted(reason);
    }
    if (!sleep(lock, group_->finished, deadline)) return false;
  }
  return true;
}

/// False at the deadline. A wake-up may be for another reason: the caller looks again.
inline bool InProcessRank::sleep(std::unique_lock<std::mutex>& lock, std::condition_variable& until,
                                 WaitClock::time_point deadline) {
  if (deadline == WaitClock::time_point::max()) {
    until.wait(lock);
    return true;
  }
  if (WaitClock::now() >= deadline) return false;
  until.wait_until(lock, deadline);
  return true;
}

/// Moves that finish in the order of their starts leave their slot free; one that was waited for after many others may
/// still be copied by another rank, which will not need this rank for that.
inline void InProcessRank::await_free(std::unique_lock<std::mutex>& lock, const in_process::Slot& slot,
                                      const Local& local) {
  while (slot.generation != local.generation) {
    if (const auto reason = world_->trouble(*group_, slot); !reason.empty()) throw RankAborted(reason);
    group_->finished.wait(lock);
  }
}

/// Breaks the group, then waits until nobody reads this rank's memory any more.
inline void InProcessRank::withdraw(std::unique_lock<std::mutex>& lock, in_process::Slot& slot,
                                    const std::string& reason) {
  lock.unlock();
  world_->abort(reason);
  lock.lock();
  while (slot.copying != 0) group_->finished.wait(lock);
}

inline InProcessRank InProcessRank::split(int color, int key) {
  struct Choice {
    int color, key, rank;
  };
  std::vector<Choice> choices(static_cast<std::size_t>(size()));
  const std::vector<index_t> counts(choices.size(), sizeof(Choice));
  const index_t sequence = sequence_;
  const Choice mine{color, key, rank_};
  (void)wait_until(
      start_allgather(std::as_bytes(std::span(&mine, 1)), std::as_writable_bytes(std::span(choices)), counts),
      WaitClock::time_point::max());
  std::erase_if(choices, [&](const Choice& choice) { return choice.color != color; });
  std::sort(choices.begin(), choices.end(),
            [](const Choice& a, const Choice& b) { return std::pair(a.key, a.rank) < std::pair(b.key, b.rank); });
  std::vector<int> members;
  int place = 0;
  for (const Choice& choice : choices) {
    if (choice.rank == rank_) place = static_cast<int>(members.size());
    members.push_back(group_->members[static_cast<std::size_t>(choice.rank)]);
  }
  return {world_, world_->shared_group(group_.get(), sequence, color, members), place};
}

static_assert(ReducingCollectives<InProcessRank> && BlockingCollectives<InProcessRank> &&
              AbandonableCollectives<InProcessRank> && MachineAwareCollectives<InProcessRank>);

}  // namespace tessera
