#pragma once
// The sizes of the GEMM's tiles and blocks: functions of the backend's registers and width, and of what caches there
// are.

#include <tessera/core/types.hpp>
#include <tessera/simd/backend.hpp>

namespace tessera {

/// Sizes of the register tile that the registers of backend B allow.
template <SimdBackend B>
struct TileShape {
  /// Vectors of tokens: each broadcast weight is used so many times.
  static constexpr int vectors = 2;
  /// Rows of weights. Four registers stay free of sums: the tokens, the broadcast weight, and a product where fma is
  /// two instructions. Even, so that tiles of fewer rows come in half as many sizes.
  static constexpr int rows = (B::registers - 4) / vectors / 2 * 2;
  /// Tokens in a full panel.
  static constexpr index_t tokens = vectors * B::width;
};

/// Sizes of the blocks, by the caches that every machine has: 32 KiB or more of L1, 512 KiB or more of L2 per core.
template <SimdBackend B>
struct PanelShape {
  /// Columns of weights: a panel of rows, depth x rows floats, is half of L1 or less.
  static constexpr index_t depth = 256;
  /// Panels of weight rows that share the tokens of these columns, which come from beyond L2 where tokens are many.
  static constexpr index_t row_panels = 16;
  /// Tokens in a pass over the weights: depth x tokens floats fit into L2.
  static constexpr index_t tokens = 256;
  /// A row of widened weights; not a multiple of 4 KiB, so that rows do not fall into the same cache sets.
  static constexpr index_t row_stride = depth + 16;
  static constexpr index_t max_rows = row_panels * TileShape<B>::rows;
};

}  // namespace tessera
