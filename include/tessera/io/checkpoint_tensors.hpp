#pragma once
// The tensors of a checkpoint as Hugging Face lays it out: names and shapes that follow from a configuration.

#include <string>
#include <vector>

#include <tessera/core/families.hpp>
#include <tessera/core/model_config.hpp>
#include <tessera/io/safetensors_writer.hpp>

namespace tessera {

/// Every tensor of a checkpoint of `model`, in the order of the forward pass: matrices are [out, in].
[[nodiscard]] inline std::vector<TensorSpec> checkpoint_tensors(const ModelConfig& model, StoredType dtype) {
  const bool qk_norm = family_named(model.model_type).qk_norm;
  const index_t q = model.heads * model.head_dim;
  const index_t kv = model.kv_heads * model.head_dim;
  std::vector<TensorSpec> tensors;
  const auto add = [&](const std::string& name, std::vector<index_t> shape) {
    tensors.push_back({name, dtype, std::move(shape)});
  };
  add("model.embed_tokens.weight", {model.vocab, model.hidden});
  for (index_t layer = 0; layer < model.layers; ++layer) {
    const std::string prefix = concat("model.layers.", layer, ".");
    const std::string attention = prefix + "self_attn.";
    add(prefix + "input_layernorm.weight", {model.hidden});
    const auto add_projection = [&](const std::string& name, index_t out) {
      add(attention + name + ".weight", {out, model.hidden});
      if (model.attention_bias) add(attention + name + ".bias", {out});
    };
    add_projection("q_proj", q);
    add_projection("k_proj", kv);
    add_projection("v_proj", kv);
    if (qk_norm) add(attention + "q_norm.weight", {model.head_dim});
    if (qk_norm) add(attention + "k_norm.weight", {model.head_dim});
    add(attention + "o_proj.weight", {model.hidden, q});
    add(prefix + "post_attention_layernorm.weight", {model.hidden});
    add(prefix + "mlp.gate_proj.weight", {model.intermediate, model.hidden});
    add(prefix + "mlp.up_proj.weight", {model.intermediate, model.hidden});
    add(prefix + "mlp.down_proj.weight", {model.hidden, model.intermediate});
  }
  add("model.norm.weight", {model.hidden});
  if (!model.tied_embeddings) add("lm_head.weight", {model.vocab, model.hidden});
  return tensors;
}

/// Their bytes together.
[[nodiscard]] inline index_t bytes_of(const std::vector<TensorSpec>& tensors) {
  index_t total = 0;
  for (const TensorSpec& tensor : tensors) total += tensor.bytes();
  return total;
}

/// Cuts `tensors` into files of at most `most_bytes` bytes of data, in order; a larger tensor has a file of its own.
[[nodiscard]] inline std::vector<std::vector<TensorSpec>> into_shards(const std::vector<TensorSpec>& tensors,
                                                                      index_t most_bytes) {
  std::vector<std::vector<TensorSpec>> shards;
  index_t filled = 0;
  for (const TensorSpec& tensor : tensors) {
    if (shards.empty() || filled + tensor.bytes() > most_bytes) {
      shards.emplace_back();
      filled = 0;
    }
    shards.back().push_back(tensor);
    filled += tensor.bytes();
  }
  return shards;
}

}  // namespace tessera
