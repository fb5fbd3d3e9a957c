#pragma once
// Attention of a few queries: dot products along the head, and sums of value rows. The keys and values are read once,
// in order and as the cache stores them, for up to four queries at a time, which is what decoding from memory needs.
// What is read some KB later is prefetched: a processor's own prefetching stops at the end of a page of 4 KiB.

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

/// Bytes between what is multiplied and what is prefetched.
inline constexpr index_t cache_prefetch_bytes = 4 << 10;

/// Keys or values of one head in consecutive slots, of format F.
template <CacheFormat F>
struct HeadsOf {
  using T = typename F::element;
  const std::byte* first = nullptr;
  index_t stride = 0;  ///< in bytes

  explicit HeadsOf(CachedRows rows) : first(rows.first), stride(rows.stride) {}
  [[nodiscard]] const T* row(index_t j) const {
    return reinterpret_cast<const T*>(first + j * stride + F::scale_bytes);
  }
  [[nodiscard]] float scale(index_t j) const { return F::scale_of(first + j * stride); }
};

/// The first n of W elements, the others 0.
template <SimdBackend B, class T>
[[gnu::always_inline]] inline auto load_some(const T* p, index_t n) {
  if constexpr (std::same_as<T, std::int8_t>) {
    T lanes[B::width] = {};
    std::copy_n(p, n, lanes);
    return B::load(lanes);
  } else {
    return B::load_partial(p, n);
  }
}

/// Prefetches what KEYS rows of `step` elements each take, one step after another: rows lie side by side.
template <class T, index_t KEYS>
class RowPrefetch {
 public:
  explicit RowPrefetch(const T* rows) : next_(reinterpret_cast<const char*>(rows) + cache_prefetch_bytes) {}
  [[gnu::always_inline]] void step(index_t elements) {
    constexpr index_t line = 64;
    const index_t bytes = KEYS * elements * static_cast<index_t>(sizeof(T));
    for (index_t i = 0; i < bytes; i += line) __builtin_prefetch(next_ + i);
    next_ += bytes;
  }

 private:
  const char* next_;
};

/// scores[r][j] = queries[r] . keys[j] for ROWS queries, and KEYS keys from `first` on.
template <SimdBackend B, CacheFormat F, index_t ROWS, index_t KEYS>
void dot_block(const float* queries, index_t head_dim, HeadsOf<F> keys, index_t first, float* scores,
               index_t score_stride) {
  constexpr index_t W = B::width;
  using T = typename F::element;
  typename B::f32 sums[ROWS][KEYS];
  unrolled<ROWS>([&](auto r) { unrolled<KEYS>([&](auto j) { sums[r][j] = B::zero(); }); });
  const T* rows[KEYS];
  unrolled<KEYS>([&](auto j) { rows[j] = keys.row(first + j); });
  RowPrefetch<T, KEYS> prefetch(rows[0]);
  const auto add = [&](auto&& load) __attribute__((always_inline)) {
    typename B::f32 k[KEYS];
    unrolled<KEYS>([&](auto j) { k[j] = load(rows[j]); });
    unrolled<ROWS>([&](auto r) {
      const auto q = load(queries + r * head_dim);
      unrolled<KEYS>([&](auto j) { sums[r][j] = B::fma(q, k[j], sums[r][j]); });
    });
  };
  index_t d = 0;
  for (; d + W <= head_dim; d += W) {
    prefetch.step(W);
    add([&](const auto* p) { return B::load(p + d); });
  }
  if (d < head_dim) add([&](const auto* p) { return load_some<B>(p + d, head_dim - d); });
  unrolled<KEYS>([&](auto j) {
    const float scale = keys.scale(first + j);
    unrolled<ROWS>([&](auto r) { scores[r * score_stride + j] = scale * B::reduce_add(sums[r][j]); });
  });
}

/// out[r] += sum over j of weights[r][j] * values[first + j] for ROWS rows and KEYS values.
template <SimdBackend B, CacheFormat F, index_t ROWS, index_t KEYS>
void weigh_values(const float* weights, index_t weight_stride, HeadsOf<F> values, index_t first, index_t head_dim,
                  float* out) {
  constexpr index_t W = B::width;
  using T = typename F::element;
  typename B::f32 w[ROWS][KEYS];
  const T* rows[KEYS];
  unrolled<KEYS>([&](auto j) {
    rows[j] = values.row(first + j);
    const float scale = values.scale(first + j);
    unrolled<ROWS>([&](auto r) { w[r][j] = B::broadcast(weights[r * weight_stride + j] * scale); });
  });
  RowPrefetch<T, KEYS> prefetch(rows[0]);
  const auto add = [&](auto&& load, auto&& store) __attribute__((always_inline)) {
    typename B::f32 sums[ROWS];
    unrolled<ROWS>([&](auto r) { sums[r] = load(out + r * head_dim); });
    unrolled<KEYS>([&](auto j) {
      const auto v = load(rows[j]);
      unrolled<ROWS>([&](auto r) { sums[r] = B::fma(w[r][j], v, sums[r]); });
    });
    unrolled<ROWS>([&](auto r) { store(out + r * head_dim, sums[r]); });
  };
  index_t d = 0;
  for (; d + W <= head_dim; d += W) {
    prefetch.step(W);
    add([&](const auto* p) { return B::load(p + d); }, [&](float* p, auto v) { B::store(p + d, v); });
  }
  if (d < head_dim)
    add([&](const auto* p) { return load_some<B>(p + d, head_dim - d); },
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
void dot_cached(const float* queries, index_t rows, index_t head_dim, CachedRows cached, index_t count, float* scores,
                index_t score_stride) {
  constexpr index_t KEYS = 4;
  with_cache_format(cached.type, [&]<class F>(F) {
    const HeadsOf<F> keys(cached);
    index_t j = 0;
    for (; j + KEYS <= count; j += KEYS)
      by_fours(rows, [&](index_t r, auto n) {
        dot_block<B, F, n, KEYS>(queries + r * head_dim, head_dim, keys, j, scores + r * score_stride + j,
                                 score_stride);
      });
    for (; j < count; ++j)
      by_fours(rows, [&](index_t r, auto n) {
        dot_block<B, F, n, 1>(queries + r * head_dim, head_dim, keys, j, scores + r * score_stride + j, score_stride);
      });
  });
}

/// out[r] += sum over j < limits[r] of weights[r][j] * values[j]; `out` is [rows][head_dim], limits never decrease.
template <SimdBackend B>
void weigh_cached(const float* weights, index_t weight_stride, const index_t* limits, index_t rows, CachedRows cached,
                  index_t head_dim, float* out) {
  constexpr index_t KEYS = 4;
  with_cache_format(cached.type, [&]<class F>(F) {
    const HeadsOf<F> values(cached);
    const index_t seen_by_all = limits[0] / KEYS * KEYS;
    for (index_t j = 0; j < seen_by_all; j += KEYS)
      by_fours(rows, [&](index_t r, auto n) {
        weigh_values<B, F, n, KEYS>(weights + r * weight_stride + j, weight_stride, values, j, head_dim,
                                    out + r * head_dim);
      });
    for (index_t r = 0; r < rows; ++r)
      for (index_t j = seen_by_all; j < limits[r]; ++j)
        weigh_values<B, F, 1, 1>(weights + r * weight_stride + j, weight_stride, values, j, head_dim,
                                 out + r * head_dim);
  });
}

}  // namespace tessera::detail
