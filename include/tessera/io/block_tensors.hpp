#pragma once
// How safetensors hold a weight in blocks: the two tensors that a WeightView's parts are mapped from.

#include <array>

#include <tessera/core/weight_format.hpp>
#include <tessera/io/tensor_info.hpp>

namespace tessera {

/// What the name of a weight in blocks is followed by in that of its scales.
inline constexpr std::string_view scale_suffix = "_scale";

/// A matrix in F: integers I8 or U8 [rows / 16, cols / 32, units, 16, 4], scales F16 [rows / 16, cols / 32, planes, 16]
/// (WeightView says what lies where); the rows are filled up to whole groups.
template <BlockFormat F>
[[nodiscard]] std::array<TensorSpec, 2> tensors_of_blocks(std::string_view name, index_t rows, index_t cols) {
  const index_t groups = ceil_div(rows, group_rows), blocks = cols / weight_block;
  return {TensorSpec{std::string(name), stored_type(F::dtype), {groups, blocks, F::bytes / 4, group_rows, 4}},
          TensorSpec{concat(name, scale_suffix), StoredType::f16, {groups, blocks, F::planes, group_rows}}};
}

}  // namespace tessera
