#pragma once
// Prefill policies on the other cache than their usual one: what --decode-strategy offers beside the defaults.

#include <tessera/policies/head_wise_scattered.hpp>
#include <tessera/policies/sequence.hpp>
#include <tessera/policies/striped_keys.hpp>
#include <tessera/policies/ulysses.hpp>

namespace tessera {

/// Prefill by heads that stores what it computes striped by position.
template <class Features>
class StripedHeadWisePrefill : public Mesh<StripedKeys, Features, FeaturesOnly> {
 public:
  static constexpr std::string_view name = "headwise prefill on stripes";
  using Mesh<StripedKeys, Features, FeaturesOnly>::Mesh;
};

/// HeadWise prefill, Helix decode: contexts and ranks are not limited by the number of KV heads in decode.
class HeadWiseThenHelix : public Phased<StripedHeadWisePrefill<SplitHeads>, Helix> {
 public:
  static constexpr std::string_view name = HeadWise::name;
  using Phased::Phased;
};

/// HeadWiseScattered prefill, Helix decode.
class HeadWiseScatteredThenHelix : public Phased<StripedHeadWisePrefill<ScatteredResidual>, Helix> {
 public:
  static constexpr std::string_view name = HeadWiseScattered::name;
  using Phased::Phased;
};

/// Ulysses prefill, Helix decode.
class UlyssesThenHelix : public Phased<UlyssesPrefill<StripedKeys>, Helix> {
 public:
  static constexpr std::string_view name = Ulysses::name;
  using Phased::Phased;
};

/// Sequence prefill that stores by heads, HeadWise decode: no exchange of attention states in decode.
class SequenceThenHeadWise : public Phased<ContextParallel<AllGatherKv<CacheByHeads>>, HeadWise> {
 public:
  static constexpr std::string_view name = Sequence<>::name;
  using Phased::Phased;
};

static_assert(ShardingPolicy<HeadWiseThenHelix> && ShardingPolicy<HeadWiseScatteredThenHelix>);
static_assert(ShardingPolicy<UlyssesThenHelix> && ShardingPolicy<SequenceThenHeadWise>);

}  // namespace tessera
