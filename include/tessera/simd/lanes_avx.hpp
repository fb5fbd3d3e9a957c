#pragma once
// Eight floats in an AVX register: AVX, AVX2, and fused multiply-add where the architecture's name has it.

#include <concepts>

#include <tessera/simd/lanes_sse.hpp>

#if defined(__AVX__)

namespace tessera {
inline namespace TESSERA_ISA {

template <class Arch>
inline constexpr bool has_fma3 = false;
template <class Arch>
inline constexpr bool has_fma3<xsimd::fma3<Arch>> = true;

/// Eight bfloat16, widened: they are the upper halves of floats.
[[gnu::always_inline]] inline __m256 widen_8_bf16(__m128i v) {
#if defined(__AVX2__)
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(v), 16));
#else
  const __m128i zero = _mm_setzero_si128();
  return _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_castsi128_ps(_mm_unpacklo_epi16(zero, v))),
                              _mm_castsi128_ps(_mm_unpackhi_epi16(zero, v)), 1);
#endif
}

[[gnu::always_inline]] inline __m256 widen_8_f16(__m128i v) {
#if defined(__F16C__)
  return _mm256_cvtph_ps(v);
#else
  return _mm256_insertf128_ps(_mm256_castps128_ps256(widen_4_f16(v)), widen_4_f16(_mm_srli_si128(v, 8)), 1);
#endif
}

/// All bits set in the first n (0..8) of eight lanes.
[[gnu::always_inline]] inline __m256i mask_8x32(index_t n) {
  alignas(64) static constexpr std::int32_t ones_then_zeros[16] = {-1, -1, -1, -1, -1, -1, -1, -1};
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(ones_then_zeros + 8 - n));
}

template <class Arch>
  requires std::derived_from<Arch, xsimd::avx>
struct Lanes<Arch> {
  using f32 = xsimd::batch<float, Arch>;
  static constexpr index_t width = 8;
  static constexpr int registers = 16;

  static f32 fma(f32 a, f32 b, f32 c) {
#if defined(__FMA__)
    if constexpr (has_fma3<Arch>) return _mm256_fmadd_ps(a, b, c);
#endif
    return a * b + c;
  }
  static f32 max(f32 a, f32 b) { return _mm256_max_ps(a, b); }
  static f32 min(f32 a, f32 b) { return _mm256_min_ps(a, b); }

  static f32 load(const float* p) { return _mm256_loadu_ps(p); }
  static f32 load(const bf16_t* p) { return widen_8_bf16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))); }
  static f32 load(const f16_t* p) { return widen_8_f16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))); }
  static f32 load(const std::int8_t* p) {
    const __m128i low = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p));
#if defined(__AVX2__)
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(low));
#else
    return _mm256_cvtepi32_ps(_mm256_insertf128_si256(_mm256_castsi128_si256(_mm_cvtepi8_epi32(low)),
                                                      _mm_cvtepi8_epi32(_mm_srli_si128(low, 4)), 1));
#endif
  }
  static f32 load_partial(const float* p, index_t n) { return _mm256_maskload_ps(p, mask_8x32(n)); }
  static f32 load_partial(const bf16_t* p, index_t n) { return widen_8_bf16(load_partial_8x16(p, n)); }
  static f32 load_partial(const f16_t* p, index_t n) { return widen_8_f16(load_partial_8x16(p, n)); }
  static void store_partial(float* p, f32 v, index_t n) { _mm256_maskstore_ps(p, mask_8x32(n), v); }

  static float reduce_add(f32 v) {
    return reduce_add_4(_mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1)));
  }
  static float reduce_max(f32 v) {
    return reduce_max_4(_mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1)));
  }

  static void transpose(f32 (&square)[8]) {
    __m256 pairs[8];
    for (int i = 0; i < 8; i += 2) {
      pairs[i] = _mm256_unpacklo_ps(square[i], square[i + 1]);
      pairs[i + 1] = _mm256_unpackhi_ps(square[i], square[i + 1]);
    }
    __m256 quads[8];  // quads[4 * h + c]: column c (and c + 4) of rows 4h .. 4h + 3
    for (int h = 0; h < 8; h += 4) {
      quads[h] = _mm256_shuffle_ps(pairs[h], pairs[h + 2], 0x44);
      quads[h + 1] = _mm256_shuffle_ps(pairs[h], pairs[h + 2], 0xEE);
      quads[h + 2] = _mm256_shuffle_ps(pairs[h + 1], pairs[h + 3], 0x44);
      quads[h + 3] = _mm256_shuffle_ps(pairs[h + 1], pairs[h + 3], 0xEE);
    }
    for (int c = 0; c < 4; ++c) {
      square[c] = _mm256_permute2f128_ps(quads[c], quads[c + 4], 0x20);
      square[c + 4] = _mm256_permute2f128_ps(quads[c], quads[c + 4], 0x31);
    }
  }

  static f32 exp(f32 x) { return exp_of<Lanes>(x); }
  static __m256i round_to_int(f32 x) { return _mm256_cvtps_epi32(x); }
  static f32 to_float(__m256i n) { return _mm256_cvtepi32_ps(n); }
  static f32 add_to_exponent(f32 y, __m256i n) {
#if defined(__AVX2__)
    return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(y), _mm256_slli_epi32(n, 23)));
#else
    const __m128 low = add_to_exponent_4(_mm256_castps256_ps128(y), _mm256_castsi256_si128(n));
    const __m128 high = add_to_exponent_4(_mm256_extractf128_ps(y, 1), _mm256_extractf128_si256(n, 1));
    return _mm256_insertf128_ps(_mm256_castps128_ps256(low), high, 1);
#endif
  }
  static f32 zero_where_less(f32 v, f32 x, f32 bound) {
    return _mm256_andnot_ps(_mm256_cmp_ps(x, bound, _CMP_LT_OQ), v);
  }
  static f32 replace_where_greater(f32 v, f32 x, f32 bound, f32 other) {
    return _mm256_blendv_ps(v, other, _mm256_cmp_ps(x, bound, _CMP_GT_OQ));
  }

 private:
  static __m128 add_to_exponent_4(__m128 y, __m128i n) {
    return _mm_castsi128_ps(_mm_add_epi32(_mm_castps_si128(y), _mm_slli_epi32(n, 23)));
  }
};

}  // namespace TESSERA_ISA
}  // namespace tessera
#endif
