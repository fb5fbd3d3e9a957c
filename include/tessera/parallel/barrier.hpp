#pragma once
// A barrier that spins, then sleeps, and lets everybody go when one of them fails.

#include <atomic>
#include <chrono>
#include <cstdint>
#include <thread>

namespace tessera {

/// Tells the core that this is a spin loop: it frees the pipeline for the other thread of the core.
inline void pause_in_spin() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("isb");
#endif
}

/// A barrier for a fixed number of threads, used over and over. Waiting spins for `spin`, then sleeps in the kernel;
/// with `spin` zero it sleeps at once, as it must where more threads than cores wait for each other.
class Barrier {
 public:
  /// Thrown out of wait() in every thread once abort() was called.
  struct Aborted {};

  /// Makes the barrier ready for `threads` threads; nobody may be waiting.
  void reset(int threads, std::chrono::nanoseconds spin) {
    threads_ = threads;
    spin_ = spin;
    missing_.store(threads, std::memory_order_relaxed);
    aborted_.store(false, std::memory_order_release);
  }

  /// Returns when all threads have called it. What any of them wrote before is visible to all after.
  void wait() {
    if (threads_ == 1) return;
    const std::uint32_t phase = phase_.load(std::memory_order_acquire);
    // Whoever reads the phase that abort() began sees its flag; whoever read an earlier one does not wait below.
    if (aborted_.load(std::memory_order_acquire)) throw Aborted{};
    if (missing_.fetch_sub(1, std::memory_order_acq_rel) == 1) {
      missing_.store(threads_, std::memory_order_relaxed);
      advance();
    } else if (phase_.load(std::memory_order_acquire) == phase && !passed_in_spin(phase)) {
      sleepers_.fetch_add(1);
      phase_.wait(phase);
      sleepers_.fetch_sub(1);
    }
    if (aborted_.load(std::memory_order_acquire)) throw Aborted{};
  }

  /// Releases everybody who waits or will wait, with Aborted.
  void abort() {
    aborted_.store(true);
    advance();
  }

 private:
  // The waking system call is made only where somebody sleeps: both orders are sequentially consistent, so either the
  // sleeper sees the new phase or we see the sleeper.
  void advance() {
    phase_.fetch_add(1);
    if (sleepers_.load() != 0) phase_.notify_all();
  }

  bool passed_in_spin(std::uint32_t phase) const {
    if (spin_.count() == 0) return false;
    const auto deadline = std::chrono::steady_clock::now() + spin_;
    do {
      for (int i = 0; i < 64; ++i) {
        if (phase_.load(std::memory_order_acquire) != phase) return true;
        pause_in_spin();
      }
    } while (std::chrono::steady_clock::now() < deadline);
    return false;
  }

  int threads_ = 1;
  std::chrono::nanoseconds spin_{0};
  alignas(64) std::atomic<std::uint32_t> phase_{0};
  std::atomic<int> sleepers_{0};
  std::atomic<bool> aborted_{false};
  alignas(64) std::atomic<int> missing_{0};
};

}  // namespace tessera
