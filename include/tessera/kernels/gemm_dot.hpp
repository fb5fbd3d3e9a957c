#pragma once
// GEMM for few tokens: dot products of rows as they lie in memory. Each weight is read once for a handful of tokens; at
// one token this is the GEMV of decode, whose only limit is the rate at which weights arrive.
//
// Each step prefetches what is summed some KB later. Whole rows lie one after the other: for one token they are summed
// one at a time, for memory gives one stream a tenth more than four. Segments of rows (a column slice, whose rows are
// far apart) are summed several at once, so that they arrive nearly as steadily; and so are rows for more tokens, so
// that a register of x serves them all.

#include <algorithm>
#include <array>
#include <utility>

#include <tessera/kernels/gemm_epilogue.hpp>
#include <tessera/kernels/gemm_product.hpp>
#include <tessera/simd/backend.hpp>

namespace tessera {

/// Tokens that the dot products are made for, at most.
inline constexpr index_t dot_tokens_limit = 32;

/// Rows of weights that a worker takes at a time: long enough for the prefetcher (64 rows of 1024 bf16 are 128 KiB),
/// short enough that a core which gets less of the memory's bandwidth keeps the others waiting for microseconds only.
inline constexpr index_t dot_part = 64;

/// Sizes of the tile of dot products that the registers of backend B allow.
template <SimdBackend B>
struct DotShape {
  /// Tokens of a full tile: the more, the fewer times a weight is widened.
  static constexpr int max_tokens = B::registers >= 32 ? 8 : 6;
  static constexpr int max_rows = 4;

  /// Rows at once: a sum for each token and row, the weights of each row, a vector of tokens and a product.
  static constexpr int rows(int tokens) {
    return std::clamp((B::registers - 2) / (chains(tokens) * tokens + 1), 1, max_rows);
  }
  /// Sums of one row and token, of vectors in turn: a multiply-add waits for the one before it in its sum.
  static constexpr int chains(int tokens) { return tokens == 1 ? 2 : 1; }
};

namespace detail {

/// Bytes between what is summed and what is prefetched: measured, on huge pages and on small ones.
inline constexpr index_t dot_prefetch_bytes = 8 << 10;

/// out[t * out_stride + r] = x row t . weight row r over `depth`, t < Tokens, r < Rows; prefetches the rows at `next`.
/// The order of a sum depends on Tokens and depth only.
template <SimdBackend B, class T, int Rows, int Tokens>
[[gnu::noinline]] void dot_tile(const float* x, index_t x_stride, const T* weights, index_t stride, index_t depth,
                                const T* next, float* out, index_t out_stride) {
  constexpr index_t W = B::width;
  constexpr auto line =
      static_cast<index_t>(std::max<std::size_t>(64 / sizeof(T), W));  // a step reads one line of a row
  constexpr int chains = DotShape<B>::chains(Tokens);
  typename B::f32 sum[chains][Rows][Tokens];
#pragma GCC unroll 2
  for (int c = 0; c < chains; ++c) {
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r) {
#pragma GCC unroll 8
      for (int t = 0; t < Tokens; ++t) sum[c][r][t] = B::zero();
    }
  }
  const auto add_products = [&](int c, index_t k, auto&& load_weight, auto&& load_x) {
    typename B::f32 weight[Rows];
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r) weight[r] = load_weight(weights + r * stride + k);
#pragma GCC unroll 8
    for (int t = 0; t < Tokens; ++t) {
      const auto v = load_x(x + t * x_stride + k);
#pragma GCC unroll 8
      for (int r = 0; r < Rows; ++r) sum[c][r][t] = B::fma(weight[r], v, sum[c][r][t]);
    }
  };
  const auto whole = [](const auto* p) { return B::load(p); };
  index_t k = 0;
  for (; k + line <= depth; k += line) {
#pragma GCC unroll 8
    for (int r = 0; r < Rows; ++r) __builtin_prefetch(next + r * stride + k, 0, 2);
#pragma GCC unroll 4
    for (index_t i = 0; i < line; i += W) add_products(static_cast<int>(i / W) % chains, k + i, whole, whole);
  }
  for (; k + W <= depth; k += W) add_products(0, k, whole, whole);
  if (k < depth) {
    const auto rest = [n = depth - k](const auto* p) { return B::load_partial(p, n); };
    add_products(0, k, rest, rest);
  }
  for (int r = 0; r < Rows; ++r) {
    for (int t = 0; t < Tokens; ++t) {
      auto total = sum[0][r][t];
#pragma GCC unroll 2
      for (int c = 1; c < chains; ++c) total = B::add(total, sum[c][r][t]);
      out[t * out_stride + r] = B::reduce_add(total);
    }
  }
}

