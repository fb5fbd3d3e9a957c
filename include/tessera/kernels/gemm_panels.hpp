#pragma once
// GEMM for many tokens: rows of weights, widened into L1, are multiplied with the packed tokens.
//
// A panel of rows stays in L1 while all tokens pass by from L2; the tokens' part of a block of columns stays in L2
// while a block of rows passes. Weights are read once for each pass over the tokens, and prefetched during the rows
// before.

#include <algorithm>
#include <array>

#include <tessera/kernels/gemm_epilogue.hpp>
#include <tessera/kernels/gemm_pack.hpp>
#include <tessera/kernels/gemm_prefetch.hpp>
#include <tessera/kernels/gemm_product.hpp>
#include <tessera/parallel/worker.hpp>

namespace tessera {

/// One worker's memory for a block: a panel of widened weights, the sums [row][lanes] of each panel of tokens, and a
/// list of what to prefetch.
template <SimdBackend B>
class BlockScratch {
 public:
  BlockScratch(Worker& worker, index_t tokens)
      : weights(worker.scratch<float>(floats(tokens))),
        sums(weights + weight_floats),
        prefetches(reinterpret_cast<const char**>(sums + sum_floats(tokens))) {}

  float* weights;
  float* sums;
  const char** prefetches;

 private:
  using Shape = PanelShape<B>;
  static constexpr index_t weight_floats = TileShape<B>::rows * Shape::row_stride;
  static index_t sum_floats(index_t tokens) { return Shape::max_rows * ceil_div(tokens, B::width) * B::width; }
  static index_t floats(index_t tokens) {
    constexpr index_t segment = PrefetchPace::prefetch_bytes / static_cast<index_t>(sizeof(float));
    const index_t segments =
        Shape::max_rows * ceil_div(Shape::depth, segment) + tokens * ceil_div(Shape::max_rows, segment);
    const index_t pointers = PrefetchList::size(segments, Shape::depth);
    return weight_floats + sum_floats(tokens) + pointers * static_cast<index_t>(sizeof(char*) / sizeof(float));
  }
};

/// A panel of at most TileShape<B>::rows rows within a block.
struct RowPanel {
  WeightView weight;       ///< its rows
  index_t sums_begin = 0;  ///< its first row within the block's sums
  index_t tile_rows = 0;   ///< even: the last may be padding
};

/// The rows of a block in panels of nearly equal size. Sums of the second piece begin at an even row.
template <SimdBackend B>
struct RowPanels {
  std::array<RowPanel, static_cast<std::size_t>(PanelShape<B>::row_panels + 2)> panels;
  std::size_t count = 0;

