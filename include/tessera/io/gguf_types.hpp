#pragma once
// The element types of a GGUF file that are read here, and what their blocks decode to: ggml's own arithmetic
// (ggml-quants.c, dequantize_row_*), one number at a time.

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string_view>

#include <tessera/core/types.hpp>

namespace tessera {

/// As ggml numbers them.
enum class GgufType : std::uint32_t { f32 = 0, f16 = 1, q4_0 = 2, q8_0 = 8, q4_k = 12, q6_k = 14, bf16 = 30 };

/// Consecutive elements of a row that are stored together.
struct Block {
  index_t elements = 1;
  index_t bytes = 0;
};

/// The blocks of a type.
[[nodiscard]] constexpr Block block_of(GgufType type) {
  switch (type) {
    case GgufType::f32: return {1, 4};
    case GgufType::f16:
    case GgufType::bf16: return {1, 2};
    case GgufType::q8_0: return {32, 34};    // f16 scale, 32 signed bytes
    case GgufType::q4_0: return {32, 18};    // f16 scale, 16 bytes of two
    case GgufType::q4_k: return {256, 144};  // f16 scale and scale of minima, 8 pairs of 6 bits, 128 bytes of two
    case GgufType::q6_k: return {256, 210};  // 4 low bits of each, 2 high ones, 16 scales, f16 scale
  }
  return {};
}

/// The type of that number, if it is one of those.
[[nodiscard]] constexpr std::optional<GgufType> gguf_type_of(std::uint32_t number) {
  const auto type = static_cast<GgufType>(number);
  return block_of(type).bytes > 0 ? std::optional(type) : std::nullopt;
}

namespace detail {

template <class T>
[[nodiscard]] T gguf_element(const std::byte* at) {  // at any alignment
  T value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

[[nodiscard]] inline int low(std::byte b) { return std::to_integer<int>(b) & 15; }
[[nodiscard]] inline int high(std::byte b) { return std::to_integer<int>(b) >> 4; }

/// Scale and minimum j of the eight of a Q4_K block, 6 bits each, in 12 bytes.
inline void q4_k_scale(const std::byte* packed, int j, int& scale, int& minimum) {
  const auto at = [packed](int i) { return std::to_integer<int>(packed[i]); };
  if (j < 4) {
    scale = at(j) & 63, minimum = at(j + 4) & 63;
  } else {
    scale = (at(j + 4) & 15) | (at(j - 4) >> 6 << 4), minimum = (at(j + 4) >> 4) | (at(j) >> 6 << 4);
  }
}

inline void decode_q4_k(const std::byte* block, float* out) {
  const float scale = to_float(gguf_element<f16_t>(block)), of_minima = to_float(gguf_element<f16_t>(block + 2));
  const std::byte* q = block + 16;
  for (int j = 0; j < 8; ++j, out += 32) {
    int s = 0, m = 0;
    q4_k_scale(block + 4, j, s, m);
    const float step = scale * static_cast<float>(s), minimum = of_minima * static_cast<float>(m);
    for (int i = 0; i < 32; ++i) {
      const std::byte b = q[j / 2 * 32 + i];
      out[i] = step * static_cast<float>(j % 2 == 0 ? low(b) : high(b)) - minimum;
    }
  }
}

inline void decode_q6_k(const std::byte* block, float* out) {
  const std::byte* low_bits = block;
  const std::byte* high_bits = block + 128;
  const std::byte* scales = block + 192;
  const float scale = to_float(gguf_element<f16_t>(block + 208));
  for (int half = 0; half < 2; ++half, out += 128, low_bits += 64, high_bits += 32, scales += 8)
    for (int quarter = 0; quarter < 4; ++quarter)
      for (int i = 0; i < 32; ++i) {
        const std::byte b = low_bits[quarter % 2 * 32 + i];
        const int two = std::to_integer<int>(high_bits[i]) >> 2 * quarter & 3;
        const int q = ((quarter < 2 ? low(b) : high(b)) | two << 4) - 32;
        const int s = static_cast<std::int8_t>(scales[quarter * 2 + i / 16]);
        out[quarter * 32 + i] = scale * static_cast<float>(s) * static_cast<float>(q);
      }
}

}  // namespace detail

/// The block at `at` as f32: block_of(type).elements numbers.
inline void decode_block(GgufType type, const std::byte* at, float* out) {
  using detail::gguf_element;
  switch (type) {
    case GgufType::f32: *out = gguf_element<float>(at); return;
    case GgufType::f16: *out = to_float(gguf_element<f16_t>(at)); return;
    case GgufType::bf16: *out = to_float(gguf_element<bf16_t>(at)); return;
    case GgufType::q8_0:
      for (int i = 0; i < 32; ++i)
        out[i] = to_float(gguf_element<f16_t>(at)) * static_cast<float>(static_cast<std::int8_t>(at[2 + i]));
      return;
    case GgufType::q4_0:
      for (int i = 0; i < 16; ++i) {
        const float scale = to_float(gguf_element<f16_t>(at));
        out[i] = scale * static_cast<float>(detail::low(at[2 + i]) - 8);
        out[i + 16] = scale * static_cast<float>(detail::high(at[2 + i]) - 8);
      }
      return;
    case GgufType::q4_k: detail::decode_q4_k(at, out); return;
    case GgufType::q6_k: detail::decode_q6_k(at, out); return;
  }
}

}  // namespace tessera