/// All rows of `weight` times `Tokens` rows of x: out[t * out_stride + r].
template <SimdBackend B, class T, int Tokens>
void dot_rows_of(const float* x, index_t x_stride, const WeightView& weight, float* out, index_t out_stride) {
  constexpr int rows = DotShape<B>::rows(Tokens);
  const index_t row_bytes = std::max<index_t>(weight.cols * static_cast<index_t>(sizeof(T)), 1);
  const index_t ahead = ceil_div(dot_prefetch_bytes, row_bytes * rows) * rows;
  const bool is_one_stream = Tokens == 1 && weight.stride == weight.cols;
  // The view is a part of a matrix that this worker reads on: prefetching past its last row is right more often than
  // not, and never a fault.
  const T* next = weight.row_as<T>(0) + ahead * weight.stride;
  const auto sum_rows = [&](auto tile, index_t r) {
    dot_tile<B, T, decltype(tile)::value, Tokens>(x, x_stride, weight.row_as<T>(r), weight.stride, weight.cols,
                                                  next + r * weight.stride, out + r, out_stride);
  };
  index_t r = 0;
  for (; !is_one_stream && r + rows <= weight.rows; r += rows) sum_rows(std::integral_constant<int, rows>(), r);
  for (; r < weight.rows; ++r) sum_rows(std::integral_constant<int, 1>(), r);
}

using DotRows = void (*)(const float* x, index_t x_stride, const WeightView& weight, float* out, index_t out_stride);

template <SimdBackend B, class T, int... Less>
consteval auto dot_rows_table(std::integer_sequence<int, Less...>) {
  return std::array{DotRows(&dot_rows_of<B, T, Less + 1>)...};
}

template <SimdBackend B, class T>
DotRows dot_rows_for(index_t tokens) {
  static constexpr auto table = dot_rows_table<B, T>(std::make_integer_sequence<int, DotShape<B>::max_tokens>());
  return table[static_cast<std::size_t>(tokens - 1)];
}

}  // namespace detail

/// out[t * out_stride + r] = x row t . weight row r.
template <SimdBackend B>
void dot_rows(ConstActivations x, const WeightView& weight, float* out, index_t out_stride) {
  const index_t parts = ceil_div(x.rows, DotShape<B>::max_tokens);
  with_type_of(weight.dtype, [&](auto type) {
    for (index_t i = 0; i < parts; ++i) {
      const Range t = partition(x.rows, parts, i);
      detail::dot_rows_for<B, decltype(type)>(t.size())(x.row(t.begin), x.stride, weight, out + t.begin * out_stride,
                                                        out_stride);
    }
  });
}

/// The products of x with the rows `mine` of all products, at most `dot_tokens_limit` tokens.
template <SimdBackend B, class ProductAt>
void multiply_dots(ConstActivations x, const ProductAt& product_at, index_t products, Range mine) {
  constexpr index_t W = B::width;
  constexpr index_t chunk = 64;  // rows whose sums wait for the epilogue on the stack
  float sums[2][dot_tokens_limit * chunk];
  BlockSequence blocks(product_at, products, mine, chunk);
  for (Product block = blocks.next(); block.rows() > 0; block = blocks.next()) {
    const index_t rows = block.rows();
    for (std::size_t i = 0; i < static_cast<std::size_t>(block.weight.count); ++i) {
      dot_rows<B>(x, block.weight.pieces[i], sums[i], chunk);
    }
    for (index_t t = 0; t < x.rows; ++t) {
      float* out = block.out.row(t);
      for (index_t r = 0; r < rows; r += W) {
        const index_t n = std::min(W, rows - r);
        auto v = B::load_partial(sums[0] + t * chunk + r, n);
        if (block.gated()) {
          v = silu_multiply<B>(v, B::load_partial(sums[1] + t * chunk + r, n));
        } else if (block.bias != nullptr) {
          v = B::add(v, B::load_partial(block.bias + r, n));
        }
        B::store_partial(out + r, v, n);
      }
    }
  }
}

}  // namespace tessera
