#pragma once
// Dot products of bytes in AVX-512 registers. With VNNI one instruction multiplies unsigned bytes by signed ones and
// adds four products to each sum without saturation: weights take part as w + 128, and 128 times the sum of x is
// subtracted. Without VNNI vpmaddubsw takes |w| and x with w's sign, since pairs of products of 255 x 127 would
// saturate its 16 bits, and those of 127 x 127 do not; weights in 4 bits add up there for a whole block.

#include <tessera/simd/byte_dots_plain.hpp>

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__)

namespace tessera {
inline namespace TESSERA_ISA {

template <class Arch>
  requires std::derived_from<Arch, xsimd::avx512f>
struct ByteDots<XsimdBackend<Arch>> {
  using Bytes = __m512i;
  using Sums = __m512i;

  static Bytes load(const void* p) { return _mm512_loadu_si512(p); }
  static Bytes broadcast(const std::int8_t* x) {
    std::int32_t four = 0;
    std::memcpy(&four, x, sizeof four);
    return _mm512_set1_epi32(four);
  }
  static Bytes low_halves(Bytes v) { return _mm512_and_si512(v, _mm512_set1_epi8(15)); }
  static Bytes high_halves(Bytes v) { return low_halves(_mm512_srli_epi16(v, 4)); }
#if defined(__AVX512VNNI__)
  static constexpr std::string_view name() { return "AVX512-VNNI"; }
  static constexpr bool one_instruction = true;
  static Bytes as_weights(Bytes v) { return _mm512_xor_si512(v, _mm512_set1_epi8(-128)); }
  static std::int32_t start(std::int32_t sum) { return -128 * sum; }
  template <BlockFormat F>
  static Sums sums_from(std::int32_t start) {
    return F::dtype == DType::int8_blocks ? _mm512_set1_epi32(start) : _mm512_setzero_si512();
  }
  template <BlockFormat>
  static Sums dot(Sums sums, Bytes w, Bytes x) {
    return _mm512_dpbusd_epi32(sums, w, x);
  }
#else
  static constexpr std::string_view name() { return "AVX512-BW"; }
  static constexpr bool one_instruction = false;
  static Bytes as_weights(Bytes v) { return v; }
  static std::int32_t start(std::int32_t) { return 0; }
  template <BlockFormat>
  static Sums sums_from(std::int32_t) {
    return _mm512_setzero_si512();
  }
  template <BlockFormat F>
  static Sums dot(Sums sums, Bytes w, Bytes x) {
    if constexpr (F::dtype == DType::int8_blocks) {
      const Bytes signed_x = _mm512_mask_sub_epi8(x, _mm512_movepi8_mask(w), _mm512_setzero_si512(), x);
      const Sums pairs = _mm512_maddubs_epi16(_mm512_abs_epi8(w), signed_x);
      return _mm512_add_epi32(sums, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)));
    } else {
      return _mm512_add_epi16(sums, _mm512_maddubs_epi16(w, x));
    }
  }
#endif
  template <BlockFormat F>
  static xsimd::batch<float, Arch> to_float(Sums sums) {
#if !defined(__AVX512VNNI__)
    if constexpr (F::dtype == DType::int4_blocks) sums = _mm512_madd_epi16(sums, _mm512_set1_epi16(1));
#endif
    return _mm512_maskz_cvtepi32_ps(0xFFFF, sums);
  }
};

}  // namespace TESSERA_ISA
}  // namespace tessera
#endif
