#pragma once
// Weights brought into cache ahead of time, a few lines at a time while the rows before them are multiplied.

#include <algorithm>
#include <array>

#include <tessera/kernels/gemm_product.hpp>

namespace tessera {

/// Walks over the cache lines of a piece of a weight matrix, to prefetch them a few at a time.
class WeightPrefetch {
 public:
  WeightPrefetch() = default;
  explicit WeightPrefetch(const WeightView& piece)
      : line_(static_cast<const char*>(piece.data)),
        row_bytes_(piece.cols * bytes_of(piece.dtype)),
        stride_bytes_(piece.stride * bytes_of(piece.dtype)),
        rows_(piece.cols > 0 ? piece.rows : 0) {}

  [[nodiscard]] index_t lines() const { return rows_ * ceil_div(row_bytes_, cache_line); }
  [[nodiscard]] bool done() const { return rows_ == 0; }
  void next() {
    __builtin_prefetch(line_ + offset_, 0, 2);  // into L2: what it replaces in L1 is still in use
    offset_ += cache_line;
    if (offset_ < row_bytes_) return;
    offset_ = 0;
    line_ += stride_bytes_;
    --rows_;
  }

 private:
  static constexpr index_t cache_line = 64;
  const char* line_ = nullptr;
  index_t row_bytes_ = 0;
  index_t stride_bytes_ = 0;
  index_t rows_ = 0;
  index_t offset_ = 0;
};

/// Called by the tile now and then: prefetches the next pieces at a pace that finishes in time.
class PacedPrefetch {
 public:
  /// Spreads the lines of `next` (nullptr: nothing) over `ticks` calls.
  void start(const RowBlock* next, index_t ticks) {
    current_ = 0;
    walks_ = {};
    if (next == nullptr) return;
    index_t lines = 0;
    for (index_t i = 0; i < next->count; ++i) {
      walks_[static_cast<std::size_t>(i)] = WeightPrefetch(next->pieces[static_cast<std::size_t>(i)]);
      lines += walks_[static_cast<std::size_t>(i)].lines();
    }
    lines_per_tick_ = ceil_div(lines, std::max<index_t>(1, ticks));
  }
  void operator()() {
    for (index_t i = 0; i < lines_per_tick_; ++i) {
      while (walks_[current_].done()) {
        if (current_ == 1) return;
        ++current_;
      }
      walks_[current_].next();
    }
  }

 private:
  std::array<WeightPrefetch, 2> walks_;
  std::size_t current_ = 0;
  index_t lines_per_tick_ = 0;
};

}  // namespace tessera
