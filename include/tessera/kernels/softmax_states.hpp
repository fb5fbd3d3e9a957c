#pragma once
// Partial softmax states (m, l, o): emptied, merged in the order given, divided by their sums.

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>

#include <tessera/kernels/attention_problem.hpp>
#include <tessera/parallel/team.hpp>
#include <tessera/simd/backend.hpp>

namespace tessera {

/// Makes `states` those of no keys: (-inf, 0, 0). One thread writes all of them.
inline void reset(const SoftmaxStates& states) {
  for (index_t r = 0; r < states.maximum.rows; ++r) {
    std::fill_n(states.maximum.row(r), states.maximum.cols, -std::numeric_limits<float>::infinity());
    std::fill_n(states.sum.row(r), states.sum.cols, 0.0F);
    std::fill_n(states.output.row(r), states.output.cols, 0.0F);
  }
}

/// The same, rows shared among the workers; ends with a barrier.
template <SimdBackend B>
void reset(Worker& worker, const SoftmaxStates& states) {
  const Range mine = worker.share(states.maximum.rows);
  reset(SoftmaxStates{states.maximum.row_range(mine), states.sum.row_range(mine), states.output.row_range(mine)});
  worker.barrier();
}

namespace detail {

/// What to subtract from scores whose maximum is m: exp(-inf - 0) is 0 where exp(-inf - -inf) would be NaN.
[[nodiscard]] inline float finite_maximum(float m) { return m == -std::numeric_limits<float>::infinity() ? 0.0F : m; }

/// out = in * factor over n floats; `out` may be `in`.
template <SimdBackend B>
void scale_row(const float* in, float factor, index_t n, float* out) {
  constexpr index_t W = B::width;
  const auto f = B::broadcast(factor);
  index_t i = 0;
  for (; i + W <= n; i += W) B::store(out + i, B::mul(B::load(in + i), f));
  if (i < n) B::store_partial(out + i, B::mul(B::load_partial(in + i, n - i), f), n - i);
}

/// out += in * factor over n floats.
template <SimdBackend B>
void add_scaled_row(const float* in, float factor, index_t n, float* out) {
  constexpr index_t W = B::width;
  const auto f = B::broadcast(factor);
  index_t i = 0;
  for (; i + W <= n; i += W) B::store(out + i, B::fma(B::load(in + i), f, B::load(out + i)));
  if (i < n) {
    const auto sum = B::fma(B::load_partial(in + i, n - i), f, B::load_partial(out + i, n - i));
    B::store_partial(out + i, sum, n - i);
  }
}

/// 1 / sum, and 0 for the empty sum, whose output is zero as well.
[[nodiscard]] inline float reciprocal_or_zero(float sum) { return sum == 0.0F ? 0.0F : 1.0F / sum; }

}  // namespace detail

/// out = o / l, zeros where no key was seen. `out` is [rows, heads * head_dim] and may be `states.output`.
template <SimdBackend B>
void normalize(Worker& worker, const SoftmaxStates& states, Activations out) {
  const index_t heads = states.maximum.cols;
  const index_t head_dim = heads == 0 ? 0 : out.cols / heads;
  const Range mine = worker.share(states.maximum.rows * heads);
  for (index_t i = mine.begin; i < mine.end; ++i) {
    const index_t row = i / heads;
    const index_t head = i % heads;
    const float factor = detail::reciprocal_or_zero(states.sum.row(row)[head]);
    detail::scale_row<B>(states.output.row(row) + head * head_dim, factor, head_dim, out.row(row) + head * head_dim);
  }
  worker.barrier();
}

/// Merges the states of disjoint sets of keys, in the order of `parts`, and divides by the sum. `out` is
/// [rows, heads * head_dim]. The same parts in the same order give the same bits on every rank.
template <SimdBackend B>
void merge_normalized(Worker& worker, std::span<const SoftmaxStates> parts, Activations out) {
  const index_t heads = parts.empty() ? 0 : parts.front().maximum.cols;
  const index_t head_dim = heads == 0 ? 0 : out.cols / heads;
  const Range mine = worker.share(out.rows * heads);
  for (index_t i = mine.begin; i < mine.end; ++i) {
    const index_t row = i / heads;
    const index_t head = i % heads;
    // Rescale to the shared maximum first: sums under different maxima do not add (arXiv:1805.02867).
    float m = -std::numeric_limits<float>::infinity();
    for (const SoftmaxStates& part : parts) m = std::max(m, part.maximum.row(row)[head]);
    const float shared = detail::finite_maximum(m);
    float* o = out.row(row) + head * head_dim;
    std::fill_n(o, head_dim, 0.0F);
    float sum = 0;
    for (const SoftmaxStates& part : parts) {
      const float factor = std::exp(part.maximum.row(row)[head] - shared);
      sum += part.sum.row(row)[head] * factor;
      detail::add_scaled_row<B>(part.output.row(row) + head * head_dim, factor, head_dim, o);
    }
    detail::scale_row<B>(o, detail::reciprocal_or_zero(sum), head_dim, o);
  }
  worker.barrier();
}

}  // namespace tessera
