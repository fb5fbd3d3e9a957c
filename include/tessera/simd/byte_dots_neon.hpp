#pragma once
// Dot products of bytes on ARM: sdot multiplies signed bytes and adds four products to each sum.

#include <tessera/simd/byte_dots_plain.hpp>

#if defined(__aarch64__) && defined(__ARM_FEATURE_DOTPROD)

namespace tessera {
inline namespace TESSERA_ISA {

template <class Arch>
  requires std::derived_from<Arch, xsimd::neon>
struct ByteDots<XsimdBackend<Arch>> {
  using Bytes = int8x16_t;
  using Sums = int32x4_t;
  static constexpr std::string_view name() { return "NEON dotprod"; }
  template <BlockFormat F>
  static constexpr index_t row_blocks = 1;

  static Bytes load(const void* p) { return vld1q_s8(static_cast<const std::int8_t*>(p)); }
  static void store(void* p, Bytes v) { vst1q_s8(static_cast<std::int8_t*>(p), v); }
  static Bytes broadcast(const std::int8_t* x) {
    std::int32_t four;
    std::memcpy(&four, x, sizeof four);
    return vreinterpretq_s8_s32(vdupq_n_s32(four));
  }
  static Bytes as_weights(Bytes v) { return v; }
  static Sums start(std::int32_t) { return vdupq_n_s32(0); }
  static Sums dot(Sums sums, Bytes w, Bytes x) { return vdotq_s32(sums, w, x); }
  static xsimd::batch<float, Arch> to_float(Sums sums) { return vcvtq_f32_s32(sums); }

  template <BlockFormat F, class RowAt>
  static void row_sums(const RowAt& row_at, const std::int8_t* x, const std::int32_t*, index_t, Sums* out) {
    const Bytes x0 = load(x), x1 = load(x + 16);
    Sums s[4];
    for (int r = 0; r < 4; ++r) {
      const std::uint8_t* row = row_at(r);
      if constexpr (F::dtype == DType::int8_blocks) {
        s[r] = vdotq_s32(vdotq_s32(vdupq_n_s32(0), load(row), x0), load(row + 16), x1);
      } else {
        const uint8x16_t packed = vld1q_u8(row);
        const Bytes low = vreinterpretq_s8_u8(vandq_u8(packed, vdupq_n_u8(15)));
        const Bytes high = vreinterpretq_s8_u8(vshrq_n_u8(packed, 4));
        s[r] = vdotq_s32(vdotq_s32(vdupq_n_s32(0), low, x0), high, x1);
      }
    }
    out[0] = vpaddq_s32(vpaddq_s32(s[0], s[1]), vpaddq_s32(s[2], s[3]));
  }
};

}  // namespace TESSERA_ISA
}  // namespace tessera
#endif