  explicit RowPanels(const RowBlock& block) {
    index_t first = 0;
    for (std::size_t i = 0; i < static_cast<std::size_t>(block.count); ++i) {
      const WeightView& piece = block.pieces[i];
      const index_t parts = ceil_div(piece.rows, TileShape<B>::rows);
      for (index_t p = 0; p < parts; ++p) {
        const Range r = partition(piece.rows, parts, p, 2);
        panels[count++] = {piece.row_range(r), first + r.begin, ceil_div(r.size(), 2) * 2};
      }
      first += ceil_div(piece.rows, 2) * 2;
    }
  }
};

/// Widens columns `k` of a panel of rows; a padding row is zeros.
template <SimdBackend B>
void widen_panel(const RowPanel& panel, Range k, float* out) {
  constexpr index_t stride = PanelShape<B>::row_stride;
  with_type_of(panel.weight.dtype, [&](auto type) {
    for (index_t r = 0; r < panel.weight.rows; ++r) {
      widen_segment<B>(panel.weight.template row_as<decltype(type)>(r), k, out + r * stride);
    }
  });
  if (panel.weight.rows < panel.tile_rows) std::fill_n(out + panel.weight.rows * stride, k.size(), 0.0F);
}

/// The sums of a block of rows over the whole depth for all tokens: sums of token panel p start at
/// p * tokens_per_panel * max_rows, and are [row][lanes of the panel]. `next` is the block that comes after it (of no
/// rows at the end), `out` where the sums will go: both are prefetched.
template <SimdBackend B>
void multiply_block(const TokenPanels<B>& tokens, const RowBlock& block, const RowBlock& next, Activations out,
                    const BlockScratch<B>& scratch) {
  using Shape = PanelShape<B>;
  constexpr index_t W = B::width;
  const RowPanels<B> rows(block);
  PrefetchList prefetches(scratch.prefetches);
  for (index_t step = 0; step < tokens.steps(); ++step) {
    const Range k = tokens.columns(step);
    prefetches.clear();
    if (step + 1 < tokens.steps()) {
      prefetches.add(block.columns(tokens.columns(step + 1)));
    } else {
      prefetches.add(next.columns(tokens.columns(0)));
      prefetches.add(out.data, out.rows, out.cols * 4, out.stride * 4);
    }
    prefetches.start(static_cast<index_t>(rows.count) * tokens.count(), k.size());
    for (std::size_t i = 0; i < rows.count; ++i) {
      const RowPanel& panel = rows.panels[i];
      widen_panel<B>(panel, k, scratch.weights);
      for (index_t p = 0; p < tokens.count(); ++p) {
        const index_t lanes = tokens.vectors(p) * W;
        float* sums = scratch.sums + p * tokens.tokens_per_panel * Shape::max_rows + panel.sums_begin * lanes;
        tile_for<B, Shape::row_stride>(panel.tile_rows, tokens.vectors(p))(tokens.panel(step, p), scratch.weights,
                                                                           k.size(), sums, step > 0, prefetches.take());
      }
    }
  }
}

/// Stores the sums of a block, transposed, with the product's epilogue.
template <SimdBackend B, bool Gated>
void store_block(const TokenPanels<B>& tokens, const float* sums, const Product& product, Activations out) {
  constexpr index_t W = B::width;
  const index_t rows = product.rows();
  const index_t up_row = ceil_div(rows, 2) * 2;
  for (index_t p = 0; p < tokens.count(); ++p) {
    const index_t stride = tokens.vectors(p) * W;
    for (index_t v = 0; v < tokens.vectors(p); ++v) {
      const float* panel = sums + p * tokens.tokens_per_panel * PanelShape<B>::max_rows + v * W;
      const index_t first = p * tokens.tokens_per_panel + v * W;
      const index_t lanes = std::min(W, tokens.tokens - first);
      for (index_t row = 0; row < rows; row += W) {
        const index_t n = std::min(W, rows - row);
        typename B::f32 square[B::width];
        for (index_t i = 0; i < W; ++i) {
          const index_t r = std::min(row + i, rows - 1);  // the rows past the last are not stored
          const auto sum = B::load(panel + r * stride);
          if constexpr (Gated) {
            square[i] = silu_multiply<B>(sum, B::load(panel + (up_row + r) * stride));
          } else {
            square[i] = product.bias == nullptr ? sum : B::add(sum, B::broadcast(product.bias[r]));
          }
        }
        B::transpose(square);
        for (index_t t = 0; t < lanes; ++t) B::store_partial(out.row(first + t) + row, square[t], n);
      }
    }
  }
}

/// Collective. The products of x with the rows `mine` of all products; all workers' rows tile the products.
template <SimdBackend B, class ProductAt>
void multiply_panels(Worker& worker, ConstActivations x, const ProductAt& product_at, index_t products, Range mine) {
  using Shape = PanelShape<B>;
  const index_t passes = ceil_div(x.rows, Shape::tokens);
  const index_t most_tokens = std::min(x.rows, Shape::tokens);
  auto* storage = worker.shared_scratch<float>(TokenPanels<B>::floats(most_tokens, x.cols));
  const BlockScratch<B> scratch(worker, most_tokens);
  for (index_t pass = 0; pass < passes; ++pass) {
    const Range rows = partition(x.rows, passes, pass, TileShape<B>::tokens);
    if (pass > 0) worker.barrier();  // the tokens before are still being read
    const auto tokens = pack_tokens<B>(worker, x.row_range(rows), storage);
    worker.barrier();
    BlockSequence blocks(product_at, products, mine, Shape::max_rows);
    for (Product block = blocks.next(); block.rows() > 0;) {
      const Product next = blocks.next();
      const Activations out = block.out.row_range(rows);
      multiply_block<B>(tokens, block.weight, next.weight, out, scratch);
      if (block.gated()) {
        store_block<B, true>(tokens, scratch.sums, block, out);
      } else {
        store_block<B, false>(tokens, scratch.sums, block, out);
      }
      block = next;
    }
  }
}

}  // namespace tessera
