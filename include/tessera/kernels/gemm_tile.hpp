#pragma once
// The register tile of the GEMM: a few rows of weights times a few vectors of tokens, summed in registers.
//
// Vectors run along tokens, and a weight is broadcast. So weights, of which there are many, are only widened, and
// tokens, of which there are few, are transposed. The other way round every panel of weights would be transposed in
// each call: 64 shuffles for 256 weights on AVX-512 where widening takes 32 instructions.

#include <algorithm>
#include <array>
#include <utility>

#include <tessera/kernels/gemm_shape.hpp>

namespace tessera {

/// Segments of memory, of prefetch_bytes each, that a tile prefetches one by one: the next after every `interval`
/// steps.
struct PrefetchPace {
  static constexpr index_t prefetch_bytes = 512;

  const char* const* next = nullptr;
  index_t interval = 1;

  [[gnu::always_inline]] void prefetch_one() {
    const char* segment = *next++;
    // Into L2: what it would replace in L1 is still in use. Whole segments, because a prefetch here and there costs the
    // loop around it more than its share: scalar instructions compete with fma for two of the ports.
#pragma GCC unroll 8
    for (index_t i = 0; i < prefetch_bytes; i += 64) __builtin_prefetch(segment + i, 0, 2);
  }
};

/// sums[r][j] (+)= sum over k of rows[r * RowStride + k] * tokens[k * Vectors * W + j], r < Rows, j < Vectors * W: adds
/// where `add`, else overwrites. Prefetches ceil(depth / pace.interval) segments on its way.
template <SimdBackend B, int Rows, int Vectors, index_t RowStride>
[[gnu::noinline]] void multiply_tile(const float* tokens, const float* rows, index_t depth, float* sums, bool add,
                                     PrefetchPace pace) {
  constexpr index_t W = B::width;
  typename B::f32 sum[Rows][Vectors];
#pragma GCC unroll 32
  for (int r = 0; r < Rows; ++r) {
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) sum[r][v] = B::zero();
  }
  for (index_t k = 0; k < depth;) {
    const index_t end = std::min(depth, k + pace.interval);
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
    pace.prefetch_one();
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

using MultiplyTile = void (*)(const float* tokens, const float* rows, index_t depth, float* sums, bool add,
                              PrefetchPace pace);

template <SimdBackend B, index_t RowStride, int... Half>
consteval auto table_of_tiles(std::integer_sequence<int, Half...>) {
  return std::array{std::array<MultiplyTile, 2>{&multiply_tile<B, 2 * Half + 2, 1, RowStride>,
                                                &multiply_tile<B, 2 * Half + 2, 2, RowStride>}...};
}

/// The tile for `rows` (even, 2 to TileShape<B>::rows) and `vectors` (1 or 2).
template <SimdBackend B, index_t RowStride>
MultiplyTile tile_for(index_t rows, index_t vectors) {
  static constexpr auto table = table_of_tiles<B, RowStride>(std::make_integer_sequence<int, TileShape<B>::rows / 2>());
  return table[static_cast<std::size_t>(rows / 2 - 1)][static_cast<std::size_t>(vectors - 1)];
}

}  // namespace tessera
