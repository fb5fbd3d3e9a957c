#pragma once
// How floats travel between ranks: as they are, or in fewer bits with a known error.

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>

#include <tessera/core/error.hpp>
#include <tessera/core/partition.hpp>
#include <tessera/simd/isa.hpp>

namespace tessera {

/// f32: exact. bf16: the upper half of a float, rounded to nearest even. q8: blocks of 32 with one float, their scale,
/// and 32 integers of -127 to 127.
enum class WireFormat : std::uint8_t { f32, bf16, q8 };

/// As `--wire` spells it.
[[nodiscard]] constexpr std::string_view name_of(WireFormat format) {
  return format == WireFormat::f32 ? "f32" : format == WireFormat::bf16 ? "bf16" : "q8";
}

/// Throws Error for another name.
[[nodiscard]] inline WireFormat wire_format_named(std::string_view name) {
  for (const WireFormat format : {WireFormat::f32, WireFormat::bf16, WireFormat::q8})
    if (name == name_of(format)) return format;
  fail("wire format: expected f32, bf16 or q8, found ", name);
}

inline constexpr index_t wire_block = 32;  ///< floats of a q8 block

/// Bytes that n floats take.
[[nodiscard]] constexpr index_t encoded_bytes(WireFormat format, index_t n) {
  switch (format) {
    case WireFormat::f32: return 4 * n;
    case WireFormat::bf16: return 2 * n;
    case WireFormat::q8: return n + 4 * ceil_div(n, wire_block);
  }
  return 0;
}

/// What encoding cost: sums of squares over everything encoded.
struct WireError {
  double squared_error = 0;
  double squared_values = 0;

  /// Root mean square of the error over that of the values.
  [[nodiscard]] double relative() const { return squared_values == 0 ? 0 : std::sqrt(squared_error / squared_values); }
};

inline namespace TESSERA_ISA {  // loops that the compiler turns into vectors: see sum.hpp

/// The bound of bf16: |decoded - x| <= 2^-8 |x| for normal x. A NaN stays one.
[[nodiscard]] inline std::uint16_t bf16_of(float x) {
  const auto bits = std::bit_cast<std::uint32_t>(x);
  if ((bits & 0x7FFFFFFFU) > 0x7F800000U) return static_cast<std::uint16_t>((bits >> 16) | 0x40U);
  return static_cast<std::uint16_t>((bits + 0x7FFFU + ((bits >> 16) & 1U)) >> 16);
}
/// Exact.
[[nodiscard]] inline float of_bf16(std::uint16_t bits) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
}

/// Writes one q8 block of n <= 32 floats. The bound: |decoded - x| <= max |x| / 254, but for rounding; a block with
/// something that is not finite becomes NaN as a whole.
inline void encode_q8_block(const float* x, index_t n, std::byte* to) {
  float largest = 0, nothing = 0;
  for (index_t i = 0; i < n; ++i) largest = std::max(largest, std::abs(x[i])), nothing += 0 * x[i];
  const float scale = largest / 127 + nothing;  // NaN where 0 * x is, which the largest passes over
  const float inverse = scale > 0 ? 1 / scale : 0;
  std::memcpy(to, &scale, sizeof scale);
  auto* codes = reinterpret_cast<std::int8_t*>(to + sizeof scale);
  if (std::isnan(scale)) return static_cast<void>(std::fill_n(codes, n, std::int8_t{0}));
  for (index_t i = 0; i < n; ++i)
    codes[i] = static_cast<std::int8_t>(std::clamp(std::nearbyint(x[i] * inverse), -127.0F, 127.0F));
}
/// The n floats of a block in q8.
inline void decode_q8_block(const std::byte* from, index_t n, float* x) {
  float scale = 0;
  std::memcpy(&scale, from, sizeof scale);
  const auto* codes = reinterpret_cast<const std::int8_t*>(from + sizeof scale);
  for (index_t i = 0; i < n; ++i) x[i] = scale * static_cast<float>(codes[i]);
}

/// Calls act(begin, length, bytes before) for blocks of n floats, in order.
template <class Act>
void for_each_wire_block(WireFormat format, index_t n, Act&& act) {
  for (index_t begin = 0; begin < n; begin += wire_block)
    act(begin, std::min(wire_block, n - begin), encoded_bytes(format, begin));
}

/// Floats [begin, begin + n) of an encoded block; n <= wire_block.
inline void decode_block(WireFormat format, const std::byte* from, index_t n, float* x) {
  if (format == WireFormat::q8) return decode_q8_block(from, n, x);
  if (format == WireFormat::f32) {
    std::memcpy(x, from, static_cast<std::size_t>(n) * sizeof(float));
    return;
  }
  for (index_t i = 0; i < n; ++i) {
    std::uint16_t bits = 0;
    std::memcpy(&bits, from + 2 * i, sizeof bits);
    x[i] = of_bf16(bits);
  }
}

/// to := x, encoded; adds what it costs to `error`.
inline void encode(WireFormat format, std::span<const float> x, std::byte* to, WireError& error) {
  for_each_wire_block(format, static_cast<index_t>(x.size()), [&](index_t begin, index_t n, index_t bytes) {
    const float* from = x.data() + begin;
    std::byte* block = to + bytes;
    if (format == WireFormat::f32) {
      std::memcpy(block, from, static_cast<std::size_t>(n) * sizeof(float));
    } else if (format == WireFormat::bf16) {
      for (index_t i = 0; i < n; ++i) {
        const std::uint16_t bits = bf16_of(from[i]);
        std::memcpy(block + 2 * i, &bits, sizeof bits);
      }
    } else {
      encode_q8_block(from, n, block);
    }
    float decoded[wire_block], squared_error = 0, squared_values = 0;
    decode_block(format, block, n, decoded);
    for (index_t i = 0; i < n; ++i) {
      squared_error += (decoded[i] - from[i]) * (decoded[i] - from[i]);
      squared_values += from[i] * from[i];
    }
    error.squared_error += squared_error, error.squared_values += squared_values;
  });
}

/// All floats of x from their encoding.
inline void decode(WireFormat format, const std::byte* from, std::span<float> x) {
  for_each_wire_block(format, static_cast<index_t>(x.size()), [&](index_t begin, index_t n, index_t bytes) {
    decode_block(format, from + bytes, n, x.data() + begin);
  });
}

/// sum := the encoded terms of ranks 0, 1, ..., added in that order; they lie one after the other.
inline void sum_encoded(WireFormat format, int ranks, const std::byte* terms, std::span<float> sum) {
  const auto total = static_cast<index_t>(sum.size());
  const index_t apart = encoded_bytes(format, total);
  for_each_wire_block(format, total, [&](index_t begin, index_t n, index_t bytes) {
    float* to = sum.data() + begin;
    decode_block(format, terms + bytes, n, to);
    for (int r = 1; r < ranks; ++r) {
      float term[wire_block];
      decode_block(format, terms + r * apart + bytes, n, term);
      for (index_t i = 0; i < n; ++i) to[i] += term[i];
    }
  });
}

}  // namespace TESSERA_ISA
}  // namespace tessera
