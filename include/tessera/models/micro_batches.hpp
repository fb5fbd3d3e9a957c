#pragma once
// A step cut in two: later rows of a sequence come in the second part, as if in a later step.

#include <array>
#include <vector>

#include <tessera/policies/step.hpp>

namespace tessera {

/// The two parts of a step. Memory is kept from one step to the next.
class MicroBatches {
 public:
  /// Rows below which cutting costs more than hiding gains: a product packs its weights once for each part.
  static constexpr index_t smallest_part = 32;

  explicit MicroBatches(index_t max_sequences, index_t max_rows) {
    for (Part& part : parts_) {
      part.segments.reserve(static_cast<std::size_t>(max_sequences));
      part.wanted.reserve(static_cast<std::size_t>(max_rows));
    }
  }

  /// Cuts `step` in the middle; false where the parts would be short, or one of them a step of decode.
  [[nodiscard]] bool cut(const Step& step) {
    const index_t middle = (step.rows + 1) / 2;
    if (step.rows < 2 * smallest_part) return false;
    for (Part& part : parts_) part.segments.clear(), part.wanted.clear();
    for (const Segment& s : step.segments) {
      const index_t before = std::clamp<index_t>(middle - s.row, 0, s.count);
      if (before > 0) parts_[0].segments.push_back({s.sequence, s.position, s.row, before});
      if (before < s.count)
        parts_[1].segments.push_back({s.sequence, s.position + before, s.row + before - middle, s.count - before});
    }
    for (const index_t row : step.wanted)
      parts_[row < middle ? 0 : 1].wanted.push_back(row < middle ? row : row - middle);
    parts_[0].rows = middle, parts_[1].rows = step.rows - middle;
    return !(*this)[0].is_decode() && !(*this)[1].is_decode();
  }

  [[nodiscard]] Step operator[](std::size_t i) const {
    return {parts_[i].segments, parts_[i].rows, parts_[i].wanted, true};
  }

 private:
  struct Part {
    std::vector<Segment> segments;
    std::vector<index_t> wanted;
    index_t rows = 0;
  };
  std::array<Part, 2> parts_;
};

}  // namespace tessera
