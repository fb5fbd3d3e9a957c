#pragma once
// Shapes of published models, by name: for checkpoints of random weights, and for plans without a download.

#include <array>
#include <string>
#include <string_view>

#include <tessera/core/families.hpp>
#include <tessera/core/model_config.hpp>

namespace tessera {

/// One published model. Fields as in ModelConfig; rope_factor above 1 is Llama 3's scaling of 8,192 positions.
struct Preset {
  std::string_view name;
  std::string_view published;  ///< as its authors call it
  std::string_view model_type;
  index_t layers, hidden, heads, kv_heads, head_dim, intermediate, vocab, max_positions;
  double rms_norm_eps, rope_theta, rope_factor;
  bool tied_embeddings;
  token_t bos, eos;

  [[nodiscard]] ModelConfig config() const {
    ModelConfig model;
    model.model_type = model_type;
    model.layers = layers;
    model.hidden = hidden;
    model.heads = heads;
    model.kv_heads = kv_heads;
    model.head_dim = head_dim;
    model.intermediate = intermediate;
    model.vocab = vocab;
    model.max_positions = max_positions;
    model.rms_norm_eps = rms_norm_eps;
    model.rope.theta = rope_theta;
    if (rope_factor != 1.0) {
      model.rope.factor = rope_factor;
      model.rope.low_freq_factor = 1.0;
      model.rope.high_freq_factor = 4.0;
      model.rope.original_max_positions = 8192;
    }
    model.tied_embeddings = tied_embeddings;
    model.attention_bias = family_named(model_type).qkv_bias;
    model.eos_token_ids = {eos};
    model.bos_token_id = bos;
    return model;
  }
};

namespace detail {

constexpr Preset qwen3(std::string_view name, std::string_view published, index_t layers, index_t hidden, index_t heads,
                       index_t intermediate, bool tied) {
  return {name,   published, "qwen3", layers, hidden, heads, 8,      128,   intermediate,
          151936, 40960,     1e-6,    1e6,    1.0,    tied,  151643, 151645};
}
constexpr Preset qwen2(std::string_view name, std::string_view published, index_t layers, index_t hidden, index_t heads,
                       index_t kv_heads, index_t intermediate, index_t vocab, double theta, bool tied) {
  return {name,  published, "qwen2", layers, hidden, heads, kv_heads, hidden / heads, intermediate,
          vocab, 131072,    1e-6,    theta,  1.0,    tied,  151643,   151643};
}
constexpr Preset llama2(std::string_view name, std::string_view published, index_t layers, index_t hidden,
                        index_t heads, index_t kv_heads, index_t intermediate) {
  return {name,  published, "llama", layers, hidden, heads, kv_heads, 128, intermediate,
          32000, 4096,      1e-5,    1e4,    1.0,    false, 1,        2};
}
constexpr Preset llama3(std::string_view name, std::string_view published, index_t layers, index_t hidden,
                        index_t heads, index_t head_dim, index_t intermediate, double factor, bool tied) {
  return {name,   published, "llama", layers, hidden, heads, 8,      head_dim, intermediate,
          128256, 131072,    1e-5,    5e5,    factor, tied,  128000, 128001};
}

}  // namespace detail

/// The published models, by family and size.
// clang-format off
inline constexpr std::array presets = {
    //                                                   layers hidden heads   FFN   tied
    detail::qwen3("qwen3-0.6b", "Qwen3-0.6B",                28,  1024,  16,  3072, true),
    detail::qwen3("qwen3-1.7b", "Qwen3-1.7B",                28,  2048,  16,  6144, true),
    detail::qwen3("qwen3-4b",   "Qwen3-4B",                  36,  2560,  32,  9728, true),
    detail::qwen3("qwen3-8b",   "Qwen3-8B",                  36,  4096,  32, 12288, false),
    detail::qwen3("qwen3-14b",  "Qwen3-14B",                 40,  5120,  40, 17408, false),
    detail::qwen3("qwen3-32b",  "Qwen3-32B",                 64,  5120,  64, 25600, false),
    //                                                   layers hidden heads kv  FFN    vocab  theta tied
    detail::qwen2("qwen2-0.5b", "Qwen2-0.5B, Qwen2.5-0.5B",  24,   896,  14,  2,  4864, 151936, 1e6, true),
    detail::qwen2("qwen2-1.5b", "Qwen2-1.5B, Qwen2.5-1.5B",  28,  1536,  12,  2,  8960, 151936, 1e6, true),
    detail::qwen2("qwen2-7b",   "Qwen2-7B, Qwen2.5-7B",      28,  3584,  28,  4, 18944, 152064, 1e6, false),
    detail::qwen2("deepseek-r1-distill-qwen-1.5b", "DeepSeek-R1-Distill-Qwen-1.5B",
                                                             28,  1536,  12,  2,  8960, 151936, 1e4, false),
    //                                                   layers hidden heads kv  FFN
    detail::llama2("llama2-7b",   "Llama-2-7b",              32,  4096,  32, 32, 11008),
    detail::llama2("llama2-13b",  "Llama-2-13b",             40,  5120,  40, 40, 13824),
    detail::llama2("llama2-70b",  "Llama-2-70b",             80,  8192,  64,  8, 28672),
    //                                                   layers hidden heads dim  FFN  factor tied
    detail::llama3("llama3-8b",   "Llama-3.1-8B",            32,  4096,  32, 128, 14336,  8, false),
    detail::llama3("llama3-70b",  "Llama-3.1-70B",           80,  8192,  64, 128, 28672,  8, false),
    detail::llama3("llama3.2-1b", "Llama-3.2-1B",            16,  2048,  32,  64,  8192, 32, true),
    detail::llama3("llama3.2-3b", "Llama-3.2-3B",            28,  3072,  24, 128,  8192, 32, true),
};
// clang-format on

/// The preset of that name. Throws Error that lists the names there are.
[[nodiscard]] inline const Preset& preset_named(std::string_view name) {
  std::string names;
  for (const Preset& preset : presets) {
    if (preset.name == name) return preset;
    names += names.empty() ? "" : ", ";
    names += preset.name;
  }
  fail("preset: expected one of ", names, ", found \"", name, '"');
}

}  // namespace tessera
