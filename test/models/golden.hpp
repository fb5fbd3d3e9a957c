#pragma once
// A golden checkpoint: a small model with the logits and the greedy continuation that transformers computed for it.

#include <filesystem>
#include <string>
#include <vector>

#include <tessera/io/checkpoint.hpp>
#include <tessera/io/hf_config.hpp>
#include <tessera/runtime/load_weights.hpp>

namespace golden {

using tessera::index_t;
using tessera::token_t;

struct Golden {
  std::string name;
  tessera::ModelConfig config;
  tessera::ModelWeights weights;
  std::vector<token_t> prompt;
  std::vector<float> logits;  ///< [prompt, vocab]
  std::vector<token_t> greedy;
};

inline std::vector<token_t> ids_of(const tessera::TensorInfo& tensor) {
  const auto* ids = static_cast<const std::int64_t*>(static_cast<const void*>(tensor.data));
  return {ids, ids + tensor.shape.at(0)};
}

inline Golden load(const std::string& name) {
  const std::filesystem::path folder = std::filesystem::path(TESSERA_GOLDEN) / name;
  Golden g;
  g.name = name;
  g.config = tessera::read_config(folder);
  g.weights = tessera::load_weights(tessera::Checkpoint::open(folder), g.config);
  const tessera::Safetensors expected(folder / "golden.safetensors");
  for (const tessera::TensorInfo& tensor : expected.tensors()) {
    if (tensor.name == "input_ids") g.prompt = ids_of(tensor);
    if (tensor.name == "greedy_ids") g.greedy = ids_of(tensor);
    if (tensor.name == "logits") {
      const auto* values = static_cast<const float*>(static_cast<const void*>(tensor.data));
      g.logits.assign(values, values + tensor.shape.at(0) * tensor.shape.at(1));
    }
  }
  return g;
}

inline const std::vector<std::string>& names() {
  static const std::vector<std::string> all = {"qwen3-tiny", "qwen3-uneven", "qwen2-tiny", "llama-tiny", "llama3-tiny"};
  return all;
}

}  // namespace golden
