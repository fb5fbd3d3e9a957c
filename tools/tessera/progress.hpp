#pragma once
// How far a long job is: a bar that redraws itself on a terminal, a plain line now and then anywhere else.

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <string>

#include <tessera/core/types.hpp>

namespace tessera::tools {

/// What a job counts: a total is written as so many of a unit.
struct ProgressUnit {
  double size;
  int digits;
  const char* name;
  const char* rate;
};
inline constexpr ProgressUnit gigabytes{1e9, 2, "GB", "GB/s"};
inline constexpr ProgressUnit tokens{1, 0, "tokens", "tok/s"};

/// Counts from any thread; one thread draws on standard error.
class Progress {
 public:
  Progress(std::string label, index_t total, ProgressUnit unit = gigabytes)
      : label_(std::move(label)), total_(total), unit_(unit), terminal_(::isatty(STDERR_FILENO) == 1) {}
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  /// Leaves the cursor on a line of its own, whatever ended the job.
  ~Progress() { end_line(); }

  void add(index_t count) { done_ += count; }
  void advance_to(index_t count) { done_ = count; }
  [[nodiscard]] double seconds() const { return std::chrono::duration<double>(Clock::now() - begin_).count(); }

  /// Draws if it is time to: ten times a second on a terminal, every five seconds elsewhere.
  void show() { draw(terminal_ ? 0.1 : 5.0); }

  /// Draws the end of a job, where anything was drawn before, and ends the line.
  void finish() {
    if (drawn_) draw(0.0);
    end_line();
  }

 private:
  using Clock = std::chrono::steady_clock;

  void end_line() {
    if (drawn_ && terminal_) std::fputc('\n', stderr);
    drawn_ = false;
  }

  void draw(double interval) {
    const double now = seconds();
    if (now - shown_ < interval) return;
    shown_ = now;
    drawn_ = true;
    const auto done = static_cast<double>(done_.load());
    const auto total = static_cast<double>(std::max<index_t>(total_, 1));
    const double rate = now > 0 ? done / now : 0;
    const std::string figures = fmt::format(
        "{:5.1f} % of {:.{}f} {}, {:.{}f} {}, {}", 100 * done / total, total / unit_.size, unit_.digits, unit_.name,
        rate / unit_.size, unit_.digits, unit_.rate,
        done < total && rate > 0 ? fmt::format("{:.0f} s left", (total - done) / rate) : fmt::format("{:.1f} s", now));
    if (!terminal_) {
      fmt::print(stderr, "{}: {}\n", label_, figures);
      return;
    }
    constexpr int width = 24;
    const int filled = static_cast<int>(width * done / total);
    // \033[K clears what a longer line before has left.
    fmt::print(stderr, "\r{} [{:#<{}}{:.<{}}] {}\033[K", label_, "", filled, "", width - filled, figures);
    std::fflush(stderr);
  }

  std::string label_;
  index_t total_;
  ProgressUnit unit_;
  bool terminal_;
  std::atomic<index_t> done_ = 0;
  Clock::time_point begin_ = Clock::now();
  double shown_ = 0;
  bool drawn_ = false;
};

}  // namespace tessera::tools
