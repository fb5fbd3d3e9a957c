#pragma once
// One query row and head against its visible keys: dot products and weighted sums of rows.

#include <algorithm>

#include <tessera/kernels/attention_problem.hpp>
#include <tessera/kernels/softmax_states.hpp>

namespace tessera::detail {

/// sum of a[i] * b[i] over n floats.
template <SimdBackend B>
[[nodiscard]] float dot(const float* a, const float* b, index_t n) {
  constexpr index_t W = B::width;
  auto sum = B::zero();
  index_t i = 0;
  for (; i + W <= n; i += W) sum = B::fma(B::load(a + i), B::load(b + i), sum);
  if (i < n) sum = B::fma(B::load_partial(a + i, n - i), B::load_partial(b + i, n - i), sum);
  return B::reduce_add(sum);
}

/// scores[j] = scale * q.k over the slots [keys.begin, keys.end).
template <SimdBackend B>
void score_keys(const float* q, const KeyValueView& cache, index_t kv_head, Range keys, index_t head_dim, float scale,
                float* scores) {
  for (index_t j = keys.begin; j < keys.end; ++j)
    scores[j - keys.begin] = scale * dot<B>(q, cache.key(kv_head, j), head_dim);
}

/// The larger of `m` and n values.
template <SimdBackend B>
[[nodiscard]] float maximum(const float* x, index_t n, float m) {
  constexpr index_t W = B::width;
  auto most = B::broadcast(m);
  index_t i = 0;
  for (; i + W <= n; i += W) most = B::max(most, B::load(x + i));
  m = B::reduce_max(most);
  for (; i < n; ++i) m = std::max(m, x[i]);
  return m;
}

/// x[j] = exp(x[j] - m) over n values; returns their sum.
template <SimdBackend B>
[[nodiscard]] float exponentials(float* x, index_t n, float m) {
  constexpr index_t W = B::width;
  const auto shift = B::broadcast(m);
  auto sum = B::zero();
  index_t i = 0;
  for (; i + W <= n; i += W) {
    const auto e = B::exp(B::sub(B::load(x + i), shift));
    B::store(x + i, e);
    sum = B::add(sum, e);
  }
  if (i == n) return B::reduce_add(sum);
  // The lanes past the end hold exp(0 - m); stored and read back they are zeros.
  B::store_partial(x + i, B::exp(B::sub(B::load_partial(x + i, n - i), shift)), n - i);
  return B::reduce_add(B::add(sum, B::load_partial(x + i, n - i)));
}

/// out += sum_j weights[j] * v_j over the slots [keys.begin, keys.end).
template <SimdBackend B>
void add_values(const float* weights, const KeyValueView& cache, index_t kv_head, Range keys, index_t head_dim,
                float* out) {
  for (index_t j = keys.begin; j < keys.end; ++j)
    add_scaled_row<B>(cache.value(kv_head, j), weights[j - keys.begin], head_dim, out);
}

/// Calls f(task, row of the matrices, head, visible slots) for this worker's part of all rows and heads.
template <class F>
void for_each_row(Worker& worker, const AttentionProblem& problem, F&& f) {
  const index_t heads = problem.layout.heads;
  for (const AttentionTask& task : problem.tasks) {
    const Range mine = worker.share(task.rows * heads);
    for (index_t i = mine.begin; i < mine.end; ++i)
      f(task, task.row_begin + i / heads, i % heads, task.visible[i / heads]);
  }
}

}  // namespace tessera::detail
