#pragma once
// From a checkpoint to ModelWeights: every tensor looked up, its shape checked, nothing copied but norms and biases,
// and what is converted to another format.

#include <deque>
#include <memory>
#include <optional>
#include <string>

#include <tessera/comm/agree.hpp>
#include <tessera/core/families.hpp>
#include <tessera/io/checkpoint.hpp>
#include <tessera/kernels/gemm_product.hpp>
#include <tessera/models/weights.hpp>
#include <tessera/runtime/weight_formats.hpp>

namespace tessera {

namespace detail {

/// What a ModelWeights keeps alive: the mapped files, vectors whose addresses must not move, and converted weights.
struct LoadedStorage final : WeightStorage {
  LoadedStorage(Checkpoint opened, const ModelConfig& of, WeightFormats chosen, int workers)
      : checkpoint(std::move(opened)), config(of), formats(std::move(chosen)), threads(workers) {}

  [[nodiscard]] std::span<const float> vector(const std::string& name, index_t n) {
    return vectors.emplace_back(checkpoint.vector(name, n));
  }
  /// A weight as the file has it, or in the format that was asked for.
  [[nodiscard]] WeightView weight(const std::string& name, index_t rows, index_t cols) {
    WeightView view = checkpoint.weight(name, rows, cols);
    with_format_named(formats.of(name, cols, config), [&]<class F>(F) {
      if constexpr (BlockFormat<F>)
        if (view.dtype != F::dtype) {
          if (!team) team.emplace(threads);
          view = encoded.emplace_back(encode_weight<F>(*team, view)).view;
        }
    });
    if (is_blocks(view.dtype)) {
      view.arithmetic = formats.arithmetic;
    } else {
      require(formats.stored != Arithmetic::bf16 || view.dtype == DType::bf16, name,
              ": products in bf16 expect weights in bf16, found ", name_of(view.dtype));
      view.arithmetic = formats.stored;
    }
    return view;
  }

  void check_unchanged() const override { checkpoint.check_unchanged(); }

  Checkpoint checkpoint;
  ModelConfig config;
  WeightFormats formats;
  int threads;
  std::optional<Team> team;  ///< while weights are converted: one that stays makes those of the model wait asleep
  std::deque<std::vector<float>> vectors;
  std::deque<EncodedWeight> encoded;
};

[[nodiscard]] inline LayerWeights load_layer(LoadedStorage& from, const ModelConfig& config, const Family& family,
                                             const std::string& prefix) {
  const index_t q = config.heads * config.head_dim;
  const index_t kv = config.kv_heads * config.head_dim;
  const std::string attention = prefix + "self_attn.";
  const std::string mlp = prefix + "mlp.";

  LayerWeights w;
  w.input_norm = from.vector(prefix + "input_layernorm.weight", config.hidden);
  w.q_proj = from.weight(attention + "q_proj.weight", q, config.hidden);
  w.k_proj = from.weight(attention + "k_proj.weight", kv, config.hidden);
  w.v_proj = from.weight(attention + "v_proj.weight", kv, config.hidden);
  w.o_proj = from.weight(attention + "o_proj.weight", config.hidden, q);
  if (config.attention_bias) {
    w.q_bias = from.vector(attention + "q_proj.bias", q);
    w.k_bias = from.vector(attention + "k_proj.bias", kv);
    w.v_bias = from.vector(attention + "v_proj.bias", kv);
  }
  if (family.qk_norm) {
    w.q_norm = from.vector(attention + "q_norm.weight", config.head_dim);
    w.k_norm = from.vector(attention + "k_norm.weight", config.head_dim);
  }
  w.post_attention_norm = from.vector(prefix + "post_attention_layernorm.weight", config.hidden);
  w.gate_proj = from.weight(mlp + "gate_proj.weight", config.intermediate, config.hidden);
  w.up_proj = from.weight(mlp + "up_proj.weight", config.intermediate, config.hidden);
  require(same_kind(w.gate_proj, w.up_proj), mlp, "gate_proj.weight is ", name_of(w.gate_proj.dtype), " and ", mlp,
          "up_proj.weight ", name_of(w.up_proj.dtype),
          ": expected both in blocks or both as stored, for they are multiplied together");
  w.down_proj = from.weight(mlp + "down_proj.weight", config.hidden, config.intermediate);
  return w;
}

}  // namespace detail

/// Views of all weights of `config`'s model in `checkpoint`; those that `formats` asks for in another format are
/// converted by `threads` threads, into memory of this rank. Throws Error that names the tensor, what was expected and
/// what the file has.
[[nodiscard]] inline ModelWeights load_weights(Checkpoint checkpoint, const ModelConfig& config,
                                               const WeightFormats& formats = {}, int threads = 1) {
  const Family& family = family_named(config.model_type);
  auto storage = std::make_shared<detail::LoadedStorage>(std::move(checkpoint), config, formats, threads);
  ModelWeights weights;
  weights.embedding = storage->weight("model.embed_tokens.weight", config.vocab, config.hidden);
  weights.layers.reserve(static_cast<std::size_t>(config.layers));
  for (index_t l = 0; l < config.layers; ++l)
    weights.layers.push_back(detail::load_layer(*storage, config, family, concat("model.layers.", l, '.')));
  weights.final_norm = storage->vector("model.norm.weight", config.hidden);
  weights.lm_head = config.tied_embeddings ? weights.embedding

                                           : storage->weight("lm_head.weight", config.vocab, config.hidden);
  storage->team.reset();
  weights.storage = std::move(storage);
  return weights;
}

/// Throws AgreedError on all ranks if any of them finds that a file of weights was written to, removed or replaced
/// since it was opened. For the end of a run, or of an answer. Collective, within the communicator's deadline.
inline void require_unchanged(Communicator comm, const ModelWeights& weights) {
  agree(
      std::move(comm), [&] { weights.storage->check_unchanged(); }, Patience::of_communicator);
}

}  // namespace tessera
