#pragma once
// Threads for a team where there is no OpenMP: they sleep between two calls of run().

#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <system_error>
#include <thread>
#include <type_traits>
#include <vector>

#include <tessera/core/error.hpp>

namespace tessera {

/// A fixed number of threads that run one job together, again and again.
class ThreadPool {
 public:
  /// `threads` of them beside the one that calls run(). Throws Error where the system refuses some; none is left then.
  explicit ThreadPool(int threads) {
    threads_.reserve(static_cast<std::size_t>(threads));
    try {
      for (int i = 1; i <= threads; ++i) threads_.emplace_back([this, i] { serve(i); });
    } catch (const std::system_error& error) {
      end();
      fail("threads: expected ", threads, " beside the one that is there, the system refused more than ",
           threads_.size(), ": ", error.what());
    }
  }
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;
  ~ThreadPool() { end(); }

  /// Calls job(0) on this thread and job(1), job(2), ... on the others; returns when all have. The job must not throw.
  template <class Job>
  void run(Job&& job) {
    {
      const std::lock_guard lock(mutex_);
      job_ = [](void* context, int index) { (*static_cast<std::remove_reference_t<Job>*>(context))(index); };
      context_ = &job;
      unfinished_ = static_cast<int>(threads_.size());
      ++round_;
    }
    changed_.notify_all();
    job(0);
    std::unique_lock lock(mutex_);
    finished_.wait(lock, [this] { return unfinished_ == 0; });
  }

 private:
  void end() {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    changed_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }

  void serve(int index) {
    for (std::uint64_t seen = 0;; ++seen) {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] { return stopping_ || round_ != seen; });
      if (stopping_) return;
      lock.unlock();
      job_(context_, index);
      lock.lock();
      if (--unfinished_ == 0) finished_.notify_one();
    }
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::condition_variable finished_;
  void (*job_)(void*, int) = nullptr;
  void* context_ = nullptr;
  std::uint64_t round_ = 0;
  int unfinished_ = 0;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace tessera
