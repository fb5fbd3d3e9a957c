#pragma once
// The memory that a group of ranks on one machine shares: how they meet in it, and where everything lies.

#include <sched.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include <tessera/comm/shared_segment.hpp>
#include <tessera/parallel/cores.hpp>

namespace tessera::shared {

enum class Kind : std::int32_t { allgather, alltoall, exchange, reduce_all, reduce_parts };

/// What a rank tells the others about its move, in the move's first step.
struct Header {
  Kind kind;
  std::int32_t dest;
  index_t bytes;
  index_t steps;
};

/// What one rank writes and all read.
struct RankBlock {
  SharedCounter steps_begun;
  std::array<Header, 2> headers;  // used in turns, like the buffers
  pid_t process;
};

/// What ranks tell each other to meet in a segment, or to split.
struct Offer {
  std::uint64_t cookie = 0;
  pid_t process = 0;
  int file = -1;
  int color = 0;
  int key = 0;
  bool good = true;
  cpu_set_t cores{};  ///< that the process may run on
};

/// One rank's view of the segment: a cookie that tells it from any other, a block per rank, two buffers per rank.
class Group {
 public:
  static constexpr index_t buffer_bytes = 512 << 10;  // two per rank: they stay in the second-level cache

  /// Meets the other `members` (ranks outside, in order of their rank in the group). `gather(offer)` returns the offers
  /// of all ranks outside; it is called twice on each of them. Errors: Error on all members when one cannot join.
  template <class Gather>
  Group(int rank_outside, const std::vector<int>& members, Gather&& gather) : size_(static_cast<int>(members.size())) {
    while (members[static_cast<std::size_t>(rank_)] != rank_outside) ++rank_;
    Offer mine;
    mine.cores = affinity_mask();
    std::string problem;
    const auto attempt = [&](auto&& act) {
      if (!mine.good) return;
      try {
        act();
      } catch (const Error& error) {
        mine.good = false;
        problem = error.what();
      }
    };
    attempt([&] {
      if (rank_ != 0) return;
      segment_ = SharedSegment(segment_bytes(size_));
      std::random_device entropy;
      cookie() = (static_cast<std::uint64_t>(entropy()) << 32) + entropy();
      mine.cookie = cookie(), mine.process = ::getpid(), mine.file = segment_.file();
    });
    const Offer leader = gather(mine)[static_cast<std::size_t>(members[0])];
    attempt([&] {
      require(leader.good, "shared memory: rank ", members[0], " could not make it");
      if (rank_ != 0) segment_ = SharedSegment(leader.process, leader.file, segment_bytes(size_));
      require(cookie() == leader.cookie, "shared memory: the ranks do not share a machine");
      block(rank_).process = ::getpid();
    });
    const std::vector<Offer> outcomes = gather(mine);  // everybody has opened it, or not
    segment_.close_file();
    require(mine.good, problem);
    cpu_set_t cores{};
    for (const int member : members) {
      const Offer& outcome = outcomes[static_cast<std::size_t>(member)];
      require(outcome.good, "shared memory: rank ", member, " could not open it");
      CPU_OR(&cores, &cores, &outcome.cores);
    }
    cores_ = physical_cores(cores);
  }

  [[nodiscard]] int rank() const { return rank_; }
  [[nodiscard]] int size() const { return size_; }
  /// Physical cores that the members may run on, together.
  [[nodiscard]] int cores() const { return cores_; }
  [[nodiscard]] RankBlock& block(int r) const {
    return reinterpret_cast<RankBlock*>(segment_.data() + sizeof(RankBlock))[r];
  }
  /// The one of rank r's buffers that step `step` uses.
  [[nodiscard]] std::byte* buffer(int r, std::uint32_t step) const {
    return segment_.data() + blocks_bytes(size_) +
           (static_cast<std::size_t>(r) * 2 + step % 2) * static_cast<std::size_t>(buffer_bytes);
  }
  /// In moves with a piece for each rank, a buffer is cut into one part for each.
  [[nodiscard]] index_t part_bytes() const { return buffer_bytes / size_ / 64 * 64; }

 private:
  [[nodiscard]] static std::size_t blocks_bytes(int ranks) {
    constexpr std::size_t page = 4096;
    return (sizeof(RankBlock) * (static_cast<std::size_t>(ranks) + 1) + page - 1) / page * page;
  }
  [[nodiscard]] static std::size_t segment_bytes(int ranks) {
    return blocks_bytes(ranks) + static_cast<std::size_t>(ranks) * 2 * buffer_bytes;
  }
  [[nodiscard]] std::uint64_t& cookie() const { return *reinterpret_cast<std::uint64_t*>(segment_.data()); }

  SharedSegment segment_;
  int rank_ = 0;
  int size_ = 1;
  int cores_ = 1;
};

}  // namespace tessera::shared
