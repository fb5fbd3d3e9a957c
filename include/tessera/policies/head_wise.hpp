#pragma once
// HeadWise: heads, FFN columns and vocabulary over ranks; one allreduce after o_proj, one after down_proj.

#include <tessera/policies/mesh.hpp>

namespace tessera {

/// Megatron-LM's tensor parallelism (arXiv:1909.08053) in both phases, the cache by heads. At most as many ranks as
/// query heads; heads need not divide by the ranks, and a KV head is held wherever a query head reads it.
class HeadWise : public Mesh<WholeSequence, SplitHeads, FeaturesOnly> {
 public:
  static constexpr std::string_view name = "headwise";
  static constexpr std::string_view decode_name = name;
  static constexpr bool hides_sums = true;
  using Mesh::Mesh;
};

static_assert(PhasePolicy<HeadWise> && ShardingPolicy<HeadWise>);

}  // namespace tessera
