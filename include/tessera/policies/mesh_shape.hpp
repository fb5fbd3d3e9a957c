#pragma once
// How ranks form a mesh: the outer dimension splits tokens, the inner one features.

#include <tessera/policies/plan.hpp>

namespace tessera {

/// All ranks split features.
struct FeaturesOnly {
  [[nodiscard]] static constexpr index_t inner(const Ranks& ranks) { return ranks.size; }
};

/// All ranks split tokens.
struct TokensOnly {
  [[nodiscard]] static constexpr index_t inner(const Ranks&) { return 1; }
};

/// Ranks::inner of them split features, the others tokens.
struct TwoDimensional {
  [[nodiscard]] static constexpr index_t inner(const Ranks& ranks) { return ranks.inner; }
};

/// Rank r is number r / inner of the outer dimension and r % inner of the inner one, so that neighbours, which sum
/// activations in every layer, share a machine. Shares are for meshes of one dimension.
template <class Shape>
[[nodiscard]] constexpr MeshRanks mesh_of(const Ranks& ranks) {
  const index_t inner = Shape::inner(ranks);
  const std::span<const double> none;
  return {ranks,
          {ranks.rank / inner, ranks.size / inner, inner == 1 ? ranks.shares : none},
          {ranks.rank % inner, inner, inner == ranks.size ? ranks.shares : none}};
}

}  // namespace tessera
