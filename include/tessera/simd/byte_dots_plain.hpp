#pragma once
// Dot products of 8-bit integers, with sums in 32 bits: what they are, and in plain loops, for every backend.
//
// Two uses. In rows as they lie in memory, for one token: `row_sums`. In panels, for many: W rows of weights are
// transposed in units of four bytes, and a unit of x is broadcast to all of them.

#include <array>
#include <concepts>
#include <cstring>

#include <tessera/core/weight_format.hpp>
#include <tessera/simd/backend.hpp>

namespace tessera {

/// Law: weights are from -127 to 127, and so is x; every sum is exact. A vector of `Bytes` holds four consecutive bytes
/// of each of W = B::width rows, one of `Sums` an integer for each row.
///  as_weights(v): bytes of rows, as load() gives them, in the form that dot() takes as weights.
///  start(sum): what dot() adds to, where `sum` is that of all x that will be multiplied.
///  dot(s, w, x): s plus the products of each row's four weights with the four bytes of x.
///  row_sums<F>(row, x, sums_of_x, blocks, out): out[b] holds, for each row r, the sum of the products of block b of
///  row(r) with 32 bytes of x, whose own sum is sums_of_x[b]; 1 <= blocks <= row_blocks<F>. Reads no byte behind them.
template <class D>
concept DotsBytes = requires(typename D::Bytes v, typename D::Sums s, const std::int8_t* x, const void* p, void* to,
                             std::int32_t sum) {
  { D::load(p) } -> std::same_as<typename D::Bytes>;
  D::store(to, v);
  { D::broadcast(x) } -> std::same_as<typename D::Bytes>;
  { D::as_weights(v) } -> std::same_as<typename D::Bytes>;
  { D::start(sum) } -> std::same_as<typename D::Sums>;
  { D::dot(s, v, v) } -> std::same_as<typename D::Sums>;
  requires D::template row_blocks<Int8Blocks> >= 1;
  requires D::template row_blocks<Int4Blocks> >= 1;
};

inline namespace TESSERA_ISA {

/// The integers of a block, as signed bytes in the order of the weights.
template <BlockFormat F>
void unpack_block(const std::uint8_t* block, std::int8_t* out) {
  if constexpr (F::dtype == DType::int8_blocks) {
    std::memcpy(out, block, weight_block);
  } else {
    for (index_t i = 0; i < weight_block / 2; ++i) {
      out[i] = static_cast<std::int8_t>(block[i] & 15);
      out[i + weight_block / 2] = static_cast<std::int8_t>(block[i] >> 4);
    }
  }
}

/// Sums of B's rows: the reference.
template <SimdBackend B>
struct ByteDots {
  static constexpr auto W = static_cast<std::size_t>(B::width);
  static constexpr std::string_view name() { return "plain loops"; }
  using Bytes = std::array<std::array<std::int8_t, 4>, W>;
  using Sums = std::array<std::int32_t, W>;
  template <BlockFormat F>
  static constexpr index_t row_blocks = 1;

  static Bytes load(const void* p) {
    Bytes v;
    std::memcpy(&v, p, sizeof v);
    return v;
  }
  static void store(void* p, const Bytes& v) { std::memcpy(p, &v, sizeof v); }
  static Bytes broadcast(const std::int8_t* x) {
    Bytes v;
    for (auto& row : v) std::memcpy(row.data(), x, row.size());
    return v;
  }
  static Bytes as_weights(const Bytes& v) { return v; }
  static Sums start(std::int32_t) { return {}; }
  static Sums dot(Sums sums, const Bytes& w, const Bytes& x) {
    for (std::size_t r = 0; r < W; ++r)
      for (std::size_t i = 0; i < 4; ++i) sums[r] += w[r][i] * x[r][i];
    return sums;
  }
  static typename B::f32 to_float(const Sums& sums) {
    float lanes[W];
    for (std::size_t r = 0; r < W; ++r) lanes[r] = static_cast<float>(sums[r]);
    return B::load(lanes);
  }

  template <BlockFormat F, class RowAt>
  static void row_sums(const RowAt& row_at, const std::int8_t* x, const std::int32_t*, index_t, Sums* out) {
    for (std::size_t r = 0; r < W; ++r) {
      std::int8_t weights[weight_block];
      unpack_block<F>(row_at(static_cast<index_t>(r)), weights);
      std::int32_t sum = 0;
      for (index_t i = 0; i < weight_block; ++i) sum += weights[i] * x[i];
      out[0][r] = sum;
    }
  }
};

}  // namespace TESSERA_ISA
}  // namespace tessera
