#pragma once
// Vectors on top of xsimd: one backend for each of its architectures.

#include <string_view>

#include <tessera/simd/lanes.hpp>
#include <tessera/simd/lanes_avx.hpp>
#include <tessera/simd/lanes_avx512.hpp>
#include <tessera/simd/lanes_sse.hpp>

namespace tessera {
inline namespace TESSERA_ISA {

#if defined(TESSERA_SCALAR)
/// One lane, on any processor: for a program that wants no vectors, and to test what others than this one get.
using DefaultArch = xsimd::unavailable;
#else
/// The widest vectors that the unit is compiled for.
using DefaultArch = xsimd::default_arch;
#endif

/// Vectors of floats as xsimd's architecture `Arch` has them; Lanes<Arch> adds loads that widen, edges, reductions,
/// the transpose, fma and exp.
template <class Arch = DefaultArch>
struct XsimdBackend : Lanes<Arch> {
  using f32 = typename Lanes<Arch>::f32;
  static constexpr std::string_view name() { return Arch::name(); }

  static void store(float* p, f32 v) { v.store_unaligned(p); }
  static f32 broadcast(float value) { return f32(value); }
  static f32 zero() { return f32(0.0F); }
  static f32 add(f32 a, f32 b) { return a + b; }
  static f32 sub(f32 a, f32 b) { return a - b; }
  static f32 mul(f32 a, f32 b) { return a * b; }
  static f32 div(f32 a, f32 b) { return a / b; }
};

/// Of a processor that xsimd has no vectors for: one lane.
template <class Arch>
  requires(!xsimd::types::has_simd_register<float, Arch>::value)
struct XsimdBackend<Arch> : ScalarBackend {};

}  // namespace TESSERA_ISA
}  // namespace tessera
