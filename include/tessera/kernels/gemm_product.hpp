#pragma once
// What a GEMM computes: products of the same activations with several weights, each row of them somebody's share.

#include <array>

#include <tessera/core/view.hpp>

namespace tessera {

/// Whether one kernel multiplies with both.
[[nodiscard]] inline bool same_kind(const WeightView& a, const WeightView& b) {
  return is_blocks(a.dtype) == is_blocks(b.dtype) && a.arithmetic == b.arithmetic &&
         (a.arithmetic != Arithmetic::bf16 || a.dtype == b.dtype);
}

/// Rows of one or two weights (gate and up) that are multiplied together: their sums go to one epilogue.
struct RowBlock {
  std::array<WeightView, 2> pieces;
  index_t count = 1;

  [[nodiscard]] RowBlock columns(Range k) const {
    RowBlock block = *this;
    for (std::size_t i = 0; i < static_cast<std::size_t>(count); ++i) block.pieces[i] = pieces[i].col_range(k);
    return block;
  }
};

/// out = x weight^T + bias (one piece), or silu(x gate^T) * (x up^T) (two).
struct Product {
  RowBlock weight;
  const float* bias = nullptr;  ///< [N], or nullptr
  Activations out;              ///< [T, N]

  [[nodiscard]] bool gated() const { return weight.count == 2; }
  [[nodiscard]] index_t rows() const { return weight.pieces[0].rows; }
  /// The product of some rows of the weights, into the same columns of the output.
  [[nodiscard]] Product row_range(Range r) const {
    Product part = *this;
    for (std::size_t i = 0; i < static_cast<std::size_t>(weight.count); ++i) {
      part.weight.pieces[i] = weight.pieces[i].row_range(r);
    }
    if (bias != nullptr) part.bias = bias + r.begin;
    part.out = out.col_range(r);
    return part;
  }
};

/// Blocks of rows end at multiples of this: whole cache lines of the output.
inline constexpr index_t block_grain = 16;

/// Products one after another as one long list of rows, of which `mine` is cut into blocks; a block lies within one
/// product.
template <class ProductAt>
class BlockSequence {
 public:
  /// `max_rows` counts the rows of both pieces of a gated product.
  BlockSequence(const ProductAt& product_at, index_t products, Range mine, index_t max_rows)
      : product_at_(&product_at), products_(products), mine_(mine), max_rows_(max_rows) {}

  /// The next block, or one of no rows at the end.
  [[nodiscard]] Product next() {
    while (product_ < products_) {
      const Product product = (*product_at_)(product_);
      const Range part = intersect(mine_, {offset_, offset_ + product.rows()});
      const index_t blocks = ceil_div(part.size(), max_rows_ / product.weight.count / block_grain * block_grain);
      if (block_ < blocks) {
        const Range r = partition(part.size(), blocks, block_++, block_grain);
        const index_t begin = part.begin - offset_;
        return product.row_range({begin + r.begin, begin + r.end});
      }
      offset_ += product.rows();
      block_ = 0;
      ++product_;
    }
    return {};
  }

 private:
  const ProductAt* product_at_;
  index_t products_;
  Range mine_;
  index_t max_rows_;
  index_t product_ = 0;
  index_t offset_ = 0;  // rows of the products before this one
  index_t block_ = 0;
};

}  // namespace tessera
