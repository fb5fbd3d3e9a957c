#pragma once
// Products of activations with weights as stored: out = x weight^T.

#include <span>

#include <tessera/kernels/gemm_bf16.hpp>
#include <tessera/kernels/gemm_f32.hpp>
#include <tessera/kernels/quantised_f32.hpp>
#include <tessera/kernels/quantised_int8.hpp>
#include <tessera/parallel/team.hpp>

namespace tessera {

/// One weight [N, K] as it lies in memory (WeightView), its bias [N] or nullptr, and where x weight^T + bias goes: [T,
/// N].
struct Projection {
  WeightView weight;
  const float* bias = nullptr;
  Activations out;
};

/// In a trace: project().
inline constexpr TraceName trace_project{"project", TraceKind::kernel, "rows"};
/// In a trace: project_gated().
inline constexpr TraceName trace_project_gated{"project_gated", TraceKind::kernel, "rows"};

namespace detail {

template <SimdBackend B, class ProductAt>
void multiply(Worker& worker, ConstActivations x, const ProductAt& product_at, index_t products) {
  index_t rows = 0;
  for (index_t i = 0; i < products; ++i) rows += product_at(i).rows();
  // Whole cache lines of the output for each worker, unless some would then have nothing to do.
  constexpr index_t floats_per_line = 16;
  const Shares shares{rows, rows >= 4 * floats_per_line * worker.count() ? floats_per_line : 1};
  const WeightView weight = product_at(0).weight.pieces[0];
  if (is_blocks(weight.dtype) && weight.arithmetic == Arithmetic::int8) {
    multiply_int8<B>(worker, x, product_at, products, shares);
  } else if (is_blocks(weight.dtype)) {
    multiply_decoded<B>(worker, x, product_at, products, shares);
  } else if (multiplies_in_bf16<B>(weight)) {
    if constexpr (MultipliesBf16<B>) multiply_bf16<B>(worker, x, product_at, products, shares);
  } else {
    multiply_floats<B>(worker, x, product_at, products, shares);
  }
  worker.barrier();
}

}  // namespace detail

/// Collective. out = x weight^T + bias for several weights of one input: x [T, K], weight [N, K], out [T, N]. Inputs
/// are complete on entry; the results are visible to all workers on return. No output overlaps an input. A result
/// depends on the shapes only, not on the number of workers.
template <SimdBackend B>
void project(Worker& worker, ConstActivations x, std::span<const Projection> projections) {
  const TraceScope scope(worker.lane(), trace_project, projections.front().out.cols);
  for (const Projection& p : projections) {
    expect_shape(p.weight, p.out.cols, x.cols, "project: weight");
    expect_shape(p.out, x.rows, p.weight.rows, "project: out");
  }
  // Neighbours of one kind share their rows among the workers as one list.
  for (std::size_t begin = 0, end = 0; begin < projections.size(); begin = end) {
    while (end < projections.size() && same_kind(projections[begin].weight, projections[end].weight)) ++end;
    const auto product_at = [&](index_t i) {
      const Projection& p = projections[begin + static_cast<std::size_t>(i)];
      return Product{{{p.weight, WeightView{}}, 1}, p.bias, p.out};
    };
    detail::multiply<B>(worker, x, product_at, static_cast<index_t>(end - begin));
  }
}

/// Collective. out = silu(x gate^T) * (x up^T): x [T, K], gate and up [N, K], out [T, N]. As project().
template <SimdBackend B>
void project_gated(Worker& worker, ConstActivations x, WeightView gate, WeightView up, Activations out) {
  const TraceScope scope(worker.lane(), trace_project_gated, 2 * out.cols);
  expect_shape(gate, out.cols, x.cols, "project_gated: gate");
  expect_shape(up, out.cols, x.cols, "project_gated: up");
  expect_shape(out, x.rows, gate.rows, "project_gated: out");
  require(same_kind(gate, up), "project_gated: gate is ", name_of(gate.dtype), ", up is ", name_of(up.dtype));
  detail::multiply<B>(
      worker, x,
      [&](index_t) {
        return Product{{{gate, up}, 2}, nullptr, out};
      },
      1);
}

}  // namespace tessera
