#pragma once
// How long an operation may wait for other ranks, and what is said when that was not enough.

#include <algorithm>
#include <atomic>
#include <chrono>

#include <tessera/comm/await.hpp>
#include <tessera/comm/operations.hpp>

namespace tessera::detail {

/// The timeout of one communicator, 0 for ever.
class Deadline {
 public:
  [[nodiscard]] double seconds() const { return seconds_; }
  /// May be called while another thread waits in finish(), which then observes it.
  void set(double seconds) { seconds_ = seconds; }

  /// Returns when the move `ticket` of a `kind` of `bytes` bytes has finished; throws Error at the deadline.
  template <Collectives C>
  void finish(C& collectives, Ticket ticket, Collective kind, index_t bytes) const {
    using Seconds = std::chrono::duration<double>;
    constexpr auto look = std::chrono::milliseconds(100);
    const auto begin = WaitClock::now();
    for (;;) {
      const double timeout = seconds_;
      const auto deadline = timeout > 0 && timeout < 1e9
                                ? begin + std::chrono::duration_cast<WaitClock::duration>(Seconds(timeout))
                                : WaitClock::time_point::max();
      if (await(collectives, ticket, std::min(deadline, WaitClock::now() + look))) return;
      if (WaitClock::now() < deadline) continue;
      if constexpr (AbandonableCollectives<C>) collectives.abandon(ticket);
      fail(name_of(kind), " of ", bytes, " bytes: rank ", collectives.rank(), " of ", collectives.size(), " (",
           collectives.name(), ") waited ", timeout,
           " s for the others; a rank is lost, stopped or in another collective");
    }
  }

 private:
  std::atomic<double> seconds_{600};
};

}  // namespace tessera::detail
