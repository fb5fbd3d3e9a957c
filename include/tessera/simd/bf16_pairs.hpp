#pragma once
// Products of bfloat16 numbers, two in each 32-bit lane, where the processor has them.

#include <concepts>

#include <tessera/simd/backend.hpp>

namespace tessera {

/// A backend with dot products of bf16 pairs. Law: a vector of pairs holds 2 x width bf16 numbers in the order of
/// memory. pack_bf16(low, high) rounds the lanes of low, then those of high, to the nearest, ties to even.
/// fma_bf16(a, b, c) adds to lane i of c, in f32, the products of the two numbers in lane i of a and of b; the order
/// and the rounding of the two additions, and what becomes of subnormal numbers, are the processor's.
template <class B>
concept MultipliesBf16 = SimdBackend<B> && requires(typename B::f32 v) {
  { B::pack_bf16(v, v) } -> std::same_as<typename B::f32>;
  { B::fma_bf16(v, v, v) } -> std::same_as<typename B::f32>;
};

/// B, but that the factors of a product are pairs of bf16: a kernel that only moves its inputs and multiplies them
/// computes with matrices of 2 K bf16 columns when it is given their memory as K columns of f32.
template <MultipliesBf16 B>
struct Bf16Pairs : B {
  static typename B::f32 fma(typename B::f32 a, typename B::f32 b, typename B::f32 c) { return B::fma_bf16(a, b, c); }
};

}  // namespace tessera
