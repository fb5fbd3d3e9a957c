#pragma once
// Products of activations with weights as stored: out = x weight^T.

#include <cmath>
#include <span>

#include <tessera/core/view.hpp>
#include <tessera/parallel/team.hpp>
#include <tessera/simd/backend.hpp>

namespace tessera {

/// One weight [N, K] (row-major as in the file), its bias [N] or nullptr, and where x weight^T + bias goes: [T, N].
struct Projection {
  WeightView weight;
  const float* bias = nullptr;
  Activations out;
};

namespace detail {

template <SimdBackend B, class T>
float dot(const float* x, const T* weight, index_t n) {
  constexpr index_t W = B::width;
  auto sum = B::zero();
  index_t i = 0;
  for (; i + W <= n; i += W) sum = B::fma(B::load(x + i), B::load(weight + i), sum);
  if (i < n) sum = B::fma(B::load_partial(x + i, n - i), B::load_partial(weight + i, n - i), sum);
  return B::reduce_add(sum);
}

}  // namespace detail

/// Collective. out = x weight^T + bias for several weights of one input: x [T, K], weight [N, K], out [T, N]. Inputs are
/// complete on entry; the results are visible to all workers on return. No output overlaps an input.
template <SimdBackend B>
void project(Worker& worker, ConstActivations x, std::span<const Projection> projections) {
  for (const Projection& p : projections) {
    expect_shape(p.weight, p.out.cols, x.cols, "project: weight");
    expect_shape(p.out, x.rows, p.weight.rows, "project: out");
    const Range mine = worker.share(p.weight.rows);
    with_type_of(p.weight.dtype, [&](auto type) {
      for (index_t n = mine.begin; n < mine.end; ++n) {
        const auto* row = p.weight.template row_as<decltype(type)>(n);
        const float bias = p.bias == nullptr ? 0.0F : p.bias[n];
        for (index_t t = 0; t < x.rows; ++t) p.out.row(t)[n] = detail::dot<B>(x.row(t), row, x.cols) + bias;
      }
    });
  }
  worker.barrier();
}

/// Collective. out = silu(x gate^T) * (x up^T), silu(a) = a / (1 + exp(-a)): x [T, K], gate and up [N, K], out [T, N].
template <SimdBackend B>
void project_gated(Worker& worker, ConstActivations x, WeightView gate, WeightView up, Activations out) {
  expect_shape(gate, out.cols, x.cols, "project_gated: gate");
  expect_shape(up, out.cols, x.cols, "project_gated: up");
  expect_shape(out, x.rows, gate.rows, "project_gated: out");
  const Range mine = worker.share(gate.rows);
  with_type_of(gate.dtype, [&](auto gate_type) {
    with_type_of(up.dtype, [&](auto up_type) {
      for (index_t n = mine.begin; n < mine.end; ++n) {
        for (index_t t = 0; t < x.rows; ++t) {
          const float g = detail::dot<B>(x.row(t), gate.template row_as<decltype(gate_type)>(n), x.cols);
          const float u = detail::dot<B>(x.row(t), up.template row_as<decltype(up_type)>(n), x.cols);
          out.row(t)[n] = g / (1.0F + std::exp(-g)) * u;
        }
      }
    });
  });
  worker.barrier();
}

}  // namespace tessera
