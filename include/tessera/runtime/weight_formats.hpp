#pragma once
// Which weights of a model are converted to which format, and their conversion in memory.

#include <string>
#include <string_view>

#include <tessera/core/buffer.hpp>
#include <tessera/core/model_config.hpp>
#include <tessera/core/weight_format.hpp>
#include <tessera/parallel/team.hpp>
#include <tessera/policies/plan.hpp>

namespace tessera {

/// What weights are converted to, by the names of WeightFormat: those of the layers, and lm_head. The embedding goes
/// with lm_head where the two are tied, else it stays as stored, as norms and biases do.
struct WeightFormats {
  std::string layers{Stored::name};
  std::string lm_head;                      ///< empty: as the layers
  Arithmetic arithmetic = Arithmetic::f32;  ///< of products with weights in blocks
  Arithmetic stored = Arithmetic::f32;      ///< of products with weights as stored: f32, or bf16 with those in bf16

  /// The format of a matrix with `cols` columns. Stored where columns do not come in whole blocks, or a sharding may
  /// cut one: the rule knows no ranks, so that all numbers of them compute with the same weights.
  [[nodiscard]] std::string_view of(std::string_view tensor, index_t cols, const ModelConfig& config) const {
    const std::string_view head = lm_head.empty() ? layers : lm_head;
    if (tensor.ends_with("norm.weight") || !tensor.ends_with(".weight")) return Stored::name;
    if (cols % weight_block != 0) return Stored::name;
    if (tensor == "lm_head.weight") return head;
    if (tensor == "model.embed_tokens.weight") return config.tied_embeddings ? head : Stored::name;
    const bool cut_between_heads = tensor.ends_with("o_proj.weight");
    if (cut_between_heads && config.head_dim % weight_block != 0) return Stored::name;
    static_assert(ffn_grain % weight_block == 0);  // columns of down_proj
    return layers;
  }
};

/// A weight in blocks in memory of its own.
struct EncodedWeight {
  Buffer<std::uint8_t> integers;
  Buffer<f16_t> scales;
  WeightView view;
};

/// `weight` in the format F, its rows encoded by all workers of the team. Throws Error if a weight is not finite.
template <BlockFormat F>
[[nodiscard]] EncodedWeight encode_weight(Team& team, const WeightView& weight) {
  const BlockMatrix<F> matrix{weight.rows, weight.cols};
  EncodedWeight encoded{Buffer<std::uint8_t>(matrix.integers()), Buffer<f16_t>(matrix.scales()), {}};
  encoded.view = {encoded.integers.data(), F::dtype, weight.rows, weight.cols, weight.cols, encoded.scales.data()};
  team.run([&](Worker& worker) {
    auto* row = worker.scratch<float>(weight.cols);
    const Range mine = worker.share(weight.rows);
    for (index_t r = mine.begin; r < mine.end; ++r) {
      decode_row(weight, r, row);
      encode_row<F>(row, weight.cols, r, encoded.integers.data(), encoded.scales.data());
    }
  });
  return encoded;
}

}  // namespace tessera
