#pragma once
// GEMM for many tokens: blocks of weight rows are widened into cache and multiplied with the packed tokens.
//
// A block of rows stays in cache while all tokens pass by, a panel of tokens while the rows of the block do. Weights
// are read once for each block of tokens, and prefetched while the rows before them are multiplied.

#include <algorithm>
#include <array>

#include <tessera/kernels/gemm_epilogue.hpp>
#include <tessera/kernels/gemm_pack.hpp>
#include <tessera/kernels/gemm_prefetch.hpp>
#include <tessera/kernels/gemm_product.hpp>
#include <tessera/parallel/worker.hpp>

namespace tessera {

/// Sizes of the blocks, by the caches that every machine has: 32 KiB or more of L1, 256 KiB or more of L2 per core.
template <SimdBackend B>
struct PanelShape {
  /// Columns of weights: a panel of tokens, depth x tokens floats, is half of L1.
  static constexpr index_t depth = 256;
  /// Panels of weight rows that share a pass over the tokens.
  static constexpr index_t row_panels = 8;
  /// Tokens in a pass over the weights.
  static constexpr index_t tokens = 512;
  /// A row of widened weights; not a multiple of 4 KiB, so that rows do not fall into the same cache sets.
  static constexpr index_t row_stride = depth + 16;
  static constexpr index_t max_rows = row_panels * TileShape<B>::rows;
};

/// One worker's memory for a block: widened weights, and the sums [row][lanes] of each panel of tokens.
template <SimdBackend B>
struct BlockScratch {
  using Shape = PanelShape<B>;
  float* weights = nullptr;
  float* sums = nullptr;

  static constexpr index_t weight_floats = Shape::max_rows * Shape::row_stride;
  static index_t floats(index_t tokens) {
    return weight_floats + Shape::max_rows * ceil_div(tokens, B::width) * B::width;
  }
  explicit BlockScratch(float* memory) : weights(memory), sums(memory + weight_floats) {}
};

/// A panel of at most TileShape<B>::rows rows within a block.
struct RowPanel {
  index_t begin = 0;  ///< first row within the block's sums
  index_t rows = 0;   ///< of the tile: even, the last may be padding
};

/// The sums of a block of rows over the whole depth for all tokens: sums of panel p start at
/// p * tokens_per_panel * max_rows, and are [row][lanes of the panel]. Rows of the second piece follow the first's,
/// from the next even row on. `next` is the block that comes after it, or nullptr.
template <SimdBackend B>
void multiply_block(const TokenPanels<B>& tokens, const RowBlock& block, const RowBlock* next,
                    BlockScratch<B> scratch) {
  using Shape = PanelShape<B>;
  constexpr index_t stride = Shape::row_stride;
  constexpr index_t tile_rows = TileShape<B>::rows;
  std::array<RowPanel, Shape::row_panels + 2> panels;
  std::size_t panel_count = 0;
  index_t first = 0;
  for (index_t i = 0; i < block.count; ++i) {
    const index_t pairs = ceil_div(block.pieces[static_cast<std::size_t>(i)].rows, 2);
    const index_t parts = ceil_div(2 * pairs, tile_rows);
    for (index_t p = 0; p < parts; ++p) {
      const Range part = partition(pairs, parts, p);
      panels[panel_count++] = {first + 2 * part.begin, 2 * part.size()};
    }
    first += 2 * pairs;
  }

  const index_t depth = tokens.depth;
  const index_t steps = std::max<index_t>(1, ceil_div(depth, Shape::depth));
  PacedPrefetch prefetch;
  for (index_t step = 0; step < steps; ++step) {
    const Range k = partition(depth, steps, step, 16);
    index_t row = 0;
    for (index_t i = 0; i < block.count; ++i) {
      const WeightView& piece = block.pieces[static_cast<std::size_t>(i)];
      with_type_of(piece.dtype, [&](auto type) {
        for (index_t r = 0; r < piece.rows; ++r, ++row) {
          widen_segment<B>(piece.template row_as<decltype(type)>(r), k, scratch.weights + row * stride);
        }
      });
      if (row % 2 != 0) std::fill_n(scratch.weights + row++ * stride, k.size(), 0.0F);
    }

    const bool last = step + 1 == steps;
    RowBlock upcoming;
    if (!last) upcoming = block.columns(partition(depth, steps, step + 1, 16));
    if (last && next != nullptr) upcoming = next->columns(partition(depth, steps, 0, 16));
    const index_t ticks = ceil_div(k.size(), steps_per_tick) * static_cast<index_t>(panel_count) * tokens.count();
    prefetch.start(last && next == nullptr ? nullptr : &upcoming, ticks);
    for (index_t p = 0; p < tokens.count(); ++p) {
      const index_t vectors = tokens.vectors(p);
      const float* panel = tokens.panel(p) + k.begin * vectors * B::width;
      float* sums = scratch.sums + p * tokens.tokens_per_panel * Shape::max_rows;
      for (std::size_t i = 0; i < panel_count; ++i) {
        tile_for<B, stride, PacedPrefetch>(panels[i].rows, vectors)(
            panel, scratch.weights + panels[i].begin * stride, k.size(), sums + panels[i].begin * vectors * B::width,
            step > 0, prefetch);
      }
    }
  }
}

/// Stores the sums of a block, transposed, with the product's epilogue.
template <SimdBackend B, bool Gated>
void store_block(const TokenPanels<B>& tokens, const float* sums, const Product& product, Range tokens_of_out) {
  constexpr index_t W = B::width;
  const index_t rows = product.rows();
  const index_t up_row = ceil_div(rows, 2) * 2;
  const Activations out = product.out.row_range(tokens_of_out);
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
  const BlockScratch<B> scratch(worker.scratch<float>(BlockScratch<B>::floats(most_tokens)));
  for (index_t pass = 0; pass < passes; ++pass) {
    const Range rows = partition(x.rows, passes, pass, TileShape<B>::tokens);
    if (pass > 0) worker.barrier();  // the tokens before are still being read
    const auto tokens = pack_tokens<B>(worker, x.row_range(rows), storage);
    worker.barrier();
    BlockSequence blocks(product_at, products, mine, Shape::max_rows);
    for (Product block = blocks.next(); block.rows() > 0;) {
      const Product next = blocks.next();
      multiply_block<B>(tokens, block.weight, next.rows() > 0 ? &next.weight : nullptr, scratch);
      if (block.gated()) {
        store_block<B, true>(tokens, scratch.sums, block, rows);
      } else {
        store_block<B, false>(tokens, scratch.sums, block, rows);
      }
      block = next;
    }
  }
}

}  // namespace tessera
