#pragma once
// Ctrl-C as a question that a job asks between two steps, so that it can clean up before the signal ends the process.

#include <array>
#include <atomic>
#include <csignal>

#include <tessera/core/error.hpp>

namespace tessera::tools {

/// While it lives, SIGINT, SIGTERM and SIGHUP are remembered and not acted upon. One at a time.
class Interruption {
 public:
  Interruption() {
    pending_ = 0;
    struct sigaction action {};
    action.sa_handler = [](int number) { pending_ = number; };
    ::sigemptyset(&action.sa_mask);
    for (std::size_t i = 0; i < signals_.size(); ++i) {
      ::sigaction(signals_[i], nullptr, &before_[i]);
      // What was ignored stays ignored: so nohup and shells in the background have it.
      if (before_[i].sa_handler != SIG_IGN) ::sigaction(signals_[i], &action, nullptr);
    }
  }
  Interruption(const Interruption&) = delete;
  Interruption& operator=(const Interruption&) = delete;
  /// Gives the signals back as they were, and raises the one that came meanwhile.
  ~Interruption() {
    for (std::size_t i = 0; i < signals_.size(); ++i) ::sigaction(signals_[i], &before_[i], nullptr);
    if (const int number = pending_.exchange(0)) std::raise(number);
  }

  /// The signal that has come; 0 for none.
  [[nodiscard]] int pending() const { return pending_; }
  /// The signal has been acted upon: it is not raised again.
  void forget() { pending_ = 0; }

  /// Throws Error if a signal has come.
  void check() const { require(pending_ == 0, "interrupted"); }

 private:
  static constexpr std::array signals_ = {SIGINT, SIGTERM, SIGHUP};
  static inline std::atomic<int> pending_ = 0;
  static_assert(std::atomic<int>::is_always_lock_free);  // a handler may touch no other kind
  std::array<struct sigaction, signals_.size()> before_{};
};

}  // namespace tessera::tools
