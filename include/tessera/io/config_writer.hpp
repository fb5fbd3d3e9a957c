#pragma once
// ModelConfig -> config.json and generation_config.json, in the spelling that most published checkpoints have.

#include <string>

#include <tessera/core/families.hpp>
#include <tessera/core/model_config.hpp>
#include <tessera/io/json.hpp>

namespace tessera {

namespace detail {

// "bf16" -> "bfloat16", as torch calls it.
inline std::string_view torch_name(DType dtype) {
  switch (dtype) {
    case DType::f32: return "float32";
    case DType::bf16: return "bfloat16";
    default: break;
  }
  return "float16";
}

inline Json eos_json(const ModelConfig& model) {
  if (model.eos_token_ids.empty()) return nullptr;
  if (model.eos_token_ids.size() == 1) return model.eos_token_ids.front();
  return model.eos_token_ids;
}

}  // namespace detail

/// The text of a config.json from which read_config gives `model` again.
[[nodiscard]] inline std::string config_text(const ModelConfig& model, DType dtype) {
  Json rope_scaling = nullptr;
  if (model.rope.factor != 1.0) {
    rope_scaling = {{"rope_type", "llama3"},
                    {"factor", model.rope.factor},
                    {"low_freq_factor", model.rope.low_freq_factor},
                    {"high_freq_factor", model.rope.high_freq_factor},
                    {"original_max_position_embeddings", model.rope.original_max_positions}};
  }
  Json config = {{"architectures", {family_named(model.model_type).architecture}},
                 {"attention_dropout", 0.0},
                 {"bos_token_id", model.bos_token_id < 0 ? Json(nullptr) : Json(model.bos_token_id)},
                 {"eos_token_id", detail::eos_json(model)},
                 {"head_dim", model.head_dim},
                 {"hidden_act", "silu"},
                 {"hidden_size", model.hidden},
                 {"initializer_range", 0.02},
                 {"intermediate_size", model.intermediate},
                 {"max_position_embeddings", model.max_positions},
                 {"model_type", model.model_type},
                 {"num_attention_heads", model.heads},
                 {"num_hidden_layers", model.layers},
                 {"num_key_value_heads", model.kv_heads},
                 {"rms_norm_eps", model.rms_norm_eps},
                 {"rope_scaling", rope_scaling},
                 {"rope_theta", model.rope.theta},
                 {"sliding_window", nullptr},
                 {"tie_word_embeddings", model.tied_embeddings},
                 {"torch_dtype", detail::torch_name(dtype)},
                 {"use_cache", true},
                 {"vocab_size", model.vocab}};
  return config.dump(2) + "\n";
}

/// The text of a generation_config.json that names the tokens and samples nothing.
[[nodiscard]] inline std::string generation_config_text(const ModelConfig& model) {
  Json config = {{"do_sample", false}, {"eos_token_id", detail::eos_json(model)}};
  if (model.bos_token_id >= 0) config["bos_token_id"] = model.bos_token_id;
  return config.dump(2) + "\n";
}

}  // namespace tessera
