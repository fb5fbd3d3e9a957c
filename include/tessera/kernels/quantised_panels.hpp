#pragma once
// Products in 8-bit integers for many tokens: a panel of rows of weights is transposed into L1 in units of four bytes,
// and all tokens pass by. The sums of a block are exact and are added in the order of the blocks, as in
// quantised_rows.hpp: a result has the same bits, whatever the number of tokens.

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include <tessera/kernels/quantised_rows.hpp>

namespace tessera {

/// Sizes of the register tile, and of the panel that it passes along.
template <SimdBackend B>
struct QuantisedShape {
  /// Vectors of rows, and tokens: for each pair an integer and a float sum, the weights, a unit of x and a product.
  static constexpr int vectors = B::registers >= 32 ? 2 : 1;
  static constexpr int tokens = B::registers >= 32 ? 6 : 4;
  static constexpr index_t rows = vectors * B::width;
  /// Columns that a panel holds: half of 32 KiB of L1 with 32 rows.
  static constexpr index_t depth = 512;
  static constexpr index_t blocks = depth / weight_block;
};

/// A panel of up to QuantisedShape<B>::rows rows and QuantisedShape<B>::depth columns; rows that are missing are copies
/// of the last.
template <SimdBackend B>
struct QuantisedPanel {
  using Shape = QuantisedShape<B>;
  alignas(64) std::int8_t integers[Shape::depth * Shape::rows];  ///< [depth / 4][rows][4], as ByteDots takes them
  alignas(64) float scales[Shape::blocks * Shape::rows];         ///< [block][rows]
  alignas(64) float minima[Shape::blocks * Shape::rows];
};

namespace detail {

// Four bytes travel through a transpose as one float. The vectors' loads and stores may alias anything; a float may
// not.
template <SimdBackend B>
typename B::f32 load_units(const std::int8_t* bytes, index_t units) {
  if constexpr (B::width == 1) {
    float unit = 0;
    std::memcpy(&unit, bytes, sizeof unit);
    return unit;
  } else {
    const auto* p = reinterpret_cast<const float*>(bytes);
    return units == B::width ? B::load(p) : B::load_partial(p, units);
  }
}
template <SimdBackend B>
void store_units(std::int8_t* bytes, typename B::f32 units) {
  if constexpr (B::width == 1) {
    std::memcpy(bytes, &units, sizeof units);
  } else {
    B::store(reinterpret_cast<float*>(bytes), units);
  }
}

/// Fills a panel with rows from `first` on and blocks [begin, end) of a weight; `expanded` has room for its integers.
template <SimdBackend B, BlockFormat F>
void pack_panel(const WeightView& weight, index_t first, index_t vectors, Range blocks, std::int8_t* expanded,
                QuantisedPanel<B>& panel) {
  using D = ByteDots<B>;
  constexpr index_t W = B::width;
  const index_t depth = blocks.size() * weight_block;
  const index_t rows = vectors * W;
  for (index_t v = 0; v < vectors; ++v) {
    const auto row_of = [&](index_t r) { return std::min(first + v * W + r, weight.rows - 1); };
    std::array<const std::int8_t*, static_cast<std::size_t>(W)> bytes;
    for (index_t r = 0; r < W; ++r) {
      const auto* row = weight.row_as<std::uint8_t>(row_of(r)) + blocks.begin * F::bytes;
      if constexpr (F::dtype == DType::int8_blocks) {
        bytes[static_cast<std::size_t>(r)] = reinterpret_cast<const std::int8_t*>(row);
      } else {
        std::int8_t* to = expanded + r * (QuantisedShape<B>::depth + 64);  // not a power of two apart
        for (index_t b = 0; b < blocks.size(); ++b) unpack_block<F>(row + b * F::bytes, to + b * weight_block);
        bytes[static_cast<std::size_t>(r)] = to;
      }
    }
    for (index_t k = 0; k < depth; k += 4 * W) {
      typename B::f32 square[B::width];
      const index_t units = std::min(W, (depth - k) / 4);
      for (index_t r = 0; r < W; ++r) {
        square[r] = load_units<B>(bytes[static_cast<std::size_t>(r)] + k, units);
      }
      B::transpose(square);
      for (index_t i = 0; i < W; ++i) {
        std::int8_t* to = panel.integers + (k + 4 * i) * rows + v * W * 4;
        store_units<B>(to, square[i]);
        D::store(to, D::as_weights(D::load(to)));
      }
    }
    const auto scales_at = [&](index_t r) { return weight.row_scales(row_of(r)); };
    for (index_t b = 0; b < blocks.size(); b += W) {
      float square[W * W] = {};  // not all of it is filled where blocks end
      const index_t n = std::min(W, blocks.size() - b);
      const auto spread = [&](float* to) {
        for (index_t i = 0; i < n; ++i) B::store(to + (b + i) * rows + v * W, B::load(square + i * W));
      };
      transpose_scales<B>(scales_at, blocks.begin + b, blocks.end, square);
      spread(panel.scales);
      if constexpr (F::planes > 1) {
        const auto minima_at = [&](index_t r) { return scales_at(r) + weight.blocks_per_row(); };
        transpose_scales<B>(minima_at, blocks.begin + b, blocks.end, square);
        spread(panel.minima);
      }
    }
  }
}

/// sums[t * stride + r] (+)= panel . tokens, blocks [begin, end) of x: adds where begin > 0, else overwrites.
template <SimdBackend B, BlockFormat F, int Vectors, int Tokens>
[[gnu::noinline]] void multiply_quantised_tile(const QuantisedPanel<B>& panel, const QuantisedActivations& x,
                                               Range blocks, float* sums, index_t stride) {
  using D = ByteDots<B>;
  constexpr index_t W = B::width;
  constexpr index_t rows = Vectors * W;
  typename B::f32 sum[Tokens][Vectors];
#pragma GCC unroll 8
  for (int t = 0; t < Tokens; ++t)
#pragma GCC unroll 2
    for (int v = 0; v < Vectors; ++v) sum[t][v] = blocks.begin == 0 ? B::zero() : B::load(sums + t * stride + v * W);
  const std::int8_t* weights = panel.integers;
  const float* scales = panel.scales;
  const float* minima = panel.minima;
  for (index_t b = blocks.begin; b < blocks.end; ++b, scales += rows, minima += rows) {
    typename D::Sums dots[Tokens][Vectors];
#pragma GCC unroll 8
    for (int t = 0; t < Tokens; ++t)
#pragma GCC unroll 2
      for (int v = 0; v < Vectors; ++v) dots[t][v] = D::start(x.sums[t * x.blocks() + b]);
    const std::int8_t* from = x.at(0, b);
#pragma GCC unroll 8
    for (index_t k = 0; k < weight_block; k += 4, weights += 4 * rows) {
      typename D::Bytes weight[Vectors];
#pragma GCC unroll 2
      for (int v = 0; v < Vectors; ++v) weight[v] = D::load(weights + v * W * 4);
#pragma GCC unroll 8
      for (int t = 0; t < Tokens; ++t) {
        const auto unit = D::broadcast(from + t * x.cols + k);
#pragma GCC unroll 2
        for (int v = 0; v < Vectors; ++v) dots[t][v] = D::dot(dots[t][v], weight[v], unit);
      }
    }
#pragma GCC unroll 8
    for (int t = 0; t < Tokens; ++t) {
      const float x_scale = x.scales[t * x.blocks() + b];
      const auto factor = B::broadcast(x_scale);
#pragma GCC unroll 2
      for (int v = 0; v < Vectors; ++v) {
        sum[t][v] = B::fma(D::to_float(dots[t][v]), B::mul(B::load(scales + v * W), factor), sum[t][v]);
        if constexpr (F::planes > 1) {
          const auto x_sum = B::mul(factor, B::broadcast(static_cast<float>(x.sums[t * x.blocks() + b])));
          sum[t][v] = B::fma(B::load(minima + v * W), x_sum, sum[t][v]);
        }
      }
    }
  }
#pragma GCC unroll 8
  for (int t = 0; t < Tokens; ++t)
#pragma GCC unroll 2
    for (int v = 0; v < Vectors; ++v) B::store(sums + t * stride + v * W, sum[t][v]);
}

template <SimdBackend B>
using QuantisedTile = void (*)(const QuantisedPanel<B>& panel, const QuantisedActivations& x, Range blocks, float* sums,
                               index_t stride);

template <SimdBackend B, BlockFormat F, int Vectors, int... Less>
consteval auto table_of_quantised_tiles(std::integer_sequence<int, Less...>) {
  return std::array{QuantisedTile<B>(&multiply_quantised_tile<B, F, Vectors, Less + 1>)...};
}

template <SimdBackend B, BlockFormat F, int Vectors>
QuantisedTile<B> quantised_tile_for(index_t tokens) {
  static constexpr auto table =
      table_of_quantised_tiles<B, F, Vectors>(std::make_integer_sequence<int, QuantisedShape<B>::tokens>());
  return table[static_cast<std::size_t>(tokens - 1)];
}

}  // namespace detail

/// out[t * stride + r] = token t . row r of a weight in blocks of F, in 8-bit integers. `stride` has room for rows in
/// whole panels; `panel` is memory of this worker.
template <SimdBackend B, BlockFormat F>
void multiply_quantised_panels(const QuantisedActivations& x, const WeightView& weight, QuantisedPanel<B>& panel,
                               float* out, index_t stride) {
  using Shape = QuantisedShape<B>;
  constexpr index_t W = B::width;
  std::int8_t expanded[F::dtype == DType::int8_blocks ? 1 : W * (Shape::depth + 64)];
  const index_t parts = ceil_div(x.rows, index_t{Shape::tokens});
  for (index_t row = 0; row < weight.rows; row += Shape::rows) {
    const index_t vectors = std::min<index_t>(Shape::vectors, ceil_div(weight.rows - row, W));
    for (index_t begin = 0; begin < x.blocks(); begin += Shape::blocks) {
      const Range blocks{begin, std::min(x.blocks(), begin + Shape::blocks)};
      detail::pack_panel<B, F>(weight, row, vectors, blocks, expanded, panel);
      for (index_t part = 0; part < parts; ++part) {
        const Range t = partition(x.rows, parts, part);
        const auto tile = vectors == 1 ? detail::quantised_tile_for<B, F, 1>(t.size())
                                       : detail::quantised_tile_for<B, F, Shape::vectors>(t.size());
        tile(panel, x.row_range(t), blocks, out + t.begin * stride + row, stride);
      }
    }
  }
}

}  // namespace tessera
