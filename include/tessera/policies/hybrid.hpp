#pragma once
// Hybrid: a two-dimensional mesh of ranks, tokens split over the outer dimension and features over the inner one, e.g.
// Sequence across machines and HeadWise inside each.

#include <tessera/policies/head_wise_scattered.hpp>
#include <tessera/policies/sequence.hpp>

namespace tessera {

/// Prefill of Hybrid<Outer, Inner>: Outer's token split and Inner's feature split.
template <class Outer, class Inner>
class HybridPrefill : public Mesh<typename Outer::Tokens, typename Inner::Features, TwoDimensional> {
  using Base = Mesh<typename Outer::Tokens, typename Inner::Features, TwoDimensional>;

 public:
  static constexpr std::string_view name = "hybrid prefill";
  using Base::Base;
};

/// `Outer` splits tokens and stripes the cache (Sequence over any exchange); `Inner` splits features (HeadWise or
/// HeadWiseScattered). Decode runs over all ranks: Helix, attention among the ranks that share heads.
template <class Outer, class Inner>
class Hybrid : public Phased<HybridPrefill<Outer, Inner>, HelixOn<TwoDimensional>> {
  static_assert(Outer::Tokens::splits,
                "Hybrid<Outer, Inner>: Outer must split tokens, e.g. Sequence<>; HeadWise belongs into the inner slot");
  using Base = Phased<HybridPrefill<Outer, Inner>, HelixOn<TwoDimensional>>;

 public:
  using Base::Base;

  static void check(const ModelConfig& config, const Ranks& ranks) {
    require(ranks.inner >= 1 && ranks.size % ranks.inner == 0,
            "hybrid sharding: expected ranks that are a multiple of the ", ranks.inner, " inner ones, found ",
            ranks.size);
    Base::check(config, ranks);
  }
};

/// Named as on the command line, without the numbers: sequence:2xheadwise:4 is 2 groups of 4 neighbours.
class SequenceOfHeadWise : public Hybrid<Sequence<>, HeadWise> {
 public:
  static constexpr std::string_view name = "sequence x headwise";
  using Hybrid::Hybrid;
};
/// sequence:2xheadwise_scattered:4 on the command line.
class SequenceOfHeadWiseScattered : public Hybrid<Sequence<>, HeadWiseScattered> {
 public:
  static constexpr std::string_view name = "sequence x headwise_scattered";
  using Hybrid::Hybrid;
};
/// sequence_ring:2xheadwise:4 on the command line.
class RingOfHeadWise : public Hybrid<Sequence<RingKv>, HeadWise> {
 public:
  static constexpr std::string_view name = "sequence_ring x headwise";
  using Hybrid::Hybrid;
};

static_assert(ShardingPolicy<SequenceOfHeadWise> && ShardingPolicy<SequenceOfHeadWiseScattered>);
static_assert(ShardingPolicy<RingOfHeadWise>);

}  // namespace tessera
