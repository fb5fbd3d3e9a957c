#pragma once
// Sums of products with weights in blocks on their way out.

#include <algorithm>

#include <tessera/kernels/gemm_epilogue.hpp>
#include <tessera/kernels/gemm_product.hpp>

namespace tessera {

/// Stores sums[t * stride + r] of the tokens `tokens` of a product, with its bias; of a gated one silu(sums) * ups.
template <SimdBackend B>
void store_sums(const Product& product, Range tokens, const float* sums, const float* ups, index_t stride) {
  constexpr index_t W = B::width;
  const index_t rows = product.rows();
  for (index_t t = 0; t < tokens.size(); ++t) {
    float* out = product.out.row(tokens.begin + t);
    for (index_t r = 0; r < rows; r += W) {
      const index_t n = std::min(W, rows - r);
      auto v = B::load_partial(sums + t * stride + r, n);
      if (product.gated()) {
        v = silu_multiply<B>(v, B::load_partial(ups + t * stride + r, n));
      } else if (product.bias != nullptr) {
        v = B::add(v, B::load_partial(product.bias + r, n));
      }
      B::store_partial(out + r, v, n);
    }
  }
}

}  // namespace tessera
