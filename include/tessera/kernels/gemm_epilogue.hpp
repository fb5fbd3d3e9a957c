#pragma once
// What is done with sums before they are stored.

#include <tessera/simd/backend.hpp>

namespace tessera {

/// silu(gate) * up, silu(a) = a / (1 + exp(-a)) (arXiv:2002.05202).
template <SimdBackend B>
[[gnu::always_inline]] inline typename B::f32 silu_multiply(typename B::f32 gate, typename B::f32 up) {
  const auto one = B::broadcast(1.0F);
  return B::mul(B::div(gate, B::add(one, B::exp(B::sub(B::zero(), gate)))), up);
}

}  // namespace tessera
