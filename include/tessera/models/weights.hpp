#pragma once
// The weights of a whole model: views into mapped files, and the few vectors that are kept in f32.

#include <memory>
#include <vector>

#include <tessera/core/model_config.hpp>
#include <tessera/nn/layer_weights.hpp>

namespace tessera {

/// Owns nothing large: `storage` keeps the mapped files and the f32 vectors (norms, biases) alive. Copies share them.
struct ModelWeights {
  WeightView embedding;  ///< [vocab, hidden]
  std::vector<LayerWeights> layers;
  std::span<const float> final_norm;
  WeightView lm_head;  ///< [vocab, hidden]; the embedding itself where the two are tied
  std::shared_ptr<const void> storage;
};

}  // namespace tessera
