#pragma once
// Four floats in an SSE register: SSE2, and what SSE4.1 and F16C add where the unit is compiled for them.

#include <concepts>
#include <cstring>

#include <tessera/simd/exp.hpp>
#include <tessera/simd/lanes.hpp>

#if defined(__SSE2__)
#include <immintrin.h>

namespace tessera {
inline namespace TESSERA_ISA {

/// The first n (0..4) of four 16-bit elements; memory past them is not read.
[[gnu::always_inline]] inline __m128i load_partial_4x16(const void* p, index_t n) {
  const char* bytes = static_cast<const char*>(p);
  if (n >= 4) return _mm_loadl_epi64(static_cast<const __m128i*>(p));
  std::uint64_t bits = 0;
  if (n >= 2) {  // the two halves overlap on the middle element where n is 3
    std::uint32_t low = 0;
    std::uint32_t high = 0;
    std::memcpy(&low, bytes, 4);
    std::memcpy(&high, bytes + 2 * (n - 2), 4);
    bits = low | (static_cast<std::uint64_t>(high) << (16 * (n - 2)));
  } else if (n == 1) {
    std::uint16_t only = 0;
    std::memcpy(&only, bytes, 2);
    bits = only;
  }
  return _mm_cvtsi64_si128(static_cast<long long>(bits));
}

/// The first n (0..8) of eight 16-bit elements; memory past them is not read.
[[gnu::always_inline]] inline __m128i load_partial_8x16(const void* p, index_t n) {
  if (n >= 8) return _mm_loadu_si128(static_cast<const __m128i*>(p));
  const __m128i low = load_partial_4x16(p, n);
  return n <= 4 ? low : _mm_unpacklo_epi64(low, load_partial_4x16(static_cast<const char*>(p) + 8, n - 4));
}

/// Binary16 in the low halves of four 32-bit lanes, widened. Multiplying by 2^112 moves the exponent's bias, and makes
/// subnormals normal; infinities and NaNs have all exponent bits put in.
[[gnu::always_inline]] inline __m128 widen_f16_4x32(__m128i half) {
  const __m128i magnitude = _mm_slli_epi32(_mm_and_si128(half, _mm_set1_epi32(0x7FFF)), 13);
  const __m128i sign = _mm_slli_epi32(_mm_and_si128(half, _mm_set1_epi32(0x8000)), 16);
  const __m128i special = _mm_cmpgt_epi32(magnitude, _mm_set1_epi32((0x7C00 << 13) - 1));
  const __m128 scaled = _mm_mul_ps(_mm_castsi128_ps(magnitude), _mm_set1_ps(0x1p112F));
  const __m128i exponent = _mm_and_si128(special, _mm_set1_epi32(0x7F800000));
  return _mm_or_ps(scaled, _mm_castsi128_ps(_mm_or_si128(sign, exponent)));
}

/// Four binary16 in the low half of a register, widened.
[[gnu::always_inline]] inline __m128 widen_4_f16(__m128i half) {
#if defined(__F16C__)
  return _mm_cvtph_ps(half);
#else
  return widen_f16_4x32(_mm_unpacklo_epi16(half, _mm_setzero_si128()));
#endif
}

/// Four bfloat16 in the low half of a register, widened: they are the upper halves of floats.
[[gnu::always_inline]] inline __m128 widen_4_bf16(__m128i upper) {
  return _mm_castsi128_ps(_mm_unpacklo_epi16(_mm_setzero_si128(), upper));
}

[[gnu::always_inline]] inline __m128 load_partial_4x32(const float* p, index_t n) {
  if (n >= 4) return _mm_loadu_ps(p);
  if (n <= 0) return _mm_setzero_ps();
  if (n == 1) return _mm_load_ss(p);
  const __m128 two = _mm_castsi128_ps(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
  return n == 2 ? two : _mm_movelh_ps(two, _mm_load_ss(p + 2));
}

[[gnu::always_inline]] inline void store_partial_4x32(float* p, __m128 v, index_t n) {
  if (n >= 4) {
    _mm_storeu_ps(p, v);
    return;
  }
  if (n >= 2) _mm_storel_pi(reinterpret_cast<__m64*>(p), v);
  if (n == 3) _mm_store_ss(p + 2, _mm_movehl_ps(v, v));
  if (n == 1) _mm_store_ss(p, v);
}

[[gnu::always_inline]] inline float reduce_add_4(__m128 v) {
  const __m128 pair = _mm_add_ps(v, _mm_movehl_ps(v, v));
  return _mm_cvtss_f32(_mm_add_ss(pair, _mm_shuffle_ps(pair, pair, 1)));
}

[[gnu::always_inline]] inline float reduce_max_4(__m128 v) {
  const __m128 pair = _mm_max_ps(v, _mm_movehl_ps(v, v));
  return _mm_cvtss_f32(_mm_max_ss(pair, _mm_shuffle_ps(pair, pair, 1)));
}

template <class Arch>
  requires std::derived_from<Arch, xsimd::sse2>
struct Lanes<Arch> {
  using f32 = xsimd::batch<float, Arch>;
  static constexpr index_t width = 4;
  static constexpr int registers = 16;

  static f32 fma(f32 a, f32 b, f32 c) { return a * b + c; }
  static f32 max(f32 a, f32 b) { return _mm_max_ps(a, b); }
  static f32 min(f32 a, f32 b) { return _mm_min_ps(a, b); }

  static f32 load(const float* p) { return _mm_loadu_ps(p); }
  static f32 load(const bf16_t* p) { return widen_4_bf16(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))); }
  static f32 load(const f16_t* p) { return widen_4_f16(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))); }
  static f32 load(const std::int8_t* p) {
    std::int32_t four = 0;
    std::memcpy(&four, p, sizeof four);
    __m128i v = _mm_cvtsi32_si128(four);
    v = _mm_unpacklo_epi8(v, v);  // each byte in the upper ones of its lane, from where it is shifted with its sign
    return _mm_cvtepi32_ps(_mm_srai_epi32(_mm_unpacklo_epi16(v, v), 24));
  }
  static f32 load_partial(const float* p, index_t n) { return load_partial_4x32(p, n); }
  static f32 load_partial(const bf16_t* p, index_t n) { return widen_4_bf16(load_partial_4x16(p, n)); }
  static f32 load_partial(const f16_t* p, index_t n) { return widen_4_f16(load_partial_4x16(p, n)); }
  static void store_partial(float* p, f32 v, index_t n) { store_partial_4x32(p, v, n); }

  static float reduce_add(f32 v) { return reduce_add_4(v); }
  static float reduce_max(f32 v) { return reduce_max_4(v); }

  static void transpose(f32 (&square)[4]) {
    __m128 a = square[0];
    __m128 b = square[1];
    __m128 c = square[2];
    __m128 d = square[3];
    _MM_TRANSPOSE4_PS(a, b, c, d);
    square[0] = a;
    square[1] = b;
    square[2] = c;
    square[3] = d;
  }

  static f32 exp(f32 x) { return exp_of<Lanes>(x); }
  static __m128i round_to_int(f32 x) { return _mm_cvtps_epi32(x); }
  static f32 to_float(__m128i n) { return _mm_cvtepi32_ps(n); }
  static f32 add_to_exponent(f32 y, __m128i n) {
    return _mm_castsi128_ps(_mm_add_epi32(_mm_castps_si128(y), _mm_slli_epi32(n, 23)));
  }
  static f32 zero_where_less(f32 v, f32 x, f32 bound) { return _mm_andnot_ps(_mm_cmplt_ps(x, bound), v); }
  static f32 replace_where_greater(f32 v, f32 x, f32 bound, f32 other) {
    const __m128 mask = _mm_cmpgt_ps(x, bound);
    return _mm_or_ps(_mm_and_ps(mask, other), _mm_andnot_ps(mask, v));
  }
};

}  // namespace TESSERA_ISA
}  // namespace tessera
#endif
