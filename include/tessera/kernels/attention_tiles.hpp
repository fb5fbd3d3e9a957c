#pragma once
// The two products of an attention tile as register-blocked kernels. Scores are kept transposed, [key][query]: then
// keys and values are read as the cache has them, maxima and sums over keys combine whole registers, and the weights
// lie as the second product broadcasts them. Only the queries are packed, once for all their keys.

#include <algorithm>
#include <utility>

#include <tessera/kernels/attention_problem.hpp>
#include <tessera/simd/backend.hpp>

namespace tessera::detail {

/// Calls f with the constants 0, 1, ..., N - 1: a loop whose arrays stay in registers at any optimisation level.
template <index_t N, class F>
[[gnu::always_inline]] inline void unrolled(F&& f) {
  [&]<index_t... I>(std::integer_sequence<index_t, I...>) __attribute__((always_inline)) {
    (f(std::integral_constant<index_t, I>{}), ...);
  }
  (std::make_integer_sequence<index_t, N>{});
}

/// Shapes of the register blocks.
template <SimdBackend B>
struct AttentionTile {
  static constexpr bool many_registers = B::registers >= 32;
  static constexpr index_t panel = 2 * B::width;            ///< queries that are packed side by side
  static constexpr index_t keys = many_registers ? 12 : 6;  ///< keys x 2 registers of scores
  static constexpr index_t rows = many_registers ? 8 : 6;   ///< rows x 2 registers of outputs
  static constexpr index_t columns = 2;
};

/// packed[d][i] = scale * queries[i][d] for up to panel queries; the lanes of missing ones are 0.
template <SimdBackend B, class QueryOf>
void pack_queries(QueryOf&& query, index_t count, index_t head_dim, float scale, float* packed) {
  constexpr index_t W = B::width;
  constexpr index_t panel = AttentionTile<B>::panel;
  const auto factor = B::broadcast(scale);
  for (index_t first = 0; first < panel; first += W) {
    const float* rows[W];
    for (index_t i = 0; i < W; ++i) rows[i] = first + i < count ? query(first + i) : nullptr;
    for (index_t d = 0; d < head_dim; d += W) {
      const index_t n = std::min(W, head_dim - d);
      typename B::f32 square[W];
      for (index_t i = 0; i < W; ++i)
        square[i] = rows[i] == nullptr ? B::zero() : B::mul(factor, B::load_partial(rows[i] + d, n));
      B::transpose(square);
      for (index_t i = 0; i < n; ++i) B::store(packed + (d + i) * panel + first, square[i]);
    }
  }
}

/// scores[j][i] = sum over d of keys[j][d] * packed[d][i], for KEYS keys and VECTORS registers of a panel's queries.
template <SimdBackend B, index_t KEYS, index_t VECTORS>
void score_block(const float* keys, index_t key_stride, const float* packed, index_t head_dim, float* scores) {
  constexpr index_t W = B::width;
  constexpr index_t panel = AttentionTile<B>::panel;
  typename B::f32 sums[KEYS][VECTORS];
  unrolled<KEYS>([&](auto j) { unrolled<VECTORS>([&](auto v) { sums[j][v] = B::zero(); }); });
  for (index_t d = 0; d < head_dim; ++d) {
    typename B::f32 q[VECTORS];
    unrolled<VECTORS>([&](auto v) { q[v] = B::load(packed + d * panel + v * W); });
    unrolled<KEYS>([&](auto j) {
      const auto k = B::broadcast(keys[j * key_stride + d]);
      unrolled<VECTORS>([&](auto v) { sums[j][v] = B::fma(k, q[v], sums[j][v]); });
    });
  }
  unrolled<KEYS>([&](auto j) { unrolled<VECTORS>([&](auto v) { B::store(scores + j * panel + v * W, sums[j][v]); }); });
}

/// The same for any number of keys.
template <SimdBackend B, index_t VECTORS>
void score_panel(const float* keys, index_t key_stride, index_t count, const float* packed, index_t head_dim,
                 float* scores) {
  constexpr index_t KEYS = AttentionTile<B>::keys;
  constexpr index_t panel = AttentionTile<B>::panel;
  index_t j = 0;
  for (; j + KEYS <= count; j += KEYS)
    score_block<B, KEYS, VECTORS>(keys + j * key_stride, key_stride, packed, head_dim, scores + j * panel);
  for (; j + 4 <= count; j += 4)
    score_block<B, 4, VECTORS>(keys + j * key_stride, key_stride, packed, head_dim, scores + j * panel);
  for (; j < count; ++j)
    score_block<B, 1, VECTORS>(keys + j * key_stride, key_stride, packed, head_dim, scores + j * panel);
}

/// out[i][c] = out[i][c] * factors[i] + sum over j < limits[i] of weights[j][i] * values[j][c], for ROWS rows and
/// COLUMNS registers of columns, of which the last has `last` lanes. limits never decrease.
template <SimdBackend B, index_t ROWS, index_t COLUMNS, bool PARTIAL>
void weigh_block(const float* weights, const index_t* limits, const float* factors, const float* values,
                 index_t value_stride, float* out, index_t out_stride, index_t last) {
  constexpr index_t W = B::width;
  constexpr index_t panel = AttentionTile<B>::panel;
  typename B::f32 sums[ROWS][COLUMNS];
  unrolled<ROWS>([&](auto i) {
    const auto factor = B::broadcast(factors[i]);
    unrolled<COLUMNS>([&](auto c) {
      const float* from = out + i * out_stride + c * W;
      sums[i][c] = B::mul(factor, PARTIAL && c + 1 == COLUMNS ? B::load_partial(from, last) : B::load(from));
    });
  });
  typename B::f32 v[COLUMNS];
  const auto load_values = [&](index_t j) __attribute__((always_inline)) {
    unrolled<COLUMNS>([&](auto c) {
      const float* from = values + j * value_stride + c * W;
      v[c] = PARTIAL && c + 1 == COLUMNS ? B::load_partial(from, last) : B::load(from);
    });
  };
  const auto add_row = [&](auto i, index_t j) __attribute__((always_inline)) {
    const auto w = B::broadcast(weights[j * panel + i]);
    unrolled<COLUMNS>([&](auto c) { sums[i][c] = B::fma(w, v[c], sums[i][c]); });
  };
  index_t j = 0;
  for (; j < limits[0]; ++j) {
    load_values(j);
    unrolled<ROWS>([&](auto i) { add_row(i, j); });
  }
  // A key that not all rows see is skipped for the others, not weighed with 0: it may hold anything.
  for (; j < limits[ROWS - 1]; ++j) {
    load_values(j);
    unrolled<ROWS>([&](auto i) {
      if (j < limits[i]) add_row(i, j);
    });
  }
  unrolled<ROWS>([&](auto i) {
    unrolled<COLUMNS>([&](auto c) {
      float* to = out + i * out_stride + c * W;
      if (PARTIAL && c + 1 == COLUMNS) {
        B::store_partial(to, sums[i][c], last);
      } else {
        B::store(to, sums[i][c]);
      }
    });
  });
}

/// The same for ROWS rows and all columns of a head.
template <SimdBackend B, index_t ROWS>
void weigh_rows(const float* weights, const index_t* limits, const float* factors, const float* values,
                index_t value_stride, index_t head_dim, float* out) {
  constexpr index_t W = B::width;
  constexpr index_t COLUMNS = AttentionTile<B>::columns;
  index_t c = 0;
  for (; c + COLUMNS * W <= head_dim; c += COLUMNS * W)
    weigh_block<B, ROWS, COLUMNS, false>(weights, limits, factors, values + c, value_stride, out + c, head_dim, W);
  for (; c + W <= head_dim; c += W)
    weigh_block<B, ROWS, 1, false>(weights, limits, factors, values + c, value_stride, out + c, head_dim, W);
  if (c < head_dim)
    weigh_block<B, ROWS, 1, true>(weights, limits, factors, values + c, value_stride, out + c, head_dim, head_dim - c);
}

/// The same for the first `count` rows of a panel; `out` is [count][head_dim].
template <SimdBackend B>
void weigh_panel(const float* weights, const index_t* limits, const float* factors, index_t count, const float* values,
                 index_t value_stride, index_t head_dim, float* out) {
  constexpr index_t ROWS = AttentionTile<B>::rows;
  index_t i = 0;
  const auto rows = [&](auto n) {
    for (; i + n <= count; i += n)
      weigh_rows<B, n>(weights + i, limits + i, factors + i, values, value_stride, head_dim, out + i * head_dim);
  };
  rows(std::integral_constant<index_t, ROWS>{});
  rows(std::integral_constant<index_t, 4>{});
  rows(std::integral_constant<index_t, 2>{});
  rows(std::integral_constant<index_t, 1>{});
}

}  // namespace tessera::detail
