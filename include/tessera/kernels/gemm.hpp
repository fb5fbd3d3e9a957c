#pragma once
// Products of activations with weights as stored: out = x weight^T.

#include <span>

#include <tessera/kernels/gemm_dot.hpp>
#include <tessera/kernels/gemm_panels.hpp>
#include <tessera/parallel/team.hpp>

namespace tessera {

/// One weight [N, K] (row-major as in the file), its bias [N] or nullptr, and where x weight^T + bias goes: [T, N].
struct Projection {
  WeightView weight;
  const float* bias = nullptr;
  Activations out;
};

namespace detail {

/// Tokens up to which dot products are faster than panels.
template <SimdBackend B>
inline constexpr index_t dot_tokens = 16;

template <SimdBackend B, class ProductAt>
void multiply(Worker& worker, ConstActivations x, const ProductAt& product_at, index_t products) {
  index_t rows = 0;
  for (index_t i = 0; i < products; ++i) rows += product_at(i).rows();
  // Whole cache lines of the output for each worker, unless some would then have nothing to do.
  constexpr index_t floats_per_line = 16;
  const Range mine = worker.share(rows, rows >= 4 * floats_per_line * worker.count() ? floats_per_line : 1);
  if (x.rows <= dot_tokens<B>) {
    multiply_dots<B>(x, product_at, products, mine);
  } else {
    multiply_panels<B>(worker, x, product_at, products, mine);
  }
  worker.barrier();
}

}  // namespace detail

/// Collective. out = x weight^T + bias for several weights of one input: x [T, K], weight [N, K], out [T, N]. Inputs
/// are complete on entry; the results are visible to all workers on return. No output overlaps an input. A result
/// depends on the shapes only, not on the number of workers.
template <SimdBackend B>
void project(Worker& worker, ConstActivations x, std::span<const Projection> projections) {
  for (const Projection& p : projections) {
    expect_shape(p.weight, p.out.cols, x.cols, "project: weight");
    expect_shape(p.out, x.rows, p.weight.rows, "project: out");
  }
  const auto product_at = [&](index_t i) {
    const Projection& p = projections[static_cast<std::size_t>(i)];
    return Product{{{p.weight, WeightView{}}, 1}, p.bias, p.out};
  };
  detail::multiply<B>(worker, x, product_at, static_cast<index_t>(projections.size()));
}

/// Collective. out = silu(x gate^T) * (x up^T): x [T, K], gate and up [N, K], out [T, N]. As project().
template <SimdBackend B>
void project_gated(Worker& worker, ConstActivations x, WeightView gate, WeightView up, Activations out) {
  expect_shape(gate, out.cols, x.cols, "project_gated: gate");
  expect_shape(up, out.cols, x.cols, "project_gated: up");
  expect_shape(out, x.rows, gate.rows, "project_gated: out");
  detail::multiply<B>(
      worker, x,
      [&](index_t) {
        return Product{{{gate, up}, 2}, nullptr, out};
      },
      1);
}

}  // namespace tessera
