#pragma once
// Products with weights that are numbers one by one, in f32: dot products for few tokens, panels for many.

#include <tessera/kernels/gemm_dot.hpp>
#include <tessera/kernels/gemm_panels.hpp>

namespace tessera {

/// Tokens up to which dot products are faster than panels. Measured on Zen 4 with vectors of 8 and of 16 floats: dot
/// products keep 70 to 75 % of the FMA peak from 6 tokens on; panels, whose last one is padded to whole vectors, 43 %
/// at 17 tokens, 65 % at 24 and 86 % at 32.
template <SimdBackend B>
inline constexpr index_t dot_tokens = 24;

/// Collective. The products of x with all rows of the products, of which `shares` gives each worker its own.
template <SimdBackend B, class ProductAt>
void multiply_floats(Worker& worker, ConstActivations x, const ProductAt& product_at, index_t products, Shares shares) {
  if (x.rows <= dot_tokens<B>) {
    worker.each_part(shares, dot_part, [&](Range rows) { multiply_dots<B>(x, product_at, products, rows); });
  } else {
    multiply_panels<B>(worker, x, product_at, products, worker.share(shares));
  }
}

}  // namespace tessera
