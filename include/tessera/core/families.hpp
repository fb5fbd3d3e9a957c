#pragma once
// The model families, one row each: what sets them apart beyond the numbers of config.json.

#include <array>
#include <string>
#include <string_view>

#include <tessera/core/types.hpp>

namespace tessera {

/// A family of decoder-only transformers: rms norms, rotary embeddings, grouped-query attention and a gated MLP in
/// common. Defaults are those of the family's configuration class in transformers, for fields that old checkpoints
/// leave out.
struct Family {
  std::string_view model_type;    ///< as config.json names it
  std::string_view architecture;  ///< as config.json's `architectures` names it
  bool qk_norm = false;           ///< rms norm over each head of q and k, before the rotary embedding
  bool qkv_bias = false;          ///< q_proj, k_proj and v_proj have a bias; o_proj never has
  index_t default_head_dim = 0;   ///< 0: hidden_size / num_attention_heads
  double default_rope_theta = 0;  ///< 0: config.json must say
  /// Where sliding_window alone asks for a window: that of a config.json without the field; null there means none.
  /// 0: use_sliding_window asks.
  index_t default_sliding_window = 0;
};

/// A family is added here, and nowhere else in the library.
inline constexpr std::array families = {
    Family{.model_type = "qwen3", .architecture = "Qwen3ForCausalLM", .qk_norm = true, .default_head_dim = 128},
    Family{.model_type = "qwen2", .architecture = "Qwen2ForCausalLM", .qkv_bias = true},
    Family{.model_type = "llama", .architecture = "LlamaForCausalLM", .default_rope_theta = 10000.0},
    Family{.model_type = "mistral",
           .architecture = "MistralForCausalLM",
           .default_rope_theta = 10000.0,
           .default_sliding_window = 4096},
    Family{.model_type = "seed_oss", .architecture = "SeedOssForCausalLM", .qkv_bias = true, .default_head_dim = 128},
};

/// The row of a family. Throws Error that lists the families there are; `where` names the file.
[[nodiscard]] inline const Family& family_named(std::string_view model_type, std::string_view where = "config.json") {
  std::string names;
  for (const Family& family : families) {
    if (family.model_type == model_type) return family;
    names += names.empty() ? "" : ", ";
    names += family.model_type;
  }
  fail(where, ": model_type: expected one of ", names, ", found \"", model_type, '"');
}

}  // namespace tessera
