#pragma once
// The arithmetic of a sharding without its type: what a planner asks of policies that are chosen by name.

#include <tessera/policies/sharding.hpp>

namespace tessera {

/// The static functions of a ShardingPolicy; see there.
struct ShardingArithmetic {
  void (*check)(const ModelConfig&, const Ranks&);  ///< throws Error for more ranks than the sharding can use
  Plan (*plan)(const ModelConfig&, const Ranks&, const Step&);
  CacheLayout (*layout)(const ModelConfig&, const Ranks&);
  index_t (*max_rows)(const ModelConfig&, const Ranks&, const Limits&);
  WeightSlice (*widest)(const ModelConfig&, const Ranks&);
  index_t (*exchange_floats)(const ModelConfig&, const Ranks&, const Limits&);
  index_t (*pairs)(const ModelConfig&, const Ranks&, const Step&);
  Traffic (*traffic)(const ModelConfig&, const Ranks&, const Step&);            ///< of a layer
  Traffic (*selection_traffic)(const ModelConfig&, const Ranks&, const Step&);  ///< of a step
};

/// Those of the type S.
template <ShardingPolicy S>
inline constexpr ShardingArithmetic arithmetic_of = {&S::check,    &S::plan,    &S::layout,
                                                     &S::max_rows, &S::widest,  &S::exchange_floats,
                                                     &S::pairs,    &S::traffic, &S::selection_traffic};

}  // namespace tessera
