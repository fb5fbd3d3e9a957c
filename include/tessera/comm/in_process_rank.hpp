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
#include <vector>

#include <tessera/comm/await.hpp>
#include <tessera/comm/in_process_group.hpp>
#include <tessera/comm/sum.hpp>

namespace tessera {

/// One rank of an in-process group. A move posts this rank's memory; when all have posted, each copies what it needs
/// straight from the others' memory; the move has finished when all have copied. Moves that do not fit together
/// (another kind, another size) are an Error on every rank.
class InProcessRank {
 public:
  InProcessRank(std::shared_ptr<in_process::World> world, std::shared_ptr<in_process::Group> group, int rank)
      : world_(std::move(world)), group_(std::move(group)), rank_(rank) {}

  [[nodiscard]] int rank() const { return rank_; }
  [[nodiscard]] int size() const { return static_cast<int>(group_->members.size()); }
  [[nodiscard]] std::string_view name() const { return "in process"; }

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

  /// After a deadline that is not in the past the group is broken: this rank's memory may go away.
  [[nodiscard]] bool wait_until(Ticket ticket, WaitClock::time_point deadline);

  [[nodiscard]] InProcessRank split(int color, int key);

 private:
  struct Local {
    in_process::Move move{};
    index_t generation = 0;
    bool busy = false;
    bool copied = false;
    std::byte* receive = nullptr;
    std::vector<index_t> counts;
    std::span<float> sum;
    index_t first = 0;
    index_t expected = 0;
    int source = no_rank;
  };

  [[nodiscard]] std::size_t self() const { return static_cast<std::size_t>(rank_); }
  [[nodiscard]] std::string gave_up() const { return concat("rank ", group_->members[self()], " waited in vain"); }

  Local& claim(in_process::Move move) {
    Local& local = locals_[static_cast<std::size_t>(sequence_ % moves_at_once)];
    require(!local.busy, "more than ", moves_at_once, " moves under way on rank ", rank_);
    local.move = move;
    local.generation = sequence_ / moves_at_once;
    local.busy = true, local.copied = false;
    local.source = no_rank;
    return local;
  }

  Ticket post(Local& local, std::span<const std::byte> send, int dest, std::span<const index_t> send_counts);
  void check(const Local& local, const in_process::Slot& slot) const;
  void copy(const Local& local, const in_process::Slot& slot) const;
  [[nodiscard]] bool all_posted(std::unique_lock<std::mutex>& lock, in_process::Slot& slot,
                                WaitClock::time_point deadline);
  [[nodiscard]] bool all_finished(std::unique_lock<std::mutex>& lock, in_process::Slot& slot, const Local& local,
                                  WaitClock::time_point deadline);
  [[nodiscard]] bool sleep(std::unique_lock<std::mutex>& lock, WaitClock::time_point deadline);
  void withdraw(std::unique_lock<std::mutex>& lock, in_process::Slot& slot, const std::string& reason);

  std::shared_ptr<in_process::World> world_;
  std::shared_ptr<in_process::Group> group_;
  int rank_;
  index_t sequence_ = 0;
  std::array<Local, moves_at_once> locals_;
};

inline Ticket InProcessRank::post(Local& local, std::span<const std::byte> send, int dest,
                                  std::span<const index_t> send_counts) {
  const auto at = static_cast<std::size_t>(sequence_++ % moves_at_once);
  in_process::Slot& slot = group_->slots[at];
  bool last = false;
  {
    // The slot is free: this rank's move before in it has finished, and so it has on every rank.
    const std::lock_guard lock(group_->mutex);
    in_process::Post& mine = slot.posts[self()];
    mine.move = local.move;
    mine.send = send.data();
    mine.bytes = static_cast<index_t>(send.size());
    mine.dest = dest;
    mine.source = local.source;
    mine.send_begin.assign(1, 0);
    for (const index_t count : send_counts) mine.send_begin.push_back(mine.send_begin.back() + count);
    slot.has_posted[self()] = true;
    last = ++slot.posted == size();
  }
  if (last) group_->changed.notify_all();
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
      check(local, slot);
      copy(local, slot);
    } catch (...) {
      fault = std::current_exception();
    }
    lock.lock();
    local.copied = true;
    if (--slot.copying == 0) group_->changed.notify_all();
    if (fault != nullptr) {
      withdraw(lock, slot, concat("rank ", group_->members[self()], " found moves that do not fit together"));
      std::rethrow_exception(fault);
    }
    if (++slot.finished == size()) {
      slot.posted = slot.finished = 0;
      std::fill(slot.has_posted.begin(), slot.has_posted.end(), false);
      ++slot.generation;
      group_->changed.notify_all();
    }
  }
  if (!all_finished(lock, slot, local, deadline)) return false;
  local.busy = false;
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
    if (!sleep(lock, deadline)) {
      if (deadline != WaitClock::time_point::min()) withdraw(lock, slot, gave_up());
      return false;
    }
  }
}

