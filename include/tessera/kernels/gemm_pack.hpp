#pragma once
// Operands as the register tile reads them: tokens transposed into panels, rows of weights widened to f32.

#include <algorithm>

#include <tessera/core/view.hpp>
#include <tessera/kernels/gemm_tile.hpp>
#include <tessera/parallel/worker.hpp>

namespace tessera {

/// Tokens in panels of TileShape<B>::tokens, cut into steps of columns: for each step one panel [k][lanes] after
/// another. The last panel may have one vector of lanes only; lanes without a token hold zeros.
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
  [[nodiscard]] index_t steps() const { return std::max<index_t>(1, ceil_div(depth, PanelShape<B>::depth)); }
  [[nodiscard]] Range columns(index_t step) const { return partition(depth, steps(), step, 16); }
  /// Where a panel's columns of a step begin, counted in floats. The panels of a step lie side by side: were they a
  /// power of two apart, they would share the same few sets of the cache.
  [[nodiscard]] index_t offset(index_t step, index_t panel) const {
    const Range k = columns(step);
    return k.begin * ceil_div(tokens, W) * W + panel * tokens_per_panel * k.size();
  }
  [[nodiscard]] const float* panel(index_t step, index_t i) const { return data + offset(step, i); }
  [[nodiscard]] static index_t floats(index_t tokens, index_t depth) { return ceil_div(tokens, W) * W * depth; }
};

/// Transposes columns `k` of W rows of x from `first` on into every `vectors`-th vector of a panel.
template <SimdBackend B>
void pack_vector_of_tokens(ConstActivations x, index_t first, Range k, index_t vectors, float* out) {
  constexpr index_t W = B::width;
  const index_t tokens = std::min(W, x.rows - first);
  for (index_t begin = k.begin; begin < k.end; begin += W) {
    const index_t n = std::min(W, k.end - begin);
    typename B::f32 square[B::width];
    for (index_t i = 0; i < W; ++i) {
      square[i] = i < tokens ? B::load_partial(x.row(first + i) + begin, n) : B::zero();
    }
    B::transpose(square);
    for (index_t i = 0; i < n; ++i, out += vectors * W) B::store(out, square[i]);
  }
}

/// Collective but for the barrier: packs this worker's share of x.
template <SimdBackend B>
TokenPanels<B> pack_tokens(const Worker& worker, ConstActivations x, float* storage) {
  constexpr index_t W = B::width;
  const TokenPanels<B> panels{storage, x.rows, x.cols};
  // Shares are cut along k, in whole cache lines: a short batch has fewer panels than there are workers.
  const Range mine = worker.share(x.cols, std::max<index_t>(W, 16));
  for (index_t step = 0; step < panels.steps(); ++step) {
    const Range columns = panels.columns(step);
    const Range k = intersect(mine, columns);
    for (index_t p = 0; p < panels.count(); ++p) {
      const index_t vectors = panels.vectors(p);
      float* panel = storage + panels.offset(step, p) + (k.begin - columns.begin) * vectors * W;
      for (index_t v = 0; v < vectors; ++v) {
        pack_vector_of_tokens<B>(x, p * panels.tokens_per_panel + v * W, k, vectors, panel + v * W);
      }
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
