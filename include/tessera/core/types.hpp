#pragma once
// Index type and element types of stored tensors.

#include <bit>
#include <cstdint>
#include <string_view>

#include <tessera/core/error.hpp>

namespace tessera {

/// Sizes, places and counts; signed, so that differences are what they look like.
using index_t = std::int64_t;
/// A token id; negative for none.
using token_t = std::int32_t;

/// A bfloat16 as stored: the upper half of a binary32.
struct bf16_t {
  std::uint16_t bits;
};

/// An IEEE 754 binary16 as stored.
struct f16_t {
  std::uint16_t bits;
};

/// Element types that the kernels read in place. The last two are blocks of elements that share a scale
/// (core/weight_format.hpp): not a C++ type each, and not in with_type_of().
enum class DType : std::uint8_t { f32, bf16, f16, int8_blocks, int4_blocks };

/// Whether elements lie in blocks.
[[nodiscard]] constexpr bool is_blocks(DType dtype) { return dtype >= DType::int8_blocks; }

/// Bytes of `elements` consecutive elements; of blocks, without their scales.
[[nodiscard]] constexpr index_t bytes_of(DType dtype, index_t elements = 1) {
  switch (dtype) {
    case DType::f32: return 4 * elements;
    case DType::bf16:
    case DType::f16: return 2 * elements;
    case DType::int8_blocks: return elements;
    case DType::int4_blocks: break;
  }
  return elements / 2;
}

/// As errors name it: f32, bf16, f16.
[[nodiscard]] constexpr std::string_view name_of(DType dtype) {
  switch (dtype) {
    case DType::f32: return "f32";
    case DType::bf16: return "bf16";
    case DType::f16: return "f16";
    case DType::int8_blocks: return "int8";
    case DType::int4_blocks: return "int4";
  }
  return "?";
}

/// The DType of float, bf16_t or f16_t.
template <class T>
inline constexpr DType dtype_of = DType::f32;
/// As above.
template <>
inline constexpr DType dtype_of<bf16_t> = DType::bf16;
/// As above.
template <>
inline constexpr DType dtype_of<f16_t> = DType::f16;

/// The value as f32, exactly.
[[nodiscard]] constexpr float to_float(float value) { return value; }

/// The value as f32, exactly.
[[nodiscard]] constexpr float to_float(std::int8_t value) { return static_cast<float>(value); }

/// The value as f32, exactly.
[[nodiscard]] constexpr float to_float(bf16_t value) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(value.bits) << 16);
}

/// The value as f32, exactly.
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

/// Rounds to nearest, ties to even; what is too large becomes infinite.
[[nodiscard]] constexpr f16_t to_f16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const auto sign = static_cast<std::uint16_t>((bits >> 16) & 0x8000U);
  const std::uint32_t magnitude = bits & 0x7FFFFFFFU;
  const auto signed_bits = [sign](std::uint32_t b) { return f16_t{static_cast<std::uint16_t>(sign | b)}; };
  if (magnitude > 0x7F800000U) return signed_bits(0x7E00);  // NaN
  if (magnitude < 0x38800000U) {                            // below 2^-14: a multiple of 2^-24
    // Adding 0.5 puts the unit in the last place of the sum at 2^-24, where the addition itself rounds to even.
    return signed_bits(std::bit_cast<std::uint32_t>(std::bit_cast<float>(magnitude) + 0.5F) - 0x3F000000U);
  }
  const std::uint32_t rounded = (magnitude + 0xFFFU + ((magnitude >> 13) & 1U)) >> 13;
  return signed_bits(rounded - (112U << 10) < 0x7C00U ? rounded - (112U << 10) : 0x7C00U);
}

/// Calls `f` with a value of the C++ type that `dtype` names: the one dispatch from run time to type.
template <class F>
decltype(auto) with_type_of(DType dtype, F&& f) {
  switch (dtype) {
    case DType::f32: return f(float{});
    case DType::bf16: return f(bf16_t{});
    case DType::f16: return f(f16_t{});
    default: fail("expected elements of f32, bf16 or f16, found ", name_of(dtype));
  }
}

}  // namespace tessera
