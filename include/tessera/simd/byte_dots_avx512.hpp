#pragma once
// Dot products of bytes in AVX-512 registers. With VNNI one instruction multiplies unsigned bytes by signed ones and
// adds four products to each sum without saturation: weights take part as w + 128, and 128 times the sum of x is
// subtracted. Without VNNI vpmaddubsw takes |w| and x with w's sign, since pairs of products of 255 x 127 would
// saturate its 16 bits, and those of 127 x 127 do not.

#include <tessera/simd/byte_dots_plain.hpp>

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__)

namespace tessera {
inline namespace TESSERA_ISA {

template <class Arch>
  requires std::derived_from<Arch, xsimd::avx512f>
struct ByteDots<XsimdBackend<Arch>> {
  using Bytes = __m512i;
  using Sums = __m512i;
  template <BlockFormat F>
  static constexpr index_t row_blocks = 64 / F::bytes;

  static Bytes load(const void* p) { return _mm512_loadu_si512(p); }
  static void store(void* p, Bytes v) { _mm512_storeu_si512(p, v); }
  static Bytes broadcast(const std::int8_t* x) {
    std::int32_t four = 0;
    std::memcpy(&four, x, sizeof four);
    return _mm512_set1_epi32(four);
  }
#if defined(__AVX512VNNI__)
  static constexpr std::string_view name() { return "AVX512-VNNI"; }
  static Bytes as_weights(Bytes v) { return _mm512_xor_si512(v, _mm512_set1_epi8(-128)); }
  static Sums start(std::int32_t sum) { return _mm512_set1_epi32(-128 * sum); }
  static Sums dot(Sums sums, Bytes w, Bytes x) { return _mm512_dpbusd_epi32(sums, w, x); }
#else
  static constexpr std::string_view name() { return "AVX512-BW"; }
  static Bytes as_weights(Bytes v) { return v; }
  static Sums start(std::int32_t) { return _mm512_setzero_si512(); }
  static Sums dot(Sums sums, Bytes w, Bytes x) {
    const Bytes signed_x = _mm512_mask_sub_epi8(x, _mm512_movepi8_mask(w), _mm512_setzero_si512(), x);
    return _mm512_add_epi32(
        sums, _mm512_madd_epi16(_mm512_maddubs_epi16(_mm512_abs_epi8(w), signed_x), _mm512_set1_epi16(1)));
  }
#endif
  static xsimd::batch<float, Arch> to_float(Sums sums) { return _mm512_maskz_cvtepi32_ps(0xFFFF, sums); }

  template <BlockFormat F, class RowAt>
  [[gnu::always_inline]] static inline void row_sums(const RowAt& row_at, const std::int8_t* x,
                                                     const std::int32_t* sums_of_x, index_t blocks, Sums* out) {
    if (blocks == row_blocks<F>) {
      sum_rows<F>([&](int r) { return load(row_at(r)); }, [&](index_t i) { return load(x + 64 * i); }, out);
    } else {
      const auto first = [](index_t n) { return n >= 64 ? ~__mmask64{0} : (__mmask64{1} << n) - 1; };
      const __mmask64 some = first(blocks * F::bytes);
      sum_rows<F>([&](int r) { return _mm512_maskz_loadu_epi8(some, row_at(r)); },
                  [&](index_t i) {
                    const index_t left = blocks * weight_block - 64 * i;
                    return left > 0 ? _mm512_maskz_loadu_epi8(first(left), x + 64 * i) : _mm512_setzero_si512();
                  },
                  out);
    }
#if defined(__AVX512VNNI__)
    if constexpr (F::dtype == DType::int8_blocks)
      for (index_t b = 0; b < blocks; ++b) out[b] = _mm512_sub_epi32(out[b], _mm512_set1_epi32(128 * sums_of_x[b]));
#else
    static_cast<void>(sums_of_x);
#endif
  }

 private:
  /// Sums of four rows: lane r of each 128 bits is the sum of those of row r.
  static Sums fold(Sums a, Sums b, Sums c, Sums d) {
    const Sums ab = _mm512_add_epi32(_mm512_maskz_unpacklo_epi32(all, a, b), _mm512_maskz_unpackhi_epi32(all, a, b));
    const Sums cd = _mm512_add_epi32(_mm512_maskz_unpacklo_epi32(all, c, d), _mm512_maskz_unpackhi_epi32(all, c, d));
    return _mm512_add_epi32(_mm512_maskz_unpacklo_epi64(0xFF, ab, cd), _mm512_maskz_unpackhi_epi64(0xFF, ab, cd));
  }
  template <int Choice>
  static Sums quarters(Sums a, Sums b) {
    return _mm512_maskz_shuffle_i32x4(all, a, b, Choice);
  }

  template <BlockFormat F, class LoadRow, class LoadX>
  [[gnu::always_inline]] static inline void sum_rows(const LoadRow& load_row, const LoadX& load_x, Sums* out) {
    Sums q[4];  // of rows 4i to 4i + 3
    if constexpr (F::dtype == DType::int8_blocks) {
      const Bytes v = load_x(0);
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        Sums s[4];
#pragma GCC unroll 4
        for (int r = 0; r < 4; ++r) s[r] = dot(_mm512_setzero_si512(), as_weights(load_row(4 * i + r)), v);
        q[i] = fold(s[0], s[1], s[2], s[3]);
      }
      const Sums low = _mm512_add_epi32(quarters<0x88>(q[0], q[1]), quarters<0xDD>(q[0], q[1]));
      const Sums high = _mm512_add_epi32(quarters<0x88>(q[2], q[3]), quarters<0xDD>(q[2], q[3]));
      out[0] = quarters<0x88>(low, high);
      out[1] = quarters<0xDD>(low, high);
    } else {
      // Two registers of x in the order of the low halves of four blocks' bytes, then of the high ones.
      const Bytes x0 = load_x(0), x1 = load_x(1);
      const Bytes x_low = quarters<0x88>(x0, x1), x_high = quarters<0xDD>(x0, x1);
      const Bytes mask = _mm512_set1_epi8(15);
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) {
        Sums s[4];
#pragma GCC unroll 4
        for (int r = 0; r < 4; ++r) {
          const Bytes packed = load_row(4 * i + r);
          const Bytes high = _mm512_and_si512(_mm512_srli_epi16(packed, 4), mask);
          s[r] = dot_small(dot_small(_mm512_setzero_si512(), _mm512_and_si512(packed, mask), x_low), high, x_high);
        }
        q[i] = fold(s[0], s[1], s[2], s[3]);
      }
      const Sums a = quarters<0x88>(q[0], q[1]), b = quarters<0xDD>(q[0], q[1]);  // blocks 0, 2 and 1, 3
      const Sums c = quarters<0x88>(q[2], q[3]), d = quarters<0xDD>(q[2], q[3]);
      out[0] = quarters<0x88>(a, c);
      out[1] = quarters<0x88>(b, d);
      out[2] = quarters<0xDD>(a, c);
      out[3] = quarters<0xDD>(b, d);
    }
  }
  /// Weights from 0 to 15 are unsigned bytes as they are.
  static Sums dot_small(Sums sums, Bytes w, Bytes x) {
#if defined(__AVX512VNNI__)
    return _mm512_dpbusd_epi32(sums, w, x);
#else
    return _mm512_add_epi32(sums, _mm512_madd_epi16(_mm512_maddubs_epi16(w, x), _mm512_set1_epi16(1)));
#endif
  }
  static constexpr __mmask16 all = 0xFFFF;
};

}  // namespace TESSERA_ISA
}  // namespace tessera
#endif
