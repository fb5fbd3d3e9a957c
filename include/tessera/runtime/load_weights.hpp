#pragma once
// From a checkpoint to ModelWeights: every tensor looked up, its shape checked, nothing copied but norms and biases.

#include <deque>
#include <memory>
#include <string>

#include <tessera/core/families.hpp>
#include <tessera/io/checkpoint.hpp>
#include <tessera/models/weights.hpp>

namespace tessera {

namespace detail {

/// What a ModelWeights keeps alive: the mapped files, and vectors whose addresses must not move.
struct LoadedStorage {
  explicit LoadedStorage(Checkpoint opened) : checkpoint(std::move(opened)) {}

  [[nodiscard]] std::span<const float> vector(const std::string& name, index_t n) {
    return vectors.emplace_back(checkpoint.vector(name, n));
  }

  Checkpoint checkpoint;
  std::deque<std::vector<float>> vectors;
};

[[nodiscard]] inline LayerWeights load_layer(LoadedStorage& from, const ModelConfig& config, const Family& family,
                                             const std::string& prefix) {
  const Checkpoint& checkpoint = from.checkpoint;
  const index_t q = config.heads * config.head_dim;
  const index_t kv = config.kv_heads * config.head_dim;
  const std::string attention = prefix + "self_attn.";
  const std::string mlp = prefix + "mlp.";

  LayerWeights w;
  w.input_norm = from.vector(prefix + "input_layernorm.weight", config.hidden);
  w.q_proj = checkpoint.weight(attention + "q_proj.weight", q, config.hidden);
  w.k_proj = checkpoint.weight(attention + "k_proj.weight", kv, config.hidden);
  w.v_proj = checkpoint.weight(attention + "v_proj.weight", kv, config.hidden);
  w.o_proj = checkpoint.weight(attention + "o_proj.weight", config.hidden, q);
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
  w.gate_proj = checkpoint.weight(mlp + "gate_proj.weight", config.intermediate, config.hidden);
  w.up_proj = checkpoint.weight(mlp + "up_proj.weight", config.intermediate, config.hidden);
  w.down_proj = checkpoint.weight(mlp + "down_proj.weight", config.hidden, config.intermediate);
  return w;
}

}  // namespace detail

/// Views of all weights of `config`'s model in `checkpoint`. Throws Error that names the tensor, what was expected and
/// what the file has.
[[nodiscard]] inline ModelWeights load_weights(Checkpoint checkpoint, const ModelConfig& config) {
  const Family& family = family_named(config.model_type);
  auto storage = std::make_shared<detail::LoadedStorage>(std::move(checkpoint));
  ModelWeights weights;
  weights.embedding = storage->checkpoint.weight("model.embed_tokens.weight", config.vocab, config.hidden);
  weights.layers.reserve(static_cast<std::size_t>(config.layers));
  for (index_t l = 0; l < config.layers; ++l)
    weights.layers.push_back(detail::load_layer(*storage, config, family, concat("model.layers.", l, '.')));
  weights.final_norm = storage->vector("model.norm.weight", config.hidden);
  weights.lm_head = config.tied_embeddings ? weights.embedding
                                           : storage->checkpoint.weight("lm_head.weight", config.vocab, config.hidden);
  weights.storage = std::move(storage);
  return weights;
}

}  // namespace tessera
