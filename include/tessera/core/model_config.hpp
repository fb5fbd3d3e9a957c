#pragma once
// What a decoder-only transformer looks like, in numbers: read from config.json, used by everything above.

#include <string>
#include <vector>

#include <tessera/core/types.hpp>

namespace tessera {

/// Rotary embedding: the base, and Llama 3's rescaling of low frequencies where factor is not 1.
struct RopeConfig {
  double theta = 10000.0;
  double factor = 1.0;
  double low_freq_factor = 1.0;
  double high_freq_factor = 4.0;
  index_t original_max_positions = 0;
};

/// Sizes of a model, in elements, as transformers' configuration classes call them.
struct ModelConfig {
  std::string model_type;  ///< as config.json names it: qwen3, qwen2, llama
  index_t layers = 0;
  index_t hidden = 0;
  index_t heads = 0;
  index_t kv_heads = 0;
  index_t head_dim = 0;
  index_t intermediate = 0;
  index_t vocab = 0;
  index_t max_positions = 0;
  double rms_norm_eps = 1e-6;
  RopeConfig rope;
  bool tied_embeddings = false;
  bool attention_bias = false;         ///< q/k/v bias: as config.json says, else as the family has it
  std::vector<token_t> eos_token_ids;  ///< of generation_config.json if it is there, else of config.json
  token_t bos_token_id = -1;           ///< -1: none

  [[nodiscard]] constexpr index_t group() const { return heads / kv_heads; }  ///< query heads that share a KV head
};

/// The most that a file may say of each size: far above any model, and low enough that the product of any two of them,
/// in bytes, fits an index_t.
struct MostSizes {
  index_t layers = 1 << 16;
  index_t hidden = 1 << 24;
  index_t heads = 1 << 16;
  index_t head_dim = 1 << 16;
  index_t intermediate = 1 << 26;
  index_t positions = INT32_MAX;
};
/// What both readers of configurations hold a file to.
inline constexpr MostSizes most_sizes;

}  // namespace tessera
