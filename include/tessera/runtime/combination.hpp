#pragma once
// A choice of policies by name, without the types: what programs pick from.

#include <memory>
#include <string_view>

#include <tessera/models/weights.hpp>
#include <tessera/policies/sharding_arithmetic.hpp>
#include <tessera/runtime/any_model.hpp>

namespace tessera {

/// One instantiation of Transformer, by the names of its policies.
struct Combination {
  std::string_view sharding;
  std::string_view decode;
  std::string_view softmax;
  std::string_view backend;
  ShardingArithmetic arithmetic;  ///< of the sharding
  std::unique_ptr<AnyModel> (*make)(Communicator, ModelConfig, ModelWeights, TransformerOptions);
  bool states_merge;  ///< those of the softmax: Limits wants to know it where memory is planned

  /// Whether its ranks form a mesh of two dimensions, and want TransformerOptions::inner.
  [[nodiscard]] bool is_hybrid() const { return sharding.find(" x ") != std::string_view::npos; }
};

}  // namespace tessera
