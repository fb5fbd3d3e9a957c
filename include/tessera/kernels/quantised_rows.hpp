#pragma once
// Products in 8-bit integers for few tokens: rows of weights in blocks as they lie in memory. At one token this is the
// GEMV of decode, whose only limit is the rate at which weights arrive.
//
// W rows are summed at once: the 32-bit sums of their blocks are exact, and become a vector of W floats, one a row. So
// a result is the sum over blocks in order, of scale x scale x integer, whatever kernel and number of tokens.

#include <tessera/kernels/quantised_activations.hpp>
#include <tessera/simd/byte_dots.hpp>

namespace tessera {

namespace detail {

/// Scales (or minima) of W rows as f32, transposed: out[b * W + r], for blocks [begin, begin + W) of rows of `blocks`.
template <SimdBackend B, class RowAt>
void transpose_scales(const RowAt& scales_at, index_t begin, index_t blocks, float* out) {
  constexpr index_t W = B::width;
  const index_t n = std::min(W, blocks - begin);
  typename B::f32 square[B::width];
  for (index_t r = 0; r < W; ++r) {
    const f16_t* p = scales_at(r) + begin;
    square[r] = n == W ? B::load(p) : B::load_partial(p, n);
  }
  B::transpose(square);
  for (index_t b = 0; b < n; ++b) B::store(out + b * W, square[b]);
}

/// Sums of up to W rows from `first` on of `weight` times one token: out[r] of those that there are.
template <SimdBackend B, BlockFormat F, bool Whole>
[[gnu::noinline]] void dot_blocks(const QuantisedActivations& x, index_t token, const WeightView& weight, index_t first,
                                  float* out) {
  using D = ByteDots<B>;
  constexpr index_t W = B::width;
  constexpr index_t group = D::template row_blocks<F>;
  const index_t last = weight.rows - 1 - first;
  const auto clamped = [last](index_t r) { return Whole ? r : std::min(r, last); };
  const index_t row_bytes = bytes_of(F::dtype, weight.stride);
  const auto* integers = weight.row_as<std::uint8_t>(first);
  const f16_t* scales = weight.row_scales(first);
  const index_t scale_stride = weight.scale_stride();
  const index_t blocks = x.blocks();
  const float* x_scales = x.scales + token * blocks;
  const std::int32_t* x_sums = x.sums + token * blocks;
  constexpr index_t square = std::max<index_t>(W, group);  // blocks whose scales are transposed together
  float factors[square * W];
  float minima[F::planes > 1 ? square * W : 1];
  auto sum = B::zero();
  for (index_t begin = 0; begin < blocks; begin += square) {
    const index_t end = std::min(blocks, begin + square);
    for (index_t b = begin; b < end; b += W) {
      const auto scales_of = [&](index_t r) { return scales + clamped(r) * scale_stride; };
      transpose_scales<B>(scales_of, b, blocks, factors + (b - begin) * W);
      if constexpr (F::planes > 1) {
        const auto minima_of = [&](index_t r) { return scales_of(r) + weight.blocks_per_row(); };
        transpose_scales<B>(minima_of, b, blocks, minima + (b - begin) * W);
      }
    }
    for (index_t b = begin; b < end; b += group) {
      const index_t n = std::min(group, end - b);
      typename D::Sums sums[group];
      const auto row_at = [&](index_t r) {
        const std::uint8_t* p = integers + clamped(r) * row_bytes + b * F::bytes;
        // The view is a part of a matrix that this worker reads on: prefetching past its last row is right more often
        // than not, and never a fault.
        if constexpr (Whole) __builtin_prefetch(p + W * row_bytes, 0, 2);
        return p;
      };
      D::template row_sums<F>(row_at, x.at(token, b), x_sums + b, n, sums);
#pragma GCC unroll 4
      for (index_t i = 0; i < group; ++i) {
        if (i >= n) break;
        const auto x_scale = B::broadcast(x_scales[b + i]);
        const float* factor = factors + (b - begin + i) * W;
        sum = B::fma(D::to_float(sums[i]), B::mul(B::load(factor), x_scale), sum);
        if constexpr (F::planes > 1) {
          const auto x_sum = B::mul(x_scale, B::broadcast(static_cast<float>(x_sums[b + i])));
          sum = B::fma(B::load(minima + (b - begin + i) * W), x_sum, sum);
        }
      }
    }
  }
  B::store_partial(out, sum, std::min(W, last + 1));
}

}  // namespace detail

/// out[t * stride + r] = token t . row r of a weight in blocks of F, in 8-bit integers.
template <SimdBackend B, BlockFormat F>
void dot_quantised_rows(const QuantisedActivations& x, const WeightView& weight, float* out, index_t stride) {
  constexpr index_t W = B::width;
  for (index_t r = 0; r < weight.rows; r += W)
    for (index_t t = 0; t < x.rows; ++t) {
      if (r + W <= weight.rows) {
        detail::dot_blocks<B, F, true>(x, t, weight, r, out + t * stride + r);
      } else {
        detail::dot_blocks<B, F, false>(x, t, weight, r, out + t * stride + r);
      }
    }
}

}  // namespace tessera
