#pragma once
// Dot products of bytes in AVX2 registers: with AVX-VNNI as byte_dots_avx512.hpp has them. Without, vpmaddubsw takes
// |w| and x with w's sign: 127 x 127 twice stays within 16 bits, where unsigned weights up to 255 would saturate. Those
// of 15 x 127 add up within 16 bits for a whole block: 16 of them are 30,480.
// Weights widened to 16 bits and vpmaddwd take as many instructions for a product of int8 and twice the room in the
// cache: bench/byte_dots_bench.cpp.

#include <tessera/simd/byte_dots_plain.hpp>

#if defined(__AVX2__)

namespace tessera {
inline namespace TESSERA_ISA {

template <class Arch>
  requires(std::derived_from<Arch, xsimd::avx2> && !std::derived_from<Arch, xsimd::avx512f>)
struct ByteDots<XsimdBackend<Arch>> {
  using Bytes = __m256i;
  using Sums = __m256i;

  static Bytes load(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
  static Bytes broadcast(const std::int8_t* x) {
    std::int32_t four = 0;
    std::memcpy(&four, x, sizeof four);
    return _mm256_set1_epi32(four);
  }
  static Bytes low_halves(Bytes v) { return _mm256_and_si256(v, _mm256_set1_epi8(15)); }
  static Bytes high_halves(Bytes v) { return low_halves(_mm256_srli_epi16(v, 4)); }
#if defined(__AVXVNNI__) || (defined(__AVX512VNNI__) && defined(__AVX512VL__))
  static constexpr std::string_view name() { return "AVX-VNNI"; }
  static constexpr bool one_instruction = true;
  static Bytes as_weights(Bytes v) { return _mm256_xor_si256(v, _mm256_set1_epi8(-128)); }
  static std::int32_t start(std::int32_t sum) { return -128 * sum; }
  template <BlockFormat F>
  static Sums sums_from(std::int32_t start) {
    return F::dtype == DType::int8_blocks ? _mm256_set1_epi32(start) : _mm256_setzero_si256();
  }
  template <BlockFormat>
  static Sums dot(Sums sums, Bytes w, Bytes x) {
#if defined(__AVX512VNNI__) && defined(__AVX512VL__)
    return _mm256_dpbusd_epi32(sums, w, x);
#else
    return _mm256_dpbusd_avx_epi32(sums, w, x);
#endif
  }
#else
  static constexpr std::string_view name() { return "AVX2"; }
  static constexpr bool one_instruction = false;
  static Bytes as_weights(Bytes v) { return v; }
  static std::int32_t start(std::int32_t) { return 0; }
  template <BlockFormat>
  static Sums sums_from(std::int32_t) {
    return _mm256_setzero_si256();
  }
  template <BlockFormat F>
  static Sums dot(Sums sums, Bytes w, Bytes x) {
    if constexpr (F::dtype == DType::int8_blocks) {
      const Sums pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w));
      return _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
    } else {
      return _mm256_add_epi16(sums, _mm256_maddubs_epi16(w, x));
    }
  }
#endif
  template <BlockFormat F>
  static xsimd::batch<float, Arch> to_float(Sums sums) {
#if !defined(__AVXVNNI__) && !(defined(__AVX512VNNI__) && defined(__AVX512VL__))
    if constexpr (F::dtype == DType::int4_blocks) sums = _mm256_madd_epi16(sums, _mm256_set1_epi16(1));
#endif
    return _mm256_cvtepi32_ps(sums);
  }
};

}  // namespace TESSERA_ISA
}  // namespace tessera
#endif
