#pragma once
// What each thread of a rank did, and when: written down only where somebody asks for it.
//
// A thread writes into a lane of its own, so nothing is locked; lanes are as long as they are made, so nothing is
// allocated. Code that may be traced has a TraceScope with the lane of its thread, which is nullptr where there is no
// trace: all that costs is that comparison.

#include <atomic>
#include <chrono>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include <tessera/core/buffer.hpp>

namespace tessera {

/// What an event of a trace is.
enum class TraceKind : std::uint8_t {
  layer,       ///< a decoder layer, or what a step does before and after them
  kernel,      ///< arithmetic
  start,       ///< an operation between ranks is started
  collective,  ///< and finished: from when this rank waits for it
  barrier,     ///< waiting for the other threads of this rank
};

/// What an event is about: a constant, to which events point.
struct TraceName {
  std::string_view text;
  TraceKind kind = TraceKind::kernel;
  std::string_view argument = {};  ///< what an event's number counts; empty: it has none
};

/// From begin to end in nanoseconds of trace_clock().
struct TraceEvent {
  const TraceName* name = nullptr;
  std::int64_t begin = 0;
  std::int64_t end = 0;
  index_t number = 0;
  std::uint64_t group = 0;  ///< of a collective: the same on all ranks that take part, and on no others
};

/// Nanoseconds since some moment.
using Nanoseconds = std::int64_t (*)();

/// Those of the steady clock.
[[nodiscard]] inline std::int64_t steady_nanoseconds() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

/// The clock that events are measured by: the steady one, unless a program whose time is not that of its machine has
/// put another in its place, before it measures anything.
inline std::atomic<Nanoseconds> trace_clock_source{&steady_nanoseconds};

/// Nanoseconds of the clock that events are measured by.
[[nodiscard]] inline std::int64_t trace_clock() { return trace_clock_source.load(std::memory_order_relaxed)(); }

/// The events of one thread, in the order in which they ended.
class TraceLane {
 public:
  explicit TraceLane(index_t capacity) : events_(capacity) {}

  void add(const TraceEvent& event) {
    if (!recording_) return;
    if (count_ == events_.size()) {
      ++lost_;
    } else {
      events_[count_++] = event;
    }
  }
  [[nodiscard]] bool recording() const { return recording_; }
  [[nodiscard]] std::span<const TraceEvent> events() const {
    return {events_.data(), static_cast<std::size_t>(count_)};
  }
  /// Events for which there was no room.
  [[nodiscard]] index_t lost() const { return lost_; }

 private:
  friend class Trace;
  Buffer<TraceEvent> events_;
  index_t count_ = 0;
  index_t lost_ = 0;
  bool recording_ = false;
};

/// The lanes of one rank, one for each thread. It records between record(true) and record(false), which are called
/// while no step is under way. It outlives whatever it was given to.
class Trace {
 public:
  static constexpr index_t usual_capacity = index_t{1} << 20;  ///< 40 MB a lane, taken as it fills

  explicit Trace(int threads, index_t capacity = usual_capacity) {
    lanes_.reserve(static_cast<std::size_t>(threads));
    for (int i = 0; i < threads; ++i) lanes_.emplace_back(capacity);
  }
  Trace(const Trace&) = delete;
  Trace& operator=(const Trace&) = delete;

  void record(bool on) {
    for (TraceLane& lane : lanes_) lane.recording_ = on;
  }
  void clear() {
    for (TraceLane& lane : lanes_) lane.count_ = lane.lost_ = 0;
  }
  [[nodiscard]] int threads() const { return static_cast<int>(lanes_.size()); }
  [[nodiscard]] TraceLane& lane(int thread) { return lanes_.at(static_cast<std::size_t>(thread)); }
  [[nodiscard]] const TraceLane& lane(int thread) const { return lanes_.at(static_cast<std::size_t>(thread)); }

 private:
  std::vector<TraceLane> lanes_;
};

/// An event that lasts as long as this object. `name` is a constant of static storage.
class TraceScope {
 public:
  TraceScope(TraceLane* lane, const TraceName& name, index_t number = 0) {
    if (lane == nullptr || !lane->recording()) return;
    lane_ = lane;
    event_ = {&name, trace_clock(), 0, number};
  }
  TraceScope(const TraceScope&) = delete;
  TraceScope& operator=(const TraceScope&) = delete;
  ~TraceScope() {
    if (lane_ == nullptr) return;
    event_.end = trace_clock();
    lane_->add(event_);
  }

 private:
  TraceLane* lane_ = nullptr;
  TraceEvent event_;
};

}  // namespace tessera
