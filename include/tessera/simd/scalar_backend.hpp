#pragma once
// The reference backend: one lane, plain C++, nothing that a reader has to look up.

#include <algorithm>
#include <cmath>
#include <string_view>

#include <tessera/core/types.hpp>
#include <tessera/simd/isa.hpp>

namespace tessera {
inline namespace TESSERA_ISA {

/// Below this exp is 0: the results would be subnormal, which costs a trap on many machines and no accuracy here.
inline constexpr float exp_flush_below = -87.3F;

/// Models SimdBackend with one lane.
struct ScalarBackend {
  using f32 = float;
  static constexpr index_t width = 1;
  static constexpr int registers = 16;
  static constexpr std::string_view name() { return "scalar"; }

  template <class T>
  static f32 load(const T* p) {
    return to_float(*p);
  }
  template <class T>
  static f32 load_partial(const T* p, index_t n) {
    return n > 0 ? to_float(*p) : 0.0F;
  }
  static void store(float* p, f32 v) { *p = v; }
  static void store_partial(float* p, f32 v, index_t n) {
    if (n > 0) *p = v;
  }
  static f32 broadcast(float value) { return value; }
  static f32 zero() { return 0.0F; }
  static f32 add(f32 a, f32 b) { return a + b; }
  static f32 sub(f32 a, f32 b) { return a - b; }
  static f32 mul(f32 a, f32 b) { return a * b; }
  static f32 div(f32 a, f32 b) { return a / b; }
  static f32 max(f32 a, f32 b) { return std::max(a, b); }
  static f32 min(f32 a, f32 b) { return std::min(a, b); }
  static f32 fma(f32 a, f32 b, f32 c) { return a * b + c; }  // rounded twice: std::fma is a call where there is no FMA
  static float reduce_add(f32 v) { return v; }
  static float reduce_max(f32 v) { return v; }
  static f32 exp(f32 x) { return x < exp_flush_below ? 0.0F : std::exp(x); }
  static void transpose(f32 (&)[1]) {}
};

}  // namespace TESSERA_ISA
}  // namespace tessera
