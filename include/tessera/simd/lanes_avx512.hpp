#pragma once
// Sixteen floats in an AVX-512 register. Edges are masks; 16-bit masks need BW and VL, which all but the first machines
// with AVX-512 have. The zero-masking forms with every lane chosen compile to the plain instructions; GCC 12 warns of
// the plain intrinsics that they read an undefined register (its bug 105593).

#include <bit>
#include <concepts>

#include <tessera/simd/lanes_avx.hpp>

#if defined(__AVX512F__)

namespace tessera {
inline namespace TESSERA_ISA {

/// The first n (0..16) of sixteen 16-bit elements; memory past them is not read.
[[gnu::always_inline]] inline __m256i load_partial_16x16(const void* p, index_t n) {
#if defined(__AVX512BW__) && defined(__AVX512VL__)
  return _mm256_maskz_loadu_epi16(static_cast<__mmask16>((1U << n) - 1), p);
#else
  const auto* bytes = static_cast<const char*>(p);
  const __m128i low = load_partial_8x16(bytes, n < 8 ? n : 8);
  const __m128i high = n > 8 ? load_partial_8x16(bytes + 16, n - 8) : _mm_setzero_si128();
  return _mm256_inserti128_si256(_mm256_castsi128_si256(low), high, 1);
#endif
}

template <class Arch>
  requires std::derived_from<Arch, xsimd::avx512f>
struct Lanes<Arch> {
  using f32 = xsimd::batch<float, Arch>;
  static constexpr index_t width = 16;
  static constexpr int registers = 32;

  static f32 fma(f32 a, f32 b, f32 c) { return _mm512_fmadd_ps(a, b, c); }
  static f32 max(f32 a, f32 b) { return _mm512_maskz_max_ps(all_lanes, a, b); }
  static f32 min(f32 a, f32 b) { return _mm512_maskz_min_ps(all_lanes, a, b); }

  static f32 load(const float* p) { return _mm512_loadu_ps(p); }
  static f32 load(const bf16_t* p) { return widen_bf16(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))); }
  static f32 load(const f16_t* p) {
    return _mm512_maskz_cvtph_ps(all_lanes, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
  static f32 load(const std::int8_t* p) {
    return to_float(_mm512_maskz_cvtepi8_epi32(all_lanes, _mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
  }
  static f32 load_partial(const float* p, index_t n) { return _mm512_maskz_loadu_ps(first(n), p); }
  static f32 load_partial(const bf16_t* p, index_t n) { return widen_bf16(load_partial_16x16(p, n)); }
  static f32 load_partial(const f16_t* p, index_t n) {
    return _mm512_maskz_cvtph_ps(all_lanes, load_partial_16x16(p, n));
  }
  static void store_partial(float* p, f32 v, index_t n) { _mm512_mask_storeu_ps(p, first(n), v); }

#if defined(__AVX512BF16__)
  static f32 pack_bf16(f32 low, f32 high) {
    return _mm512_castsi512_ps(std::bit_cast<__m512i>(_mm512_cvtne2ps_pbh(high, low)));
  }
  static f32 fma_bf16(f32 a, f32 b, f32 c) {
    return _mm512_dpbf16_ps(c, std::bit_cast<__m512bh>(_mm512_castps_si512(a)),
                            std::bit_cast<__m512bh>(_mm512_castps_si512(b)));
  }
#endif

  static float reduce_add(f32 v) {
    const __m256 half = _mm256_add_ps(half_of<0>(v), half_of<1>(v));
    return reduce_add_4(_mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1)));
  }
  static float reduce_max(f32 v) {
    const __m256 half = _mm256_max_ps(half_of<0>(v), half_of<1>(v));
    return reduce_max_4(_mm_max_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1)));
  }

  static void transpose(f32 (&square)[16]) {
    __m512 quads[16];  // quads[4 * g + c]: columns c, c + 4, c + 8, c + 12 of rows 4g .. 4g + 3
    for (int g = 0; g < 16; g += 4) {
      const __m512 low01 = _mm512_maskz_unpacklo_ps(all_lanes, square[g], square[g + 1]);
      const __m512 high01 = _mm512_maskz_unpackhi_ps(all_lanes, square[g], square[g + 1]);
      const __m512 low23 = _mm512_maskz_unpacklo_ps(all_lanes, square[g + 2], square[g + 3]);
      const __m512 high23 = _mm512_maskz_unpackhi_ps(all_lanes, square[g + 2], square[g + 3]);
      quads[g] = _mm512_maskz_shuffle_ps(all_lanes, low01, low23, 0x44);
      quads[g + 1] = _mm512_maskz_shuffle_ps(all_lanes, low01, low23, 0xEE);
      quads[g + 2] = _mm512_maskz_shuffle_ps(all_lanes, high01, high23, 0x44);
      quads[g + 3] = _mm512_maskz_shuffle_ps(all_lanes, high01, high23, 0xEE);
    }
    for (int c = 0; c < 4; ++c) {  // a 4 x 4 transpose of 128-bit blocks
      const __m512 even01 = _mm512_maskz_shuffle_f32x4(all_lanes, quads[c], quads[c + 4], 0x88);
      const __m512 odd01 = _mm512_maskz_shuffle_f32x4(all_lanes, quads[c], quads[c + 4], 0xDD);
      const __m512 even23 = _mm512_maskz_shuffle_f32x4(all_lanes, quads[c + 8], quads[c + 12], 0x88);
      const __m512 odd23 = _mm512_maskz_shuffle_f32x4(all_lanes, quads[c + 8], quads[c + 12], 0xDD);
      square[c] = _mm512_maskz_shuffle_f32x4(all_lanes, even01, even23, 0x88);
      square[c + 4] = _mm512_maskz_shuffle_f32x4(all_lanes, odd01, odd23, 0x88);
      square[c + 8] = _mm512_maskz_shuffle_f32x4(all_lanes, even01, even23, 0xDD);
      square[c + 12] = _mm512_maskz_shuffle_f32x4(all_lanes, odd01, odd23, 0xDD);
    }
  }

  static f32 exp(f32 x) { return exp_of<Lanes>(x); }
  static __m512i round_to_int(f32 x) { return _mm512_maskz_cvtps_epi32(all_lanes, x); }
  static f32 to_float(__m512i n) { return _mm512_maskz_cvtepi32_ps(all_lanes, n); }
  static f32 add_to_exponent(f32 y, __m512i n) {
    return _mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(y), _mm512_maskz_slli_epi32(all_lanes, n, 23)));
  }
  static f32 zero_where_less(f32 v, f32 x, f32 bound) {
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(x, bound, _CMP_NLT_UQ), v);
  }
  static f32 replace_where_greater(f32 v, f32 x, f32 bound, f32 other) {
    return _mm512_mask_mov_ps(v, _mm512_cmp_ps_mask(x, bound, _CMP_GT_OQ), other);
  }

 private:
  static constexpr __mmask16 all_lanes = 0xFFFF;
  template <int Half>
  static __m256 half_of(__m512 v) {
    return _mm256_castpd_ps(_mm512_maskz_extractf64x4_pd(0xFF, _mm512_castps_pd(v), Half));
  }
  static __mmask16 first(index_t n) { return static_cast<__mmask16>((1U << n) - 1); }
  static __m512 widen_bf16(__m256i upper) {
    return _mm512_castsi512_ps(_mm512_maskz_slli_epi32(all_lanes, _mm512_maskz_cvtepu16_epi32(all_lanes, upper), 16));
  }
};

}  // namespace TESSERA_ISA
}  // namespace tessera
#endif
