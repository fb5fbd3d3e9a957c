#pragma once
// HeadWiseScattered: HeadWise with the residual stream split by tokens during prefill.

#include <tessera/policies/head_wise.hpp>
#include <tessera/policies/phased.hpp>
#include <tessera/policies/scattered_residual.hpp>

namespace tessera {

/// Prefill by heads with a residual stream of which each rank keeps its rows (arXiv:2205.05198).
class ScatteredPrefill : public Mesh<WholeSequence, ScatteredResidual, FeaturesOnly> {
 public:
  static constexpr std::string_view name = "scattered prefill";
  using Mesh::Mesh;
};

/// Decode has one row per sequence, too few to scatter: it is HeadWise's, on the same cache.
class HeadWiseScattered : public Phased<ScatteredPrefill, HeadWise> {
 public:
  using Features = ScatteredResidual;
  static constexpr std::string_view name = "headwise_scattered";
  static constexpr bool hides_sums = true;
  using Phased::Phased;
};

static_assert(PhasePolicy<ScatteredPrefill> && ShardingPolicy<HeadWiseScattered>);

}  // namespace tessera
