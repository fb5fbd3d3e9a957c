#pragma once
// The weights of a whole model: views into mapped files, and the few vectors that are kept in f32.

#include <memory>
#include <vector>

#include <tessera/core/model_config.hpp>
#include <tessera/nn/layer_weights.hpp>

namespace tessera {

/// What the weights of a model lie in.
class WeightStorage {
 public:
  WeightStorage() = default;
  WeightStorage(const WeightStorage&) = delete;
  WeightStorage& operator=(const WeightStorage&) = delete;
  virtual ~WeightStorage() = default;

  /// Throws Error, with the name of the file, if a file of weights was written to, removed or replaced since it was
  /// opened: what has been computed since may be of both.
  virtual void check_unchanged() const = 0;
};

/// Owns nothing large: `storage` keeps the mapped files and the f32 vectors (norms, biases) alive. Copies share them.
struct ModelWeights {
  WeightView embedding;  ///< [vocab, hidden]
  std::vector<LayerWeights> layers;
  std::span<const float> final_norm;
  WeightView lm_head;  ///< [vocab, hidden]; the embedding itself where the two are tied
  std::shared_ptr<const WeightStorage> storage;
};

}  // namespace tessera
