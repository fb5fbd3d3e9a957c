#pragma once
// Rows of a KV cache as floats, for kernels that read them many times.

#include <tessera/kernels/attention_problem.hpp>
#include <tessera/simd/backend.hpp>

namespace tessera {

/// Rows of floats; `stride` counts floats.
struct FloatRows {
  const float* first = nullptr;
  index_t stride = 0;

  [[nodiscard]] const float* row(index_t j) const { return first + j * stride; }
};

/// Whether the keys of a problem have to be widened.
[[nodiscard]] inline bool is_widened(const AttentionProblem& problem) {
  return std::any_of(problem.tasks.begin(), problem.tasks.end(),
                     [](const AttentionTask& task) { return task.cache.type != CacheType::f32; });
}

namespace detail {

/// Rows ahead of the one that is widened that are on their way from memory: widening comes in bursts, between which the
/// processor's own prefetching forgets where it was.
inline constexpr index_t rows_ahead = 32;

/// out = scale * in over n integers.
template <SimdBackend B>
void widen_integers(const std::int8_t* in, float scale, index_t n, float* out) {
  constexpr index_t W = B::width;
  const auto factor = B::broadcast(scale);
  index_t i = 0;
  for (; i + W <= n; i += W) B::store(out + i, B::mul(factor, B::load(in + i)));
  for (; i < n; ++i) out[i] = scale * to_float(in[i]);
}

/// out = in over n numbers.
template <SimdBackend B>
void widen_numbers(const bf16_t* in, index_t n, float* out) {
  constexpr index_t W = B::width;
  index_t i = 0;
  for (; i + W <= n; i += W) B::store(out + i, B::load(in + i));
  if (i < n) B::store_partial(out + i, B::load_partial(in + i, n - i), n - i);
}

/// Calls f(row, out) for each of `count` rows, and out [count, head_dim].
template <class F>
void each_widened(CachedRows rows, index_t count, index_t head_dim, float* out, F&& f) {
  constexpr index_t line = 64;
  const index_t bytes = bytes_of_head(rows.type, head_dim);
  for (index_t j = 0; j < count; ++j) {
    const std::byte* row = rows.from(j).first;
    for (index_t i = 0; i < bytes; i += line) __builtin_prefetch(row + rows_ahead * rows.stride + i);
    f(row, out + j * head_dim);
  }
}

}  // namespace detail

/// `count` rows as floats: where they are if they are floats, else widened into `memory` [count, head_dim].
template <SimdBackend B>
[[nodiscard]] FloatRows as_floats(CachedRows rows, index_t count, index_t head_dim, float* memory) {
  switch (rows.type) {
    case CacheType::f32:
      return {reinterpret_cast<const float*>(rows.first), rows.stride / static_cast<index_t>(sizeof(float))};
    case CacheType::bf16:
      detail::each_widened(rows, count, head_dim, memory, [&](const std::byte* row, float* out) {
        detail::widen_numbers<B>(reinterpret_cast<const bf16_t*>(row), head_dim, out);
      });
      break;
    case CacheType::int8:
      detail::each_widened(rows, count, head_dim, memory, [&](const std::byte* row, float* out) {
        const auto* integers = reinterpret_cast<const std::int8_t*>(row + Int8Heads::scale_bytes);
        detail::widen_integers<B>(integers, Int8Heads::scale_of(row), head_dim, out);
      });
      break;
  }
  return {memory, head_dim};
}

}  // namespace tessera
