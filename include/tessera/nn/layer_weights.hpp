#pragma once
// The weights of a decoder layer, as views, and the part of them that a rank uses.

#include <span>

#include <tessera/core/view.hpp>
#include <tessera/policies/plan.hpp>

namespace tessera {

/// Weight matrices are [out, in] as stored; spans are empty where the family has no such parameter.
struct LayerWeights {
  std::span<const float> input_norm;
  WeightView q_proj, k_proj, v_proj, o_proj;
  std::span<const float> q_bias, k_bias, v_bias;
  std::span<const float> q_norm, k_norm;
  std::span<const float> post_attention_norm;
  WeightView gate_proj, up_proj, down_proj;
};

/// A range of heads as one of rows or columns, `factor` for each.
[[nodiscard]] inline Range scaled(Range r, index_t factor) { return {r.begin * factor, r.end * factor}; }

/// The part of a vector; nothing of one that is not there.
[[nodiscard]] inline std::span<const float> sub_span(std::span<const float> s, Range r) {
  if (s.empty()) return s;
  return s.subspan(static_cast<std::size_t>(r.begin), static_cast<std::size_t>(r.size()));
}

/// Rows of the projections that open a block, columns of those that close it; norms are whole on every rank.
[[nodiscard]] inline LayerWeights slice_of(const LayerWeights& w, const WeightSlice& slice, index_t head_dim) {
  const Range q = scaled(slice.q_heads, head_dim);
  const Range kv = scaled(slice.kv_heads, head_dim);
  LayerWeights part = w;
  part.q_proj = w.q_proj.row_range(q);
  part.k_proj = w.k_proj.row_range(kv);
  part.v_proj = w.v_proj.row_range(kv);
  part.o_proj = w.o_proj.col_range(q);
  part.q_bias = sub_span(w.q_bias, q);
  part.k_bias = sub_span(w.k_bias, kv);
  part.v_bias = sub_span(w.v_bias, kv);
  part.gate_proj = w.gate_proj.row_range(slice.ffn);
  part.up_proj = w.up_proj.row_range(slice.ffn);
  part.down_proj = w.down_proj.col_range(slice.ffn);
  return part;
}

}  // namespace tessera
