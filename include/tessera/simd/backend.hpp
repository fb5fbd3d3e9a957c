#pragma once
// SimdBackend: the vector of floats that kernels are written in, and the two models that exist of it.

#include <concepts>
#include <string_view>

#include <tessera/simd/scalar_backend.hpp>
#include <tessera/simd/xsimd_backend.hpp>

namespace tessera {

/// Law: every operation acts lane by lane as ScalarBackend's does on floats, up to the rounding of fma (one or two
/// roundings) and of exp (2 ulp). Loads widen exactly. load_partial(p, n) and store_partial(p, v, n), 0 <= n <= width,
/// touch no memory past p[n - 1]; the lanes from n on are 0. exp is sound for every input: NaN stays NaN, +inf where
/// the result overflows, 0 below exp_flush_below. max and min of a NaN are either operand. Reductions add in an order
/// that depends on the width only. transpose turns row i of a width x width square into column i.
template <class B>
concept SimdBackend = requires(typename B::f32 v, const float* in, const bf16_t* in_bf16, const f16_t* in_f16,
                               const std::int8_t* in_int8, float* out, index_t n, typename B::f32 (&square)[B::width]) {
  requires B::width >
  0 && B::registers > 0;
  { B::name() } -> std::convertible_to<std::string_view>;
  { B::load(in) } -> std::same_as<typename B::f32>;
  { B::load(in_bf16) } -> std::same_as<typename B::f32>;
  { B::load(in_f16) } -> std::same_as<typename B::f32>;
  { B::load(in_int8) } -> std::same_as<typename B::f32>;
  { B::load_partial(in, n) } -> std::same_as<typename B::f32>;
  { B::load_partial(in_bf16, n) } -> std::same_as<typename B::f32>;
  { B::load_partial(in_f16, n) } -> std::same_as<typename B::f32>;
  B::store(out, v);
  B::store_partial(out, v, n);
  { B::broadcast(1.0F) } -> std::same_as<typename B::f32>;
  { B::zero() } -> std::same_as<typename B::f32>;
  { B::add(v, v) } -> std::same_as<typename B::f32>;
  { B::sub(v, v) } -> std::same_as<typename B::f32>;
  { B::mul(v, v) } -> std::same_as<typename B::f32>;
  { B::div(v, v) } -> std::same_as<typename B::f32>;
  { B::max(v, v) } -> std::same_as<typename B::f32>;
  { B::min(v, v) } -> std::same_as<typename B::f32>;
  { B::fma(v, v, v) } -> std::same_as<typename B::f32>;
  { B::exp(v) } -> std::same_as<typename B::f32>;
  { B::reduce_add(v) } -> std::same_as<float>;
  { B::reduce_max(v) } -> std::same_as<float>;
  B::transpose(square);
};

static_assert(SimdBackend<ScalarBackend>);
static_assert(SimdBackend<XsimdBackend<>>);

}  // namespace tessera
