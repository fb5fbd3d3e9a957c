#pragma once
// CacheFormat: what a head of a key or of a value is in the KV cache. As with weights, the format is a property of the
// memory, that views carry and kernels dispatch on once for a tile of rows: it multiplies no instances of a model.

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstring>
#include <limits>
#include <string_view>

#include <tessera/core/types.hpp>

namespace tessera {

/// Formats by name, for what is chosen at run time.
enum class CacheType : std::uint8_t { f32, bf16, int8 };

/// Law: a head takes bytes(head_dim) bytes, `encode` writes them and `decode` reads them back as floats. What was
/// stored once is stored again without a change: decode(encode(decode(encode(x)))) is decode(encode(x)), so that all
/// ranks see the same numbers, whichever of them stores a head and however it got there. A NaN stays NaN. A head is
/// scale_bytes bytes, then head_dim elements, and a number is element * scale_of(head).
template <class F>
concept CacheFormat = requires(const float* in, index_t n, std::byte* out, const std::byte* bytes, float* floats) {
  { F::name } -> std::convertible_to<std::string_view>;
  { F::type } -> std::convertible_to<CacheType>;
  { to_float(typename F::element{}) } -> std::same_as<float>;
  { F::scale_bytes } -> std::convertible_to<index_t>;
  { F::scale_of(bytes) } -> std::same_as<float>;
  { F::bytes(n) } -> std::same_as<index_t>;
  F::encode(in, n, out);
  F::decode(bytes, n, floats);
};

/// As computed.
struct F32Heads {
  static constexpr std::string_view name = "f32";
  static constexpr CacheType type = CacheType::f32;
  using element = float;
  static constexpr index_t scale_bytes = 0;

  [[nodiscard]] static constexpr float scale_of(const std::byte*) { return 1; }
  [[nodiscard]] static constexpr index_t bytes(index_t head_dim) { return 4 * head_dim; }
  static void encode(const float* in, index_t n, std::byte* out) {
    std::memcpy(out, in, static_cast<std::size_t>(bytes(n)));
  }
  static void decode(const std::byte* in, index_t n, float* out) {
    std::memcpy(out, in, static_cast<std::size_t>(bytes(n)));
  }
};

/// Rounded to bf16, ties to even: an error of 2^-8 of each number at most.
struct Bf16Heads {
  static constexpr std::string_view name = "bf16";
  static constexpr CacheType type = CacheType::bf16;
  using element = bf16_t;
  static constexpr index_t scale_bytes = 0;

  [[nodiscard]] static constexpr float scale_of(const std::byte*) { return 1; }
  [[nodiscard]] static constexpr index_t bytes(index_t head_dim) { return 2 * head_dim; }
  static void encode(const float* in, index_t n, std::byte* out) {
    for (index_t i = 0; i < n; ++i) {
      const bf16_t rounded = to_bf16(in[i]);
      std::memcpy(out + 2 * i, &rounded, sizeof rounded);
    }
  }
  static void decode(const std::byte* in, index_t n, float* out) {
    for (index_t i = 0; i < n; ++i) {
      bf16_t stored;
      std::memcpy(&stored, in + 2 * i, sizeof stored);
      out[i] = to_float(stored);
    }
  }
};

/// scale x q, q from -127 to 127, one scale for each head and position: an error of 1/253 of the largest magnitude in
/// the head at most. The scale is bf16: with its 8 bits scale x q is exact in f32, so that the largest q is 127 and the
/// same scale is found again. A head with NaN or infinity becomes NaN; magnitudes below 1.5e-36 become 0.
struct Int8Heads {
  static constexpr std::string_view name = "int8";
  static constexpr CacheType type = CacheType::int8;
  using element = std::int8_t;
  static constexpr index_t scale_bytes = 2;

  [[nodiscard]] static constexpr index_t bytes(index_t head_dim) { return scale_bytes + head_dim; }
  static void encode(const float* in, index_t n, std::byte* out) {
    // Magnitudes compare as their bits do, those of NaN above all: a maximum that compilers turn into vectors.
    std::uint32_t most = 0;
    for (index_t i = 0; i < n; ++i) most = std::max(most, std::bit_cast<std::uint32_t>(in[i]) & 0x7FFFFFFFU);
    const float largest = most < 0x7F800000U ? std::bit_cast<float>(most) : std::numeric_limits<float>::quiet_NaN();
    bf16_t scale = to_bf16(largest / 127);
    if (to_float(scale) < std::numeric_limits<float>::min()) scale = {0};  // subnormal numbers have fewer bits
    std::memcpy(out, &scale, sizeof scale);
    const float inverse = to_float(scale) > 0 ? 1 / to_float(scale) : 0.0F;  // 0 for NaN, too: NaN * 0 is NaN again
    auto* integers = reinterpret_cast<std::int8_t*>(out + scale_bytes);
    // Adding 3 x 2^22 leaves the integer, ties to even, in the low bits.
    if (inverse == 0)
      std::fill_n(integers, n, std::int8_t{0});
    else
      for (index_t i = 0; i < n; ++i)
        integers[i] = static_cast<std::int8_t>(std::bit_cast<std::uint32_t>(in[i] * inverse + 0x1.8p23F) & 0xFFU);
  }
  static void decode(const std::byte* in, index_t n, float* out) {
    const float scale = scale_of(in);
    const auto* integers = reinterpret_cast<const std::int8_t*>(in + scale_bytes);
    for (index_t i = 0; i < n; ++i) out[i] = scale * static_cast<float>(integers[i]);
  }
  [[nodiscard]] static float scale_of(const std::byte* head) {
    bf16_t scale;
    std::memcpy(&scale, head, sizeof scale);
    return to_float(scale);
  }
};

static_assert(CacheFormat<F32Heads> && CacheFormat<Bf16Heads> && CacheFormat<Int8Heads>);

/// Calls `f` with a value of the format that `type` names.
template <class F>
constexpr decltype(auto) with_cache_format(CacheType type, F&& f) {
  switch (type) {
    case CacheType::bf16: return f(Bf16Heads{});
    case CacheType::int8: return f(Int8Heads{});
    case CacheType::f32: break;
  }
  return f(F32Heads{});
}

/// Bytes of a head in a cache.
[[nodiscard]] constexpr index_t bytes_of_head(CacheType type, index_t head_dim) {
  return with_cache_format(type, [&]<class F>(F) { return F::bytes(head_dim); });
}

/// f32, bf16 or int8.
[[nodiscard]] constexpr std::string_view name_of(CacheType type) {
  return with_cache_format(type, []<class F>(F) { return F::name; });
}

/// The format of that name. Throws Error that lists the names there are.
[[nodiscard]] inline CacheType cache_type_named(std::string_view name) {
  for (const CacheType type : {CacheType::f32, CacheType::bf16, CacheType::int8})
    if (name == name_of(type)) return type;
  fail("KV cache: expected f32, bf16 or int8, found \"", name, '"');
}

}  // namespace tessera
