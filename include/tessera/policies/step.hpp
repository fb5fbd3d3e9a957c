#pragma once
// What a step computes: tokens of any mix of sequences, each at its own position (a ragged batch).

#include <algorithm>
#include <span>

#include <tessera/core/types.hpp>

namespace tessera {

/// Consecutive tokens of one sequence: rows [row, row + count) of the step are positions position, position + 1, ...
struct Segment {
  index_t sequence = 0;  ///< slot of the cache
  index_t position = 0;  ///< how many positions the cache already holds
  index_t row = 0;
  index_t count = 0;
};

/// Segments tile the step's rows in order; no sequence occurs twice.
struct Step {
  std::span<const Segment> segments;
  index_t rows = 0;
  std::span<const index_t> wanted;  ///< rows whose logits are asked for, ascending
  bool is_micro_batch = false;      ///< another one of the same step is computed while this one's sums travel

  /// One new token for every sequence: the phase in which weights, not tokens, are worth splitting.
  [[nodiscard]] bool is_decode() const {
    return std::all_of(segments.begin(), segments.end(), [](const Segment& s) { return s.count == 1; });
  }
};

}  // namespace tessera
