#pragma once
// What a policy asks of its communicators in a layer, as arithmetic: held to what is counted when it runs, printed by
// the planner.

#include <array>

#include <tessera/comm/wire_cost.hpp>
#include <tessera/policies/plan.hpp>
#include <tessera/policies/step.hpp>

namespace tessera {

/// Calls and payload of one rank, by kind of operation; payload as comm/recording.hpp counts it. What that puts on the
/// wire, where the ranks have even parts.
struct Traffic {
  /// Calls of one kind, and the bytes that they ask to move.
  struct Row {
    index_t calls = 0;
    index_t bytes = 0;
    friend constexpr bool operator==(const Row&, const Row&) = default;
  };
  std::array<Row, collective_kinds> rows{};
  WireCost wire;

  [[nodiscard]] constexpr const Row& operator[](Collective kind) const { return rows[static_cast<std::size_t>(kind)]; }

  /// Adds `calls` operations among `ranks` ranks that move `floats` floats in all.
  constexpr Traffic& add(Collective kind, index_t calls, index_t floats, index_t ranks) {
    Row& row = rows[static_cast<std::size_t>(kind)];
    const index_t bytes = floats * static_cast<index_t>(sizeof(float));
    row.calls += calls;
    row.bytes += bytes;
    if (calls > 0) wire += calls * wire_cost(kind, bytes / calls, ranks);
    if (kind == Collective::exchange && calls > 0) wire.bytes += bytes % calls;  // one is larger than another
    return *this;
  }
  constexpr Traffic& operator+=(const Traffic& more) {
    for (std::size_t i = 0; i < rows.size(); ++i)
      rows[i].calls += more.rows[i].calls, rows[i].bytes += more.rows[i].bytes;
    wire += more.wire;
    return *this;
  }
};

/// Positions that the cache already holds of the step's sequences.
[[nodiscard]] constexpr index_t past_of(const Step& step) {
  index_t past = 0;
  for (const Segment& s : step.segments) past += s.position;
  return past;
}

}  // namespace tessera
