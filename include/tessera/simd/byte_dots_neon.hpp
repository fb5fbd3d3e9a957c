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
  static constexpr bool one_instruction = true;

  static Bytes load(const void* p) { return vld1q_s8(static_cast<const std::int8_t*>(p)); }
  static Bytes broadcast(const std::int8_t* x) {
    std::int32_t four;
    std::memcpy(&four, x, sizeof four);
    return vreinterpretq_s8_s32(vdupq_n_s32(four));
  }
  static Bytes as_weights(Bytes v) { return v; }
  static Bytes low_halves(Bytes v) { return vandq_s8(v, vdupq_n_s8(15)); }
  static Bytes high_halves(Bytes v) { return vreinterpretq_s8_u8(vshrq_n_u8(vreinterpretq_u8_s8(v), 4)); }
  static std::int32_t start(std::int32_t) { return 0; }
  template <BlockFormat>
  static Sums sums_from(std::int32_t) {
    return vdupq_n_s32(0);
  }
  template <BlockFormat>
  static Sums dot(Sums sums, Bytes w, Bytes x) {
    return vdotq_s32(sums, w, x);
  }
  template <BlockFormat>
  static xsimd::batch<float, Arch> to_float(Sums sums) {
    return vcvtq_f32_s32(sums);
  }
};

}  // namespace TESSERA_ISA
}  // namespace tessera
#endif
