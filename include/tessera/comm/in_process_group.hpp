#pragma once
// What the threads of an in-process group share: who has posted which move, and who has finished it.

#include <algorithm>
#include <array>
#include <atomic>
#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <tuple>
#include <vector>

#include <tessera/comm/operations.hpp>

namespace tessera {

/// Thrown on a rank whose group broke because another rank failed; that rank's own exception says why.
class RankAborted : public Error {
 public:
  using Error::Error;
};

namespace in_process {

enum class Move : std::uint8_t { allgather, alltoall, exchange, reduce };

[[nodiscard]] constexpr std::string_view name_of(Move move) {
  switch (move) {
    case Move::allgather: return "allgather";
    case Move::alltoall: return "alltoall";
    case Move::exchange: return "exchange";
    case Move::reduce: return "reduce";
  }
  return "?";
}

/// What one rank offers to a move: its memory, which the others read until all have finished, or a copy.
struct Post {
  Move move{};
  const std::byte* send = nullptr;
  index_t bytes = 0;
  bool lent = false;            // `send` is the rank's own memory
  std::vector<std::byte> copy;  // what `send` points to otherwise
  int dest = no_rank;
  int source = no_rank;
  std::vector<index_t> send_begin;  // alltoall: where the piece for each rank begins; one more for the end
};

/// One move of the group, from the first post to the last copy.
struct Slot {
  index_t generation = 0;  // moves that this slot has finished
  int posted = 0;
  int finished = 0;
  int copying = 0;  // ranks that are reading the posts
  std::vector<Post> posts;
  std::vector<bool> has_posted;
};

class World;

/// Twice as many as the moves that a rank may have under way: when a rank starts move k + slots, it has finished one
/// that the others posted after they had finished k. So a start finds its slot free, and need not wait.
inline constexpr int slots_of_group = 2 * moves_at_once;

/// One group of ranks: a mutex, conditions, and a ring of slots, used in order of the moves.
struct Group {
  Group(World& world, std::vector<int> members) : world(world), members(std::move(members)) {
    for (Slot& slot : slots) {
      slot.posts.resize(this->members.size());
      slot.has_posted.resize(this->members.size());
    }
  }

  World& world;
  const std::vector<int> members;  // rank in the world of each rank of the group
  std::mutex mutex;
  std::condition_variable posted;    // all ranks have posted some move
  std::condition_variable finished;  // all have finished one, or nobody reads the posts of one
  std::array<Slot, slots_of_group> slots;
};

/// All ranks of one run: which have left, and why. Waiting ranks of every group are woken when that changes.
class World {
 public:
  explicit World(int size) : left_(static_cast<std::size_t>(size)) {
    std::vector<int> everyone(static_cast<std::size_t>(size));
    for (int r = 0; r < size; ++r) everyone[static_cast<std::size_t>(r)] = r;
    root_ = make_group(std::move(everyone));
  }

  [[nodiscard]] const std::shared_ptr<Group>& root() const { return root_; }

  /// The group that the members of a split share; the first of them to ask makes it.
  [[nodiscard]] std::shared_ptr<Group> shared_group(const Group* parent, index_t sequence, int color,
                                                    const std::vector<int>& members) {
    const std::lock_guard lock(mutex_);
    const auto key = std::tuple(parent, sequence, color);
    auto& [group, asked] = being_made_[key];
    if (group == nullptr) group = make_group(members);
    auto result = group;
    if (++asked == members.size()) being_made_.erase(key);
    return result;
  }

  /// Rank `rank` returned: moves that still need it will never finish.
  void leave(int rank) {
    {
      const std::lock_guard lock(mutex_);
      left_[static_cast<std::size_t>(rank)] = true;
      troubled_ = true;
    }
    wake_all();
  }

  /// Breaks every group; waiting ranks throw RankAborted with the first `reason`. No group's mutex may be held.
  void abort(const std::string& reason) {
    {
      const std::lock_guard lock(mutex_);
      if (reason_.empty()) reason_ = reason;
      troubled_ = true;
    }
    wake_all();
  }

  /// Whether a rank has left or failed.
  [[nodiscard]] bool troubled() const { return troubled_; }

  /// Why a move of `group` that is not finished never will be; empty when all is well.
  [[nodiscard]] std::string trouble(const Group& group, const Slot& slot) {
    if (!troubled_) return {};
    const std::lock_guard lock(mutex_);
    if (!reason_.empty()) return reason_;
    for (std::size_t r = 0; r < group.members.size(); ++r)
      if (!slot.has_posted[r] && left_[static_cast<std::size_t>(group.members[r])])
        return concat("rank ", group.members[r], " returned without taking part");
    return {};
  }

 private:
  std::shared_ptr<Group> make_group(std::vector<int> members) {
    auto group = std::make_shared<Group>(*this, std::move(members));
    std::erase_if(groups_, [](const std::weak_ptr<Group>& known) { return known.expired(); });
    groups_.push_back(group);
    return group;
  }

  void wake_all() {
    std::vector<std::shared_ptr<Group>> groups;
    {
      const std::lock_guard lock(mutex_);
      for (const auto& known : groups_)
        if (auto group = known.lock()) groups.push_back(std::move(group));
    }
    for (const auto& group : groups) {
      { const std::lock_guard lock(group->mutex); }  // a rank between its check and its sleep is asleep after this
      group->posted.notify_all();
      group->finished.notify_all();
    }
  }

  std::mutex mutex_;  // taken after a group's, never before
  std::atomic<bool> troubled_{false};
  std::string reason_;
  std::vector<bool> left_;
  std::vector<std::weak_ptr<Group>> groups_;
  std::map<std::tuple<const Group*, index_t, int>, std::pair<std::shared_ptr<Group>, std::size_t>> being_made_;
  std::shared_ptr<Group> root_;
};

}  // namespace in_process
}  // namespace tessera
