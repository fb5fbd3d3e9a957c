#pragma once
// Operands as the register tile reads them: tokens transposed into panels, rows of weights widened to f32.

#include <algorithm>

#include <tessera/core/view.hpp>
#include <tessera/kernels/gemm_tile.hpp>
#include <tessera/parallel/worker.hpp>

namespace tessera {

/// Tokens in panels of TileShape<B>::tokens, each [K][lanes]; the last panel may have one vector of lanes only. Lanes
/// without a token hold zeros.
template <SimdBackend B>
struct TokenPanels {
  static constexpr index_t W = B::width;
  static constexpr index_t tokens_per_panel = TileShape<B>::tokens;

  const float* data = nullptr;
  index_t tokens = 0;
  index_t depth = 0;

  [[nodiscard]] index_t count() const { return ceil_div(tokens, tokens_per_panel); }
  [[nodiscard]] index_t vectors(index_t panel) const {
    return std::min<index_t>(TileShape<B>::vectors, ceil_div(tokens - panel * tokens_per_panel, W));
  }
  [[nodiscard]] const float* panel(index_t i) const { return data + i * tokens_per_panel * depth; }
  /// Lanes of all panels together: floats for one row of sums.
  [[nodiscard]] index_t lanes() const { return ceil_div(tokens, W) * W; }
  [[nodiscard]] static index_t floats(index_t tokens, index_t depth) { return ceil_div(tokens, W) * W * depth; }
};

/// Transposes columns [k.begin, k.end) of rows of x into a panel: vector `v` of `vectors` takes W tokens from the
/// first on.
template <SimdBackend B>
void pack_vector_of_tokens(ConstActivations x, index_t first, index_t v, index_t vectors, Range k, float* panel) {
  constexpr index_t W = B::width;
  const index_t tokens = std::min(W, x.rows - first);
  for (index_t begin = k.begin; begin < k.end; begin += W) {
    const index_t n = std::min(W, k.end - begin);
    typename B::f32 square[B::width];
    for (index_t i = 0; i < W; ++i) {
      square[i] = i < tokens ? B::load_partial(x.row(first + i) + begin, n) : B::zero();
    }
    B::transpose(square);
    for (index_t i = 0; i < n; ++i) B::store(panel + ((begin + i) * vectors + v) * W, square[i]);
  }
}

/// Collective but for the barrier: packs this worker's share of x.
template <SimdBackend B>
TokenPanels<B> pack_tokens(const Worker& worker, ConstActivations x, float* storage) {
  constexpr index_t W = B::width;
  const TokenPanels<B> panels{storage, x.rows, x.cols};
  // Shares are cut along k, in whole cache lines: a short batch has fewer panels than there are workers.
  const Range mine = worker.share(x.cols, std::max<index_t>(W, 16));
  for (index_t p = 0; p < panels.count(); ++p) {
    for (index_t v = 0; v < panels.vectors(p); ++v) {
      pack_vector_of_tokens<B>(x, p * panels.tokens_per_panel + v * W, v, panels.vectors(p), mine,
                               storage + p * panels.tokens_per_panel * x.cols);
    }
  }
  return panels;
}

/// Widens columns `k` of a row of weights; `out` is padded with zeros to a whole vector.
template <SimdBackend B, class T>
void widen_segment(const T* row, Range k, float* out) {
  constexpr index_t W = B::width;
  index_t i = k.begin;
  for (; i + W <= k.end; i += W, out += W) B::store(out, B::load(row + i));
  if (i < k.end) B::store(out, B::load_partial(row + i, k.end - i));
}

}  // namespace tessera
