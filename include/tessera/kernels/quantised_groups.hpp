#pragma once
// Products in 8-bit integers with groups of 16 rows of weights in blocks, as they lie in memory: a unit of four bytes
// of all rows is multiplied by four activations of each token, broadcast. For one token this is the GEMV of decode,
// whose only limit is the rate at which weights arrive; for many, a few groups stay in cache while all tokens pass by.
//
// The sums of a block are exact in 32 bits, and are added in f32 in the order of the blocks, as scale x scale x
// integer: a result has the same bits, whatever the number of tokens.

#include <algorithm>
#include <array>
#include <utility>

#include <tessera/kernels/quantised_activations.hpp>
#include <tessera/simd/byte_dots.hpp>

namespace tessera {

/// Sizes of the register tile.
template <SimdBackend B>
struct GroupShape {
  /// Vectors of rows that make a group.
  static constexpr int vectors = static_cast<int>(group_rows / B::width);
  /// Tokens: for each an integer sum in every vector.
  static constexpr int tokens = std::max(1, (B::registers >= 32 ? 12 : 8) / vectors);
};

namespace detail {

/// sums[t * stride + r] = token t . row r of the group that `integers` and `scales` are of.
template <SimdBackend B, BlockFormat F, int Tokens>
[[gnu::noinline]] void multiply_group(const std::uint8_t* integers, const f16_t* scales, const QuantisedActivations& x,
                                      float* sums, index_t stride) {
  using D = ByteDots<B>;
  constexpr index_t W = B::width;
  constexpr int vectors = GroupShape<B>::vectors;
  constexpr index_t unit_bytes = 4 * group_rows;
  typename B::f32 sum[Tokens][vectors];
#pragma GCC unroll 16
  for (int t = 0; t < Tokens; ++t)
#pragma GCC unroll 16
    for (int v = 0; v < vectors; ++v) sum[t][v] = B::zero();
  for (index_t b = 0; b < x.blocks(); ++b) {
    typename D::Sums dots[Tokens][vectors];
#pragma GCC unroll 16
    for (int t = 0; t < Tokens; ++t)
#pragma GCC unroll 16
      for (int v = 0; v < vectors; ++v) dots[t][v] = D::template sums_from<F>(x.starts[t * x.blocks() + b]);
    const std::int8_t* from = x.at(0, b);
    const auto add_products = [&](const typename D::Bytes(&weights)[vectors], index_t k) {
#pragma GCC unroll 16
      for (int t = 0; t < Tokens; ++t) {
        const auto unit = D::broadcast(from + t * x.cols + k);
#pragma GCC unroll 16
        for (int v = 0; v < vectors; ++v) dots[t][v] = D::template dot<F>(dots[t][v], weights[v], unit);
      }
    };
    const auto add_unit = [&](index_t u) {
      typename D::Bytes weights[vectors];
#pragma GCC unroll 16
      for (int v = 0; v < vectors; ++v) weights[v] = D::load(integers + u * unit_bytes + v * W * 4);
      if constexpr (F::dtype == DType::int8_blocks) {
#pragma GCC unroll 16
        for (int v = 0; v < vectors; ++v) weights[v] = D::as_weights(weights[v]);
        add_products(weights, 4 * u);
      } else {
        typename D::Bytes half[vectors];
#pragma GCC unroll 16
        for (int v = 0; v < vectors; ++v) half[v] = D::low_halves(weights[v]);
        add_products(half, 4 * u);
#pragma GCC unroll 16
        for (int v = 0; v < vectors; ++v) half[v] = D::high_halves(weights[v]);
        add_products(half, 4 * u + weight_block / 2);
      }
    };
    constexpr index_t units = F::bytes / 4;
    if constexpr (D::one_instruction) {
#pragma GCC unroll 8
      for (index_t u = 0; u < units; ++u) add_unit(u);
    } else {
      // Unrolled any further, GCC would sum products in a tree, which takes more registers than there are.
#pragma GCC unroll 2
      for (index_t u = 0; u < units; ++u) add_unit(u);
    }
#pragma GCC unroll 16
    for (int t = 0; t < Tokens; ++t) {
      const auto x_scale = B::broadcast(x.scales[t * x.blocks() + b]);
#pragma GCC unroll 16
      for (int v = 0; v < vectors; ++v)
        sum[t][v] = B::fma(D::template to_float<F>(dots[t][v]), B::mul(B::load(scales + v * W), x_scale), sum[t][v]);
      if constexpr (F::planes > 1) {
        const auto x_sum = B::broadcast(x.sums[t * x.blocks() + b]);
#pragma GCC unroll 16
        for (int v = 0; v < vectors; ++v) sum[t][v] = B::fma(B::load(scales + group_rows + v * W), x_sum, sum[t][v]);
      }
    }
    integers += units * unit_bytes;
    scales += F::planes * group_rows;
  }
#pragma GCC unroll 16
  for (int t = 0; t < Tokens; ++t)
#pragma GCC unroll 16
    for (int v = 0; v < vectors; ++v) B::store(sums + t * stride + v * W, sum[t][v]);
}

using MultiplyGroup = void (*)(const std::uint8_t* integers, const f16_t* scales, const QuantisedActivations& x,
                               float* sums, index_t stride);

template <SimdBackend B, BlockFormat F, int... Less>
consteval auto group_table(std::integer_sequence<int, Less...>) {
  return std::array{MultiplyGroup(&multiply_group<B, F, Less + 1>)...};
}

template <SimdBackend B, BlockFormat F>
MultiplyGroup multiply_group_for(index_t tokens) {
  static constexpr auto table = group_table<B, F>(std::make_integer_sequence<int, GroupShape<B>::tokens>());
  return table[static_cast<std::size_t>(tokens - 1)];
}

}  // namespace detail

/// sums[t * stride + i] = token t . row i of the groups of a weight in blocks of F, in 8-bit integers: row r of the
/// view is row weight.skipped + r of them. `stride` has room for whole groups.
template <SimdBackend B, BlockFormat F>
void multiply_groups(const QuantisedActivations& x, const WeightView& weight, float* sums, index_t stride) {
  const index_t parts = ceil_div(x.rows, index_t{GroupShape<B>::tokens});
  for (index_t part = 0; part < parts; ++part) {
    const Range t = partition(x.rows, parts, part);
    const auto multiply = detail::multiply_group_for<B, F>(t.size());
    for (index_t g = 0; g < weight.groups(); ++g)
      multiply(weight.group_integers(g), weight.group_scales(g), x.row_range(t),
               sums + t.begin * stride + g * group_rows, stride);
  }
}

}  // namespace tessera
