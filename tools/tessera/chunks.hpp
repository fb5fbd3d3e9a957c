#pragma once
// Many pieces of work on threads of their own, while the caller shows how far they are.

#include <atomic>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

namespace tessera::tools {

/// Calls work(0) ... work(count - 1) on `threads` threads; this thread calls `meanwhile` until they are done. The first
/// exception stops the others and is rethrown.
template <class Work, class Meanwhile>
void for_each_chunk(std::size_t count, int threads, Work work, Meanwhile meanwhile) {
  std::mutex mutex;
  std::condition_variable ended;
  int running = threads;
  std::exception_ptr first;
  std::atomic<std::size_t> next = 0;
  std::atomic<bool> stop = false;
  std::vector<std::jthread> team;
  team.reserve(static_cast<std::size_t>(threads));
  for (int t = 0; t < threads; ++t) {
    team.emplace_back([&] {
      std::exception_ptr caught;
      try {
        for (std::size_t i = next++; i < count && !stop; i = next++) work(i);
      } catch (...) {
        caught = std::current_exception();
        stop = true;
      }
      const std::lock_guard lock(mutex);
      if (!first) first = caught;
      --running;
      ended.notify_one();
    });
  }
  std::unique_lock lock(mutex);
  while (!ended.wait_for(lock, std::chrono::milliseconds(100), [&] { return running == 0; })) meanwhile();
  if (first) std::rethrow_exception(first);
}

}  // namespace tessera::tools