inline bool InProcessRank::all_finished(std::unique_lock<std::mutex>& lock, in_process::Slot& slot, const Local& local,
                                        WaitClock::time_point deadline) {
  while (slot.generation == local.generation) {
    if (const auto reason = world_->trouble(*group_, slot); !reason.empty()) {
      withdraw(lock, slot, reason);
      throw RankAborted(reason);
    }
    if (!sleep(lock, deadline)) {
      if (deadline != WaitClock::time_point::min()) withdraw(lock, slot, gave_up());
      return false;
    }
  }
  return true;
}

/// False at the deadline. A wake-up may be for another reason: the caller looks again.
inline bool InProcessRank::sleep(std::unique_lock<std::mutex>& lock, WaitClock::time_point deadline) {
  if (deadline == WaitClock::time_point::max()) {
    group_->changed.wait(lock);
    return true;
  }
  if (WaitClock::now() >= deadline) return false;
  group_->changed.wait_until(lock, deadline);
  return true;
}

/// Breaks the group, then waits until nobody reads this rank's memory any more.
inline void InProcessRank::withdraw(std::unique_lock<std::mutex>& lock, in_process::Slot& slot,
                                    const std::string& reason) {
  lock.unlock();
  world_->abort(reason);
  lock.lock();
  while (slot.copying != 0) group_->changed.wait(lock);
}

inline void InProcessRank::check(const Local& local, const in_process::Slot& slot) const {
  const auto sizes_agree = [&](int from, index_t found, index_t expected) {
    require(found == expected, name_of(local.move), ": rank ", rank_, " of ", size(), " expects ", expected,
            " bytes of rank ", from, ", which sends ", found);
  };
  for (int r = 0; r < size(); ++r) {
    const auto i = static_cast<std::size_t>(r);
    const in_process::Post& post = slot.posts[i];
    require(post.move == local.move, "rank ", rank_, " of ", size(), " is in ", name_of(local.move), ", rank ", r,
            " in ", name_of(post.move));
    switch (local.move) {
      case in_process::Move::allgather: sizes_agree(r, post.bytes, local.counts[i]); break;
      case in_process::Move::alltoall:
        sizes_agree(r, post.send_begin[self() + 1] - post.send_begin[self()], local.counts[i]);
        break;
      case in_process::Move::exchange:
        require((post.dest == rank_) == (local.source == r), "exchange: rank ", r, " sends to ", post.dest, ", rank ",
                rank_, " of ", size(), " receives from ", local.source);
        if (r == local.source) sizes_agree(r, post.bytes, local.expected);
        break;
      case in_process::Move::reduce: sizes_agree(r, post.bytes, local.expected); break;
    }
  }
}

inline void InProcessRank::copy(const Local& local, const in_process::Slot& slot) const {
  std::byte* to = local.receive;
  const auto take = [&](const std::byte* from, index_t bytes) {
    if (bytes != 0 && from != to) std::memcpy(to, from, static_cast<std::size_t>(bytes));  // equal: already in place
    to += bytes;
  };
  switch (local.move) {
    case in_process::Move::allgather:
      for (const in_process::Post& post : slot.posts) take(post.send, post.bytes);
      return;
    case in_process::Move::alltoall:
      for (const in_process::Post& post : slot.posts)
        take(post.send + post.send_begin[self()], post.send_begin[self() + 1] - post.send_begin[self()]);
      return;
    case in_process::Move::exchange:
      if (local.source != no_rank) take(slot.posts[static_cast<std::size_t>(local.source)].send, local.expected);
      return;
    case in_process::Move::reduce:
      sum_in_rank_order(
          size(),
          [&](int r) {
            return reinterpret_cast<const float*>(slot.posts[static_cast<std::size_t>(r)].send) + local.first;
          },
          local.sum);
  }
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
  std::stable_sort(choices.begin(), choices.end(), [](const Choice& a, const Choice& b) { return a.key < b.key; });
  std::vector<int> members;
  int place = 0;
  for (const Choice& choice : choices) {
    if (choice.rank == rank_) place = static_cast<int>(members.size());
    members.push_back(group_->members[static_cast<std::size_t>(choice.rank)]);
  }
  return {world_, world_->shared_group(group_.get(), sequence, color, members), place};
}

static_assert(ReducingCollectives<InProcessRank> && BlockingCollectives<InProcessRank>);

}  // namespace tessera
