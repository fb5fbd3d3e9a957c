#pragma once
// Index type and element types of stored tensors.

#include <bit>
#include <cstdint>
#include <string_view>

#include <tessera/core/error.hpp>

namespace tessera {

using index_t = std::int64_t;
using token_t = std::int32_t;

/// A bfloat16 as stored: the upper half of a binary32.
struct bf16_t {
  std::uint16_t bits;
};

/// An IEEE 754 binary16 as stored.
struct f16_t {
  std::uint16_t bits;
};

/// Element types that the kernels read in place.
enum class DType : std::uint8_t { f32, bf16, f16 };

[[nodiscard]] constexpr index_t bytes_of(DType dtype) { return dtype == DType::f32 ? 4 : 2; }

[[nodiscard]] constexpr std::string_view name_of(DType dtype) {
  switch (dtype) {
    case DType::f32: return "f32";
    case DType::bf16: return "bf16";
    case DType::f16: return "f16";
  }
  return "?";
}

template <class T>
inline constexpr DType dtype_of = DType::f32;
template <>
inline constexpr DType dtype_of<bf16_t> = DType::bf16;
template <>
inline constexpr DType dtype_of<f16_t> = DType::f16;

[[nodiscard]] constexpr float to_float(float value) { return value; }

[[nodiscard]] constexpr float to_float(bf16_t value) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(value.bits) << 16);
}

[[nodiscard]] constexpr float to_float(f16_t value) {
  const std::uint32_t sign = static_cast<std::uint32_t>(value.bits & 0x8000U) << 16;
  const std::uint32_t exponent = (value.bits >> 10) & 0x1FU;
  const std::uint32_t mantissa = value.bits & 0x3FFU;
  if (exponent == 0x1F) return std::bit_cast<float>(sign | 0x7F800000U | (mantissa << 13));
  if (exponent != 0) return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (mantissa << 13));
  const float magnitude = static_cast<float>(mantissa) * 0x1p-24F;  // subnormal: mantissa x 2^-24
  return sign != 0 ? -magnitude : magnitude;
}

/// Rounds to nearest, ties to even; a NaN stays a (quiet) NaN.
[[nodiscard]] constexpr bf16_t to_bf16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if ((bits & 0x7FFFFFFFU) > 0x7F800000U) return {static_cast<std::uint16_t>((bits >> 16) | 0x40U)};
  return {static_cast<std::uint16_t>((bits + 0x7FFFU + ((bits >> 16) & 1U)) >> 16)};
}

/// Calls `f` with a value of the C++ type that `dtype` names: the one dispatch from run time to type.
template <class F>
decltype(auto) with_type_of(DType dtype, F&& f) {
  switch (dtype) {
    case DType::f32: return f(float{});
    case DType::bf16: return f(bf16_t{});
    case DType::f16: return f(f16_t{});
  }
  fail("unknown element type ", static_cast<int>(dtype));
}

}  // namespace tessera
