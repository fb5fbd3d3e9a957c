#pragma once
// exp on a register of floats: 2^n e^r with n = round(x / ln 2), and the polynomial of Cephes' expf for e^r, |r| <=
// ln2/2.

#include <limits>

#include <tessera/simd/scalar_backend.hpp>

namespace tessera {
inline namespace TESSERA_ISA {

/// e^x within 2 ulp; 0 below exp_flush_below, +inf where it overflows, NaN of NaN. `L` (one of the x86 Lanes) gives
/// round_to_int, to_float, add_to_exponent and the two selections.
template <class L>
[[gnu::always_inline]] inline typename L::f32 exp_of(typename L::f32 x) {
  using f32 = typename L::f32;
  constexpr float log2_e = 1.44269504088896341F;
  constexpr float ln2_high = 0.693359375F;  // 10 bits: n * ln2_high is exact, also without fma
  constexpr float ln2_low = -2.12194440e-4F;
  constexpr float overflow_above = 88.72283935546875F;  // the last float whose exponential is finite
  const auto n_int = L::round_to_int(f32(log2_e) * x);
  const f32 n = L::to_float(n_int);
  const f32 r = L::fma(n, f32(-ln2_low), L::fma(n, f32(-ln2_high), x));
  f32 p(1.9875691500e-4F);
  p = L::fma(p, r, f32(1.3981999507e-3F));
  p = L::fma(p, r, f32(8.3334519073e-3F));
  p = L::fma(p, r, f32(4.1665795894e-2F));
  p = L::fma(p, r, f32(1.6666665459e-1F));
  p = L::fma(p, r, f32(5.0000001201e-1F));
  const f32 y = L::fma(p, r * r, r) + f32(1.0F);
  const f32 scaled = L::add_to_exponent(y, n_int);
  const f32 flushed = L::zero_where_less(scaled, x, f32(exp_flush_below));
  return L::replace_where_greater(flushed, x, f32(overflow_above), f32(std::numeric_limits<float>::infinity()));
}

}  // namespace TESSERA_ISA
}  // namespace tessera
