#pragma once
// Attention of a few queries: dot products along the head, and sums of value rows. The keys and values are read once,
// in order, for up to four queries at a time, which is what decoding from memory needs.

#include <algorithm>

#include <tessera/kernels/attention_tiles.hpp>
#include <tessera/kernels/cached_rows.hpp>
#include <tessera/kernels/softmax_states.hpp>

namespace tessera::detail {

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

/// scores[r][j] = queries[r] . keys[j] for ROWS queries and KEYS keys.
template <SimdBackend B, index_t ROWS, index_t KEYS>
void dot_block(const float* queries, index_t head_dim, const float* keys, index_t key_stride, float* scores,
               index_t score_stride) {
  constexpr index_t W = B::width;
  typename B::f32 sums[ROWS][KEYS];
  unrolled<ROWS>([&](auto r) { unrolled<KEYS>([&](auto j) { sums[r][j] = B::zero(); }); });
  const auto add = [&](auto&& load) __attribute__((always_inline)) {
    typename B::f32 k[KEYS];
    unrolled<KEYS>([&](auto j) { k[j] = load(keys + j * key_stride); });
    unrolled<ROWS>([&](auto r) {
      const auto q = load(queries + r * head_dim);
      unrolled<KEYS>([&](auto j) { sums[r][j] = B::fma(q, k[j], sums[r][j]); });
    });
  };
  index_t d = 0;
  for (; d + W <= head_dim; d += W) add([&](const float* p) { return B::load(p + d); });
  if (d < head_dim) add([&](const float* p) { return B::load_partial(p + d, head_dim - d); });
  unrolled<ROWS>(
      [&](auto r) { unrolled<KEYS>([&](auto j) { scores[r * score_stride + j] = B::reduce_add(sums[r][j]); }); });
}

/// out[r] += sum over j of weights[r][j] * values[j] for ROWS rows and KEYS values.
template <SimdBackend B, index_t ROWS, index_t KEYS>
void weigh_values(const float* weights, index_t weight_stride, const float* values, index_t value_stride,
                  index_t head_dim, float* out) {
  constexpr index_t W = B::width;
  typename B::f32 w[ROWS][KEYS];
  unrolled<ROWS>(
      [&](auto r) { unrolled<KEYS>([&](auto j) { w[r][j] = B::broadcast(weights[r * weight_stride + j]); }); });
  const auto add = [&](auto&& load, auto&& store) __attribute__((always_inline)) {
    typename B::f32 sums[ROWS];
    unrolled<ROWS>([&](auto r) { sums[r] = load(out + r * head_dim); });
    unrolled<KEYS>([&](auto j) {
      const auto v = load(values + j * value_stride);
      unrolled<ROWS>([&](auto r) { sums[r] = B::fma(w[r][j], v, sums[r]); });
    });
    unrolled<ROWS>([&](auto r) { store(out + r * head_dim, sums[r]); });
  };
  index_t d = 0;
  for (; d + W <= head_dim; d += W)
    add([&](const float* p) { return B::load(p + d); }, [&](float* p, auto v) { B::store(p + d, v); });
  if (d < head_dim)
    add([&](const float* p) { return B::load_partial(p + d, head_dim - d); },
        [&](float* p, auto v) { B::store_partial(p + d, v, head_dim - d); });
}

/// Calls f(first row, constant number of rows) for rows in fours, twos and ones.
template <class F>
void by_fours(index_t rows, F&& f) {
  index_t r = 0;
  for (; r + 4 <= rows; r += 4) f(r, std::integral_constant<index_t, 4>{});
  for (; r + 2 <= rows; r += 2) f(r, std::integral_constant<index_t, 2>{});
  for (; r < rows; ++r) f(r, std::integral_constant<index_t, 1>{});
}

/// scores[r][j] = queries[r] . keys[j] for `rows` queries [rows][head_dim] and `count` keys.
template <SimdBackend B>
void dot_rows(const float* queries, index_t rows, index_t head_dim, const float* keys, index_t key_stride,
              index_t count, float* scores, index_t score_stride) {
  constexpr index_t KEYS = 4;
  index_t j = 0;
  for (; j + KEYS <= count; j += KEYS)
    by_fours(rows, [&](index_t r, auto n) {
      dot_block<B, n, KEYS>(queries + r * head_dim, head_dim, keys + j * key_stride, key_stride,
                            scores + r * score_stride + j, score_stride);
    });
  for (; j < count; ++j)
    by_fours(rows, [&](index_t r, auto n) {
      dot_block<B, n, 1>(queries + r * head_dim, head_dim, keys + j * key_stride, key_stride,
                         scores + r * score_stride + j, score_stride);
    });
}

/// The same for keys as the cache stores them; `memory` as each_floats needs it.
template <SimdBackend B>
void dot_cached(const float* queries, index_t rows, index_t head_dim, CachedRows keys, index_t count, float* scores,
                index_t score_stride, float* memory) {
  each_floats<B>(keys, count, head_dim, memory, [&](Range these, FloatRows k) {
    dot_rows<B>(queries, rows, head_dim, k.first, k.stride, these.size(), scores + these.begin, score_stride);
  });
}

/// out[r] += sum over j in `these`, j < limits[r], of weights[r][j] * values[j - these.begin]; `out` is
/// [rows][head_dim], limits never decrease.
template <SimdBackend B>
void weigh_few(const float* weights, index_t weight_stride, const index_t* limits, index_t rows, Range these,
               FloatRows values, index_t head_dim, float* out) {
  constexpr index_t KEYS = 4;
  const auto value = [&](index_t j) { return values.first + (j - these.begin) * values.stride; };
  const auto seen = [&](index_t r) { return std::clamp(limits[r], these.begin, these.end); };
  const index_t seen_by_all = these.begin + (seen(0) - these.begin) / KEYS * KEYS;
  for (index_t j = these.begin; j < seen_by_all; j += KEYS)
    by_fours(rows, [&](index_t r, auto n) {
      weigh_values<B, n, KEYS>(weights + r * weight_stride + j, weight_stride, value(j), values.stride, head_dim,
                               out + r * head_dim);
    });
  for (index_t r = 0; r < rows; ++r)
    for (index_t j = seen_by_all; j < seen(r); ++j)
      weigh_values<B, 1, 1>(weights + r * weight_stride + j, weight_stride, value(j), values.stride, head_dim,
                            out + r * head_dim);
}

/// The same for all values, as the cache stores them; `memory` as each_floats needs it.
template <SimdBackend B>
void weigh_cached(const float* weights, index_t weight_stride, const index_t* limits, index_t rows, CachedRows values,
                  index_t head_dim, float* out, float* memory) {
  each_floats<B>(values, limits[rows - 1], head_dim, memory, [&](Range these, FloatRows v) {
    weigh_few<B>(weights, weight_stride, limits, rows, these, v, head_dim, out);
  });
}

}  // namespace tessera::detail
