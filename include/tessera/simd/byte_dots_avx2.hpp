#pragma once
// Dot products of bytes in AVX2 registers: with AVX-VNNI as byte_dots_avx512.hpp has them. Without, vpmaddubsw takes
// |w| and x with w's sign: 127 x 127 twice stays within 16 bits, where unsigned weights up to 255 would saturate.
// Weights widened to 16 bits and vpmaddwd take as many instructions for a product, and twice the room in the cache.

#include <tessera/simd/byte_dots_plain.hpp>

#if defined(__AVX2__)

namespace tessera {
inline namespace TESSERA_ISA {

template <class Arch>
  requires(std::derived_from<Arch, xsimd::avx2> && !std::derived_from<Arch, xsimd::avx512f>)
struct ByteDots<XsimdBackend<Arch>> {
  using Bytes = __m256i;
  using Sums = __m256i;
  template <BlockFormat F>
  static constexpr index_t row_blocks = 32 / F::bytes;

  static Bytes load(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
  static void store(void* p, Bytes v) { _mm256_storeu_si256(static_cast<__m256i*>(p), v); }
  static Bytes broadcast(const std::int8_t* x) {
    std::int32_t four = 0;
    std::memcpy(&four, x, sizeof four);
    return _mm256_set1_epi32(four);
  }
#if defined(__AVXVNNI__) || (defined(__AVX512VNNI__) && defined(__AVX512VL__))
  static constexpr std::string_view name() { return "AVX-VNNI"; }
  static Bytes as_weights(Bytes v) { return _mm256_xor_si256(v, _mm256_set1_epi8(-128)); }
  static Sums start(std::int32_t sum) { return _mm256_set1_epi32(-128 * sum); }
  static Sums dot(Sums sums, Bytes w, Bytes x) { return dot_unsigned(sums, w, x); }
#else
  static constexpr std::string_view name() { return "AVX2"; }
  static Bytes as_weights(Bytes v) { return v; }
  static Sums start(std::int32_t) { return _mm256_setzero_si256(); }
  static Sums dot(Sums sums, Bytes w, Bytes x) {
    return dot_unsigned(sums, _mm256_abs_epi8(w), _mm256_sign_epi8(x, w));
  }
#endif
  static xsimd::batch<float, Arch> to_float(Sums sums) { return _mm256_cvtepi32_ps(sums); }

  template <BlockFormat F, class RowAt>
  [[gnu::always_inline]] static inline void row_sums(const RowAt& row_at, const std::int8_t* x,
                                                     const std::int32_t* sums_of_x, index_t blocks, Sums* out) {
    if constexpr (F::dtype == DType::int8_blocks) {
      const Bytes v = load(x);
      Sums s[8];
#pragma GCC unroll 8
      for (int r = 0; r < 8; ++r) s[r] = dot(_mm256_setzero_si256(), as_weights(load(row_at(r))), v);
      const Sums low = fold(s[0], s[1], s[2], s[3]), high = fold(s[4], s[5], s[6], s[7]);
      const Sums sum = _mm256_add_epi32(halves<0x20>(low, high), halves<0x31>(low, high));
      // What as_weights added to the weights is taken away again.
      out[0] = _mm256_add_epi32(sum, start(sums_of_x[0]));
    } else {
      const bool both = blocks == 2;
      const auto load_some = [&](const void* p) {
        return both ? load(p) : _mm256_zextsi128_si256(_mm_loadu_si128(static_cast<const __m128i*>(p)));
      };
      const Bytes x0 = load(x), x1 = both ? load(x + weight_block) : _mm256_setzero_si256();
      const Bytes x_low = halves<0x20>(x0, x1), x_high = halves<0x31>(x0, x1);
      const Bytes mask = _mm256_set1_epi8(15);
      Sums s[8];
#pragma GCC unroll 8
      for (int r = 0; r < 8; ++r) {
        const Bytes packed = load_some(row_at(r));
        const Bytes high = _mm256_and_si256(_mm256_srli_epi16(packed, 4), mask);
        s[r] = dot_unsigned(dot_unsigned(_mm256_setzero_si256(), _mm256_and_si256(packed, mask), x_low), high, x_high);
      }
      const Sums low = fold(s[0], s[1], s[2], s[3]), high = fold(s[4], s[5], s[6], s[7]);
      out[0] = halves<0x20>(low, high);
      if (both) out[1] = halves<0x31>(low, high);
    }
  }

 private:
  static Sums dot_unsigned(Sums sums, Bytes w, Bytes x) {
#if defined(__AVX512VNNI__) && defined(__AVX512VL__)
    return _mm256_dpbusd_epi32(sums, w, x);
#elif defined(__AVXVNNI__)
    return _mm256_dpbusd_avx_epi32(sums, w, x);
#else
    return _mm256_add_epi32(sums, _mm256_madd_epi16(_mm256_maddubs_epi16(w, x), _mm256_set1_epi16(1)));
#endif
  }
  /// Sums of four rows: lane r of each 128 bits is the sum of those of row r.
  static Sums fold(Sums a, Sums b, Sums c, Sums d) {
    return _mm256_hadd_epi32(_mm256_hadd_epi32(a, b), _mm256_hadd_epi32(c, d));
  }
  template <int Choice>
  static Sums halves(Sums a, Sums b) {
    return _mm256_permute2x128_si256(a, b, Choice);
  }
};

}  // namespace TESSERA_ISA
}  // namespace tessera
#endif
