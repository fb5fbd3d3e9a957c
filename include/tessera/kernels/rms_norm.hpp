#pragma once
// Root-mean-square normalisation of rows (arXiv:1910.07467).

#include <cmath>
#include <span>

#include <tessera/core/view.hpp>
#include <tessera/parallel/team.hpp>
#include <tessera/simd/backend.hpp>

namespace tessera {

/// out = x / sqrt(mean(x^2) + eps) * weight over `n` floats; `out` may be `x`.
template <SimdBackend B>
void rms_norm_row(const float* x, const float* weight, float eps, index_t n, float* out) {
  constexpr index_t W = B::width;
  const index_t whole = n - n % W;
  auto squares = B::zero();
  for (index_t i = 0; i < whole; i += W) {
    const auto v = B::load(x + i);
    squares = B::fma(v, v, squares);
  }
  if (whole < n) {
    const auto v = B::load_partial(x + whole, n - whole);
    squares = B::fma(v, v, squares);
  }
  const auto scale = B::broadcast(1.0F / std::sqrt(B::reduce_add(squares) / static_cast<float>(n) + eps));
  for (index_t i = 0; i < whole; i += W) B::store(out + i, B::mul(B::mul(B::load(x + i), scale), B::load(weight + i)));
  if (whole < n) {
    const index_t rest = n - whole;
    const auto v = B::mul(B::mul(B::load_partial(x + whole, rest), scale), B::load_partial(weight + whole, rest));
    B::store_partial(out + whole, v, rest);
  }
}

/// In a trace: a norm.
inline constexpr TraceName trace_norm{"rms_norm", TraceKind::kernel, "tokens"};

/// Normalises every row of x into out, rows shared among the workers.
template <SimdBackend B>
void rms_norm(Worker& worker, ConstActivations x, std::span<const float> weight, float eps, Activations out) {
  const TraceScope scope(worker.lane(), trace_norm, x.rows);
  const Range mine = worker.share(x.rows);
  for (index_t i = mine.begin; i < mine.end; ++i) rms_norm_row<B>(x.row(i), weight.data(), eps, x.cols, out.row(i));
  worker.barrier();
}

}  // namespace tessera
