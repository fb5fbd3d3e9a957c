#pragma once
// Products with weights in blocks, computed in f32: a few rows are decoded into cache, then multiplied as f32 weights.

#include <algorithm>

#include <tessera/core/weight_format.hpp>
#include <tessera/kernels/gemm_dot.hpp>
#include <tessera/kernels/quantised_store.hpp>
#include <tessera/parallel/worker.hpp>

namespace tessera {

/// Rows that are decoded together: a row of the longest products of today's models, times this, stays in L2.
inline constexpr index_t decoded_rows = 8;

/// Collective. As multiply_floats(), for weights in blocks. Any number of tokens.
template <SimdBackend B, class ProductAt>
void multiply_decoded(Worker& worker, ConstActivations x, const ProductAt& product_at, index_t products,
                      Shares shares) {
  float* decoded = worker.scratch<float>(2 * decoded_rows * x.cols);
  float sums[2][dot_tokens_limit * decoded_rows];
  constexpr index_t chunk = 2 * block_grain;  // the least that has room for gate and up
  BlockSequence blocks(product_at, products, worker.share(shares), chunk);
  for (Product block = blocks.next(); block.rows() > 0; block = blocks.next()) {
    for (index_t row = 0; row < block.rows(); row += decoded_rows) {
      const Product part = block.row_range({row, std::min(block.rows(), row + decoded_rows)});
      const index_t rows = part.rows();
      for (index_t i = 0; i < part.weight.count; ++i)
        for (index_t r = 0; r < rows; ++r)
          decode_row(part.weight.pieces[static_cast<std::size_t>(i)], r, decoded + (i * decoded_rows + r) * x.cols);
      for (index_t first = 0; first < x.rows; first += dot_tokens_limit) {
        const Range tokens{first, std::min(x.rows, first + dot_tokens_limit)};
        for (index_t i = 0; i < part.weight.count; ++i)
          dot_rows<B>(x.row_range(tokens), {decoded + i * decoded_rows * x.cols, DType::f32, rows, x.cols, x.cols},
                      sums[i], decoded_rows);
        store_sums<B>(part, tokens, sums[0], sums[1], decoded_rows);
      }
    }
  }
}

}  // namespace tessera
