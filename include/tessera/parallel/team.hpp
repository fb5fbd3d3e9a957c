#pragma once
// A rank's threads: they are started once and run one function all together (SPMD), again and again.

#include <atomic>
#include <chrono>
#include <exception>
#include <memory>
#include <utility>

#include <tessera/core/error.hpp>
#include <tessera/parallel/cores.hpp>
#include <tessera/parallel/worker.hpp>
#if defined(TESSERA_OPENMP)
#include <omp.h>
#else
#include <tessera/parallel/thread_pool.hpp>
#endif

namespace tessera {

// The two teams are different types: units compiled with and without OpenMP do not share one.
#if defined(TESSERA_OPENMP)
inline namespace openmp {
#else
inline namespace std_threads {
#endif

/// `threads` workers that run a function together. Any thread may own a team, many teams may exist at once (ranks
/// within one process); run() is called from one thread at a time. A team of one calls the function and starts nothing.
class Team {
 public:
  /// `cores` are those that the teams of this process may use; with more workers than that nobody spins while waiting.
  explicit Team(int threads, int cores = allowed_cores()) : threads_(threads), cores_(cores) {
    require(threads > 0, "team: expected at least one thread, found ", threads);
    state_ = std::make_unique<TeamState>(threads);
#if !defined(TESSERA_OPENMP)
    pool_ = std::make_unique<ThreadPool>(threads - 1);
#endif
    workers_alive() += threads;
  }
  /// What was moved from can only be destroyed or assigned to.
  Team(Team&& other) noexcept
      : threads_(std::exchange(other.threads_, 0)),
        cores_(other.cores_),
        state_(std::move(other.state_))
#if !defined(TESSERA_OPENMP)
        ,
        pool_(std::move(other.pool_))
#endif
  {
  }
  Team& operator=(Team&& other) noexcept {
    std::swap(threads_, other.threads_);
    std::swap(cores_, other.cores_);
    std::swap(state_, other.state_);
#if !defined(TESSERA_OPENMP)
    std::swap(pool_, other.pool_);
#endif
    return *this;
  }
  ~Team() { workers_alive() -= threads_; }

  [[nodiscard]] int threads() const { return threads_; }

  /// The workers write into the lanes of `trace` from now on, which outlives the team; it has one for each.
  void trace_to(Trace& trace) {
    require(trace.threads() == threads_, "trace: expected a lane for each of ", threads_, " threads, found ",
            trace.threads());
    for (int i = 0; i < threads_; ++i) state_->members[static_cast<std::size_t>(i)].lane = &trace.lane(i);
  }

  /// Calls f(Worker&) on every worker and returns when all have. An exception in one releases the others from their
  /// barriers and is thrown here (the lowest worker's, if there are several).
  template <class F>
  void run(F&& f) {
    if (threads_ == 1) {
      state_->barrier.reset(1, {});
      Worker worker(*state_, 0, 1);
      f(worker);
      return;
    }
    const bool crowded = workers_alive() > cores_;
    const std::chrono::nanoseconds spin = crowded ? std::chrono::nanoseconds(0) : spin_before_sleep;
#if defined(TESSERA_OPENMP)
#pragma omp parallel num_threads(threads_)
    {
      // The runtime may grant fewer threads than asked for: the team is as large as it says.
#pragma omp single
      state_->barrier.reset(omp_get_num_threads(), spin);
      guarded(f, omp_get_thread_num(), omp_get_num_threads());
    }
#else
    state_->barrier.reset(threads_, spin);
    pool_->run([&](int index) { guarded(f, index, threads_); });
#endif
    rethrow();
  }

 private:
  static constexpr std::chrono::microseconds spin_before_sleep{50};

  /// Workers of all teams of this process.
  static std::atomic<int>& workers_alive() {
    static std::atomic<int> count{0};
    return count;
  }

  template <class F>
  void guarded(F& f, int index, int count) noexcept {
    try {
      Worker worker(*state_, index, count);
      f(worker);
    } catch (const Barrier::Aborted&) {
      // Another worker failed and keeps the reason.
    } catch (...) {
      state_->members[static_cast<std::size_t>(index)].error = std::current_exception();
      state_->barrier.abort();
    }
  }

  void rethrow() {
    std::exception_ptr first;
    for (TeamState::Member& member : state_->members) {
      const std::exception_ptr error = std::exchange(member.error, nullptr);
      member.parts.clear();  // an error may have left some
      if (first == nullptr) first = error;
    }
    if (first != nullptr) std::rethrow_exception(first);
  }

  int threads_;
  int cores_;
  std::unique_ptr<TeamState> state_;
#if !defined(TESSERA_OPENMP)
  std::unique_ptr<ThreadPool> pool_;
#endif
};

}  // inline namespace

}  // namespace tessera
