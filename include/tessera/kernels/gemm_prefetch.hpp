#pragma once
// Which memory the tiles of a block prefetch: the weights of the block after it, and the lines that its results go to.

#include <algorithm>

#include <tessera/kernels/gemm_product.hpp>
#include <tessera/kernels/gemm_tile.hpp>

namespace tessera {

/// A list of segments in memory of the worker, spread over calls of multiply_tile.
class PrefetchList {
 public:
  explicit PrefetchList(const char** memory) : memory_(memory) {}

  void clear() { count_ = 0; }
  /// Adds rows of `row_bytes`, `stride_bytes` apart.
  void add(const void* first, index_t rows, index_t row_bytes, index_t stride_bytes) {
    const auto* row = static_cast<const char*>(first);
    for (index_t r = 0; r < rows; ++r, row += stride_bytes) {
      for (index_t i = 0; i < row_bytes; i += PrefetchPace::prefetch_bytes) memory_[count_++] = row + i;
    }
  }
  void add(const RowBlock& block) {
    for (std::size_t i = 0; i < static_cast<std::size_t>(block.count); ++i) {
      const WeightView& piece = block.pieces[i];
      const index_t bytes = bytes_of(piece.dtype);
      add(piece.data, piece.rows, piece.cols * bytes, piece.stride * bytes);
    }
  }

  /// Spreads the list over `calls` of `depth` steps each.
  void start(index_t calls, index_t depth) {
    const index_t per_call = std::clamp<index_t>(ceil_div(count_, calls), 1, std::max<index_t>(1, depth));
    interval_ = std::max<index_t>(1, depth / per_call);
    per_call_ = ceil_div(depth, interval_);
    // What is left of the last call repeats something that is there.
    const char* here = reinterpret_cast<const char*>(memory_);
    std::fill_n(memory_ + count_, per_call_, here);
    next_ = 0;
  }
  /// For the next call.
  PrefetchPace take() {
    const PrefetchPace pace{memory_ + std::min(next_, count_), interval_};
    next_ += per_call_;
    return pace;
  }

  /// Pointers that a list needs for `segments` and calls of at most `depth` steps.
  static index_t size(index_t segments, index_t depth) { return segments + depth; }

 private:
  const char** memory_;
  index_t count_ = 0;
  index_t next_ = 0;
  index_t per_call_ = 1;
  index_t interval_ = 1;
};

}  // namespace tessera
