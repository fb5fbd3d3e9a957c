#pragma once
// Dot products of 8-bit integers, with sums in 32 bits: what they are, and in plain loops, for every backend.

#include <array>
#include <concepts>
#include <cstring>

#include <tessera/core/weight_format.hpp>
#include <tessera/simd/backend.hpp>

namespace tessera {

/// Law: weights are from -127 to 127, and so is x; every sum is exact. A vector of `Bytes` holds four consecutive bytes
/// of each of W = B::width rows, one of `Sums` an integer for each row.
///  as_weights(v): bytes of weights in 8 bits in the form that dot<Int8Blocks>() takes.
///  low_halves(v), high_halves(v): those of weights in 4 bits, 0 to 15, in the form that dot<Int4Blocks>() takes.
///  start(sum), sums_from<F>(start): what dot<F>() adds to, where `sum` is that of all x that will be multiplied.
///  dot<F>(s, w, x): s plus the products of each row's four weights with the four bytes of x, eight of them at most.
///  to_float<F>(s): the sums, one a row.
///  one_instruction: whether dot() is one, to a compiler too.
template <class D>
concept DotsBytes = requires(typename D::Bytes v, typename D::Sums s, const std::int8_t* x, const void* p,
                             std::int32_t sum) {
  { D::load(p) } -> std::same_as<typename D::Bytes>;
  { D::broadcast(x) } -> std::same_as<typename D::Bytes>;
  { D::one_instruction } -> std::convertible_to<bool>;
  { D::as_weights(v) } -> std::same_as<typename D::Bytes>;
  { D::low_halves(v) } -> std::same_as<typename D::Bytes>;
  { D::high_halves(v) } -> std::same_as<typename D::Bytes>;
  { D::start(sum) } -> std::same_as<std::int32_t>;
  { D::template sums_from<Int8Blocks>(sum) } -> std::same_as<typename D::Sums>;
  { D::template dot<Int8Blocks>(s, v, v) } -> std::same_as<typename D::Sums>;
  { D::template sums_from<Int4Blocks>(sum) } -> std::same_as<typename D::Sums>;
  { D::template dot<Int4Blocks>(s, v, v) } -> std::same_as<typename D::Sums>;
};

inline namespace TESSERA_ISA {

/// Sums of B's rows: the reference.
template <SimdBackend B>
struct ByteDots {
  static constexpr auto W = static_cast<std::size_t>(B::width);
  static constexpr std::string_view name() { return "plain loops"; }
  static constexpr bool one_instruction = false;
  using Bytes = std::array<std::array<std::int8_t, 4>, W>;
  using Sums = std::array<std::int32_t, W>;

  static Bytes load(const void* p) {
    Bytes v;
    std::memcpy(&v, p, sizeof v);
    return v;
  }
  static Bytes broadcast(const std::int8_t* x) {
    Bytes v;
    for (auto& row : v) std::memcpy(row.data(), x, row.size());
    return v;
  }
  static Bytes as_weights(const Bytes& v) { return v; }
  static Bytes low_halves(Bytes v) {
    for (auto& row : v)
      for (std::int8_t& byte : row) byte = static_cast<std::int8_t>(byte & 15);
    return v;
  }
  static Bytes high_halves(Bytes v) {
    for (auto& row : v)
      for (std::int8_t& byte : row) byte = static_cast<std::int8_t>(static_cast<std::uint8_t>(byte) >> 4);
    return v;
  }
  static std::int32_t start(std::int32_t) { return 0; }
  template <BlockFormat>
  static Sums sums_from(std::int32_t) {
    return {};
  }
  template <BlockFormat>
  static Sums dot(Sums sums, const Bytes& w, const Bytes& x) {
    for (std::size_t r = 0; r < W; ++r)
      for (std::size_t i = 0; i < 4; ++i) sums[r] += w[r][i] * x[r][i];
    return sums;
  }
  template <BlockFormat>
  static typename B::f32 to_float(const Sums& sums) {
    float lanes[W];
    for (std::size_t r = 0; r < W; ++r) lanes[r] = static_cast<float>(sums[r]);
    return B::load(lanes);
  }
};

}  // namespace TESSERA_ISA
}  // namespace tessera
