#pragma once
// What one thread of a team knows: its place, the barrier, its share of work, and memory kept between steps.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <type_traits>
#include <utility>
#include <vector>

#include <tessera/core/buffer.hpp>
#include <tessera/core/trace.hpp>
#include <tessera/parallel/barrier.hpp>
#include <tessera/parallel/part_queue.hpp>

namespace tessera {

/// In a trace: waiting for the other workers.
inline constexpr TraceName trace_barrier{"barrier", TraceKind::barrier};

/// Memory that grows when more is asked for than ever before, and is otherwise handed out again.
class Scratch {
 public:
  template <class T>
  T* get(index_t size) {
    static_assert(std::is_trivially_copyable_v<T>);
    const index_t bytes = size * static_cast<index_t>(sizeof(T));
    if (bytes > memory_.size()) memory_ = Buffer<std::byte>(bytes);
    return reinterpret_cast<T*>(memory_.data());
  }
  [[nodiscard]] index_t bytes() const { return memory_.size(); }

 private:
  Buffer<std::byte> memory_;
};

/// Memory of a team that kernels ask for by what it is for: at most one holder of each at a time.
enum class TeamMemory : std::uint8_t { packed, converted };
/// How many uses there are.
inline constexpr std::size_t team_memories = 2;

/// What the threads of one team share.
struct TeamState {
  /// What one thread has for itself, on cache lines of its own.
  struct alignas(64) Member {
    Scratch scratch;
    std::exception_ptr error;
    TraceLane* lane = nullptr;
    PartQueue parts;
  };

  explicit TeamState(int threads) : members(static_cast<std::size_t>(threads)) {}

  Barrier barrier;
  std::array<Scratch, team_memories> shared;
  std::vector<Member> members;
};

/// [0, n) in units of `grain`, a share for each worker of a team.
struct Shares {
  index_t n = 0;
  index_t grain = 1;
};

/// One thread of a team inside Team::run. Every worker runs the same code; calls marked collective are made by all.
class Worker {
 public:
  Worker(TeamState& team, int index, int count) : team_(&team), index_(index), count_(count) {}

  [[nodiscard]] int index() const { return index_; }
  [[nodiscard]] int count() const { return count_; }

  /// Collective. Returns when all workers have arrived; what they wrote before is visible to all after.
  void barrier() {
    const TraceScope scope(count_ > 1 ? lane() : nullptr, trace_barrier);
    team_->barrier.wait();
  }

  /// Where this thread writes down what it does; nullptr where nobody asked.
  [[nodiscard]] TraceLane* lane() const { return team_->members[static_cast<std::size_t>(index_)].lane; }

  /// This worker's part of [0, n), in units of `grain`.
  [[nodiscard]] Range share(index_t n, index_t grain = 1) const { return partition(n, count_, index_, grain); }
  [[nodiscard]] Range share(Shares shares) const { return share(shares.n, shares.grain); }

  /// Collective, and followed by a barrier. Calls f(Range) for parts of about `size` until all shares are worked
  /// through: a worker takes its own from the front, then what others have not begun from the back. For work that waits
  /// on memory, of which cores do not get the same; who takes a part must not matter to the result.
  template <class F>
  void each_part(Shares shares, index_t size, F&& f) {
    if (count_ == 1) return f(Range{0, shares.n});
    const auto part_of = [&](int worker, index_t part) {
      const Range share = partition(shares.n, count_, worker, shares.grain);
      return Range{share.begin + part * size, std::min(share.end, share.begin + (part + 1) * size)};
    };
    PartQueue& mine = queue(index_);
    mine.fill(ceil_div(share(shares).size(), size));
    while (const auto part = mine.take_first()) f(part_of(index_, *part));
    for (int i = 1; i < count_; ++i) {
      const int other = (index_ + i) % count_;
      while (const auto part = queue(other).take_last()) f(part_of(other, *part));
    }
  }

  /// Collective. Worker 0 runs `f` while the others wait.
  template <class F>
  void once(F&& f) {
    barrier();
    if (index_ == 0) std::forward<F>(f)();
    barrier();
  }

  /// Collective, where all workers have met since they last wrote what `f` reads, as they do at the end of a kernel:
  /// as once(), with one meeting less.
  template <class F>
  void once_after_kernel(F&& f) {
    if (index_ == 0) std::forward<F>(f)();
    barrier();
  }

  /// Memory of this worker alone, aligned to a cache line. Its contents are lost by the next call, so a kernel asks
  /// once.
  template <class T>
  [[nodiscard]] T* scratch(index_t size) {
    return team_->members[static_cast<std::size_t>(index_)].scratch.template get<T>(size);
  }

  /// Collective, with the same arguments. Memory of the whole team; lost by the next call for the same use, which may
  /// follow a barrier only.
  template <class T>
  [[nodiscard]] T* shared_scratch(index_t size, TeamMemory use = TeamMemory::packed) {
    Scratch& memory = team_->shared[static_cast<std::size_t>(use)];
    // All see the same size before the barrier, so all take the same branch.
    if (size * static_cast<index_t>(sizeof(T)) > memory.bytes()) {
      once([&] { static_cast<void>(memory.template get<T>(size)); });
    }
    return memory.template get<T>(size);
  }

 private:
  [[nodiscard]] PartQueue& queue(int worker) { return team_->members[static_cast<std::size_t>(worker)].parts; }

  TeamState* team_;
  int index_;
  int count_;
};

}  // namespace tessera
