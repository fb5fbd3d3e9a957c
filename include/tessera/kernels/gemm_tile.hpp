#pragma once
// The register tile of the GEMM: a few rows of weights times a few vectors of tokens, summed in registers.
//
// Vectors run along tokens, and a weight is broadcast. So weights, of which there are many, are only widened, and
// tokens, of which there are few, are transposed. The other way round every panel of weights would be transposed in
// each call: 64 shuffles for 256 weights on AVX-512 where widening takes 32 instructions.

#include <algorithm>
#include <array>
#include <utility>

#include <tessera/core/types.hpp>
#include <tessera/simd/backend.hpp>

namespace tessera {

/// Sizes of the register tile that the registers of backend B allow.
template <SimdBackend B>
struct TileShape {
  /// Vectors of tokens: each broadcast weight is used so many times.
  static constexpr int vectors = 2;
  /// Rows of weights. Four registers stay free of sums: the tokens, the broadcast weight, and a product where fma is
  /// two instructions. Even, so that tiles of fewer rows come in half as many sizes.
  static constexpr int rows = (B::registers - 4) / vectors / 2 * 2;
  /// Tokens in a full panel.
  static constexpr index_t tokens = vectors * B::width;
};

/// Steps of k between two calls of `tick` in multiply_tile.
inline constexpr index_t steps_per_tick = 8;

/// sums[r][j] (+)= sum over k of rows[r * RowStride + k] * tokens[k * Vectors * W + j], r < Rows, j < Vectors * W: adds
/// where `add`, else overwrites. Calls tick() every few steps: the place to prefetch what comes next.
template <SimdBackend B, int Rows, int Vectors, index_t RowStride, class Tick>
[[gnu::noinline]] void multiply_tile(const float* tokens, const float* rows, index_t depth, float* sums, bool add,
                                     Tick& tick) {
  constexpr index_t W = B::width;
  typename B::f32 sum[Rows][Vectors];
#pragma GCC unroll 32
  for (int r = 0; r < Rows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) sum[r][v] = B::zero();
  }
  for (index_t k = 0; k < depth;) {
    const index_t end = std::min(depth, k + steps_per_tick);
    for (; k < end; ++k) {
      typename B::f32 token[Vectors];
#pragma GCC unroll 4
      for (int v = 0; v < Vectors; ++v) token[v] = B::load(tokens + v * W);
#pragma GCC unroll 32
      for (int r = 0; r < Rows; ++r) {
        const auto weight = B::broadcast(rows[r * RowStride]);
#pragma GCC unroll 4
        for (int v = 0; v < Vectors; ++v) sum[r][v] = B::fma(weight, token[v], sum[r][v]);
      }
      tokens += Vectors * W;
      rows += 1;
    }
    tick();
  }
#pragma GCC unroll 32
  for (int r = 0; r < Rows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) {
      float* place = sums + (r * Vectors + v) * W;
      B::store(place, add ? B::add(B::load(place), sum[r][v]) : sum[r][v]);
    }
  }
}

template <class Tick>
using MultiplyTile = void (*)(const float* tokens, const float* rows, index_t depth, float* sums, bool add, Tick& tick);

/// The tile for `rows` (even, 2 to TileShape<B>::rows) and `vectors` (1 or 2).
template <SimdBackend B, index_t RowStride, class Tick>
MultiplyTile<Tick> tile_for(index_t rows, index_t vectors) {
  static constexpr auto table = []<int... Half>(std::integer_sequence<int, Half...>) {
    return std::array{std::array<MultiplyTile<Tick>, 2>{&multiply_tile<B, 2 * Half + 2, 1, RowStride, Tick>,
                                                        &multiply_tile<B, 2 * Half + 2, 2, RowStride, Tick>}...};
  }
  (std::make_integer_sequence<int, TileShape<B>::rows / 2>());
  return table[static_cast<std::size_t>(rows / 2 - 1)][static_cast<std::size_t>(vectors - 1)];
}

}  // namespace tessera
