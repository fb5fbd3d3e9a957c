#pragma once
// The operations on a register of floats that xsimd lacks or compiles badly: here in portable form, for every
// architecture; lanes_sse.hpp, lanes_avx.hpp and lanes_avx512.hpp say them in instructions.

#include <algorithm>

#include <tessera/core/types.hpp>
#include <tessera/simd/isa.hpp>
#include <tessera/simd/scalar_backend.hpp>
#if defined(__GNUC__) && !defined(__clang__)
// GCC 12 takes the undefined lanes of its own AVX-512 header for a mistake (GCC bug 105593).
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#include <xsimd/xsimd.hpp>
#pragma GCC diagnostic pop
#else
#include <xsimd/xsimd.hpp>
#endif

namespace tessera {
inline namespace TESSERA_ISA {

/// A register of floats of xsimd's architecture `Arch`; see SimdBackend for the law of each operation.
template <class Arch>
struct Lanes {
  using f32 = xsimd::batch<float, Arch>;
  static constexpr index_t width = static_cast<index_t>(f32::size);
  static constexpr int registers = 32;  // NEON and SVE have 32

  static f32 fma(f32 a, f32 b, f32 c) { return xsimd::fma(a, b, c); }
  static f32 max(f32 a, f32 b) { return xsimd::max(a, b); }
  static f32 min(f32 a, f32 b) { return xsimd::min(a, b); }

  template <class T>
  static f32 load(const T* p) {
    return load_partial(p, width);
  }
  static f32 load(const float* p) { return f32::load_unaligned(p); }
  template <class T>
  static f32 load_partial(const T* p, index_t n) {
    alignas(64) float lanes[width] = {};
    for (index_t i = 0; i < n; ++i) lanes[i] = to_float(p[i]);
    return f32::load_aligned(lanes);
  }
  static void store_partial(float* p, f32 v, index_t n) {
    alignas(64) float lanes[width];
    v.store_aligned(lanes);
    std::copy_n(lanes, n, p);
  }

  /// Adds lane i + width/2 to lane i, and so on by halves.
  static float reduce_add(f32 v) {
    alignas(64) float lanes[width];
    v.store_aligned(lanes);
    for (index_t half = width / 2; half > 0; half /= 2) {
      for (index_t i = 0; i < half; ++i) lanes[i] += lanes[i + half];
    }
    return lanes[0];
  }
  static float reduce_max(f32 v) {
    alignas(64) float lanes[width];
    v.store_aligned(lanes);
    return *std::max_element(lanes, lanes + width);
  }

  static void transpose(f32 (&square)[width]) {
    alignas(64) float out[width][width];
    for (index_t i = 0; i < width; ++i) {
      alignas(64) float row[width];
      square[i].store_aligned(row);
      for (index_t j = 0; j < width; ++j) out[j][i] = row[j];
    }
    for (index_t i = 0; i < width; ++i) square[i] = f32::load_aligned(out[i]);
  }

  // select by its argument's namespace: xsimd declares none where it has no architecture at all.
  static f32 exp(f32 x) { return select(x < f32(exp_flush_below), f32(0.0F), xsimd::exp(x)); }
};

}  // namespace TESSERA_ISA
}  // namespace tessera
