#pragma once
// The one way to finish a started move: spin briefly, then sleep, never past a deadline.

#include <algorithm>
#include <chrono>
#include <thread>

#include <tessera/comm/collectives.hpp>

namespace tessera {

using WaitClock = std::chrono::steady_clock;

/// A transport that can block by itself (a condition variable, a futex) instead of being polled.
///
/// Law: `wait_until(ticket, deadline)` returns true when the move has finished, false when the deadline came first.
template <class C>
concept BlockingCollectives = Collectives<C> && requires(C& c, Ticket ticket, WaitClock::time_point deadline) {
  { c.wait_until(ticket, deadline) } -> std::same_as<bool>;
};

/// Finishes `ticket`; false when `deadline` came first (the move is then still under way).
///
/// Ranks with a core each meet within microseconds: spin that long. Ranks that share a core must leave it for the
/// others to arrive at all: sleep, an eighth of the time waited so far, so that sleeping adds little to any wait.
template <Collectives C>
[[nodiscard]] bool await(C& collectives, Ticket ticket, WaitClock::time_point deadline) {
  if constexpr (BlockingCollectives<C>) {
    return collectives.wait_until(ticket, deadline);
  } else {
    using namespace std::chrono_literals;
    constexpr auto spin = 50us;
    constexpr WaitClock::duration longest_sleep = 1ms;
    constexpr int tests_per_look = 16;  // reading the clock costs about as much as a test
    if (collectives.test(ticket)) return true;
    const auto start = WaitClock::now();
    for (;;) {
      for (int i = 0; i < tests_per_look; ++i)
        if (collectives.test(ticket)) return true;
      const auto now = WaitClock::now();
      if (now >= deadline) return false;
      if (now - start > spin) std::this_thread::sleep_for(std::min(longest_sleep, (now - start) / 8));
    }
  }
}

}  // namespace tessera
