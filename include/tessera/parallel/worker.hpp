#pragma once
// What one thread of a team knows: its place, the barrier, its share of work, and memory kept between steps.

#include <algorithm>
#include <cstddef>
#include <exception>
#include <type_traits>
#include <utility>
#include <vector>

#include <tessera/core/buffer.hpp>
#include <tessera/parallel/barrier.hpp>

namespace tessera {

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

/// What the threads of one team share.
struct TeamState {
  struct alignas(64) Member {
    Scratch scratch;
    std::exception_ptr error;
  };

  explicit TeamState(int threads) : members(static_cast<std::size_t>(threads)) {}

  Barrier barrier;
  Scratch shared;
  std::vector<Member> members;
};

/// One thread of a team inside Team::run. Every worker runs the same code; calls marked collective are made by all.
class Worker {
 public:
  Worker(TeamState& team, int index, int count) : team_(&team), index_(index), count_(count) {}

  [[nodiscard]] int index() const { return index_; }
  [[nodiscard]] int count() const { return count_; }

  /// Collective. Returns when all workers have arrived; what they wrote before is visible to all after.
  void barrier() { team_->barrier.wait(); }

  /// This worker's part of [0, n), in units of `grain`.
  [[nodiscard]] Range share(index_t n, index_t grain = 1) const { return partition(n, count_, index_, grain); }

  /// Collective. Worker 0 runs `f` while the others wait.
  template <class F>
  void once(F&& f) {
    barrier();
    if (index_ == 0) std::forward<F>(f)();
    barrier();
  }

  /// Memory of this worker alone, aligned to a page. Its contents are lost by the next call, so a kernel asks once.
  template <class T>
  [[nodiscard]] T* scratch(index_t size) {
    return team_->members[static_cast<std::size_t>(index_)].scratch.template get<T>(size);
  }

  /// Collective, with the same size. Memory of the whole team; lost by the next call, which may follow a barrier only.
  template <class T>
  [[nodiscard]] T* shared_scratch(index_t size) {
    // All see the same size before the barrier, so all take the same branch.
    if (size * static_cast<index_t>(sizeof(T)) > team_->shared.bytes()) {
      once([&] { static_cast<void>(team_->shared.template get<T>(size)); });
    }
    return team_->shared.template get<T>(size);
  }

 private:
  TeamState* team_;
  int index_;
  int count_;
};

}  // namespace tessera
