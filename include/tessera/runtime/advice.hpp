#pragma once
// Which policy to take: every shipped one by what its arithmetic says of a request.

#include <algorithm>
#include <optional>
#include <string>
#include <tuple>

#include <tessera/runtime/combination.hpp>
#include <tessera/runtime/step_cost.hpp>

namespace tessera {

/// A way to split a model over ranks: policies, and the ranks of the inner dimension where they have one.
struct PolicyChoice {
  const Combination* combination = nullptr;
  index_t inner = 1;
  StepCost prefill;
  StepCost decode;      ///< of one token of every sequence
  Footprint footprint;  ///< of the rank that holds the most

  /// Of a whole request.
  [[nodiscard]] double seconds(const PlannedRequest& request) const {
    return prefill.seconds() + static_cast<double>(request.new_tokens) * decode.seconds();
  }
};

/// As it is typed: "sequence x headwise" on 2 groups of 4 is sequence:2xheadwise:4.
[[nodiscard]] inline std::string typed_name(const Combination& combination, index_t ranks, index_t inner) {
  std::string name(combination.sharding);
  if (const std::size_t cross = name.find(" x "); cross != std::string::npos)
    name.replace(cross, 3, concat(':', ranks / inner, 'x')) += concat(':', inner);
  return name;
}

/// What a request of a model needs, on the rank that holds the most.
[[nodiscard]] inline Footprint largest_footprint(const ShardingArithmetic& sharding, const ModelConfig& config,
                                                 const Ranks& ranks, const Limits& limits,
                                                 const BytesPerNumber& bytes) {
  Footprint largest;
  for (index_t r = 0; r < ranks.size; ++r) {
    const Footprint here = footprint(sharding, config, ranks.at(r), limits, bytes);
    if (here.total() >= largest.total()) largest = here;
  }
  return largest;
}

/// The combination on these ranks; nothing where it cannot use them.
[[nodiscard]] inline std::optional<PolicyChoice> choice_of(const Combination& combination, const ModelConfig& config,
                                                           const Ranks& ranks, const PlannedRequest& request,
                                                           Limits limits, const BytesPerNumber& bytes,
                                                           const Speeds& speeds) {
  const ShardingArithmetic& sharding = combination.arithmetic;
  limits.states_merge = combination.states_merge;
  try {
    sharding.check(config, ranks);
  } catch (const Error&) {
    return std::nullopt;
  }
  return PolicyChoice{&combination, ranks.inner, prefill_cost(sharding, config, ranks, request, bytes, speeds),
                      decode_cost(sharding, config, ranks, request, bytes, speeds),
                      largest_footprint(sharding, config, ranks, limits, bytes)};
}

/// Every sharding of `combinations` that `ranks` ranks can use, hybrids in all of their shapes, the fastest first; of
/// equally fast ones the first of the list. Combinations that differ in softmax or backend alone count once.
[[nodiscard]] inline std::vector<PolicyChoice> rank_policies(std::span<const Combination> combinations,
                                                             const ModelConfig& config, index_t ranks,
                                                             const PlannedRequest& request, const Limits& limits,
                                                             const BytesPerNumber& bytes, const Speeds& speeds) {
  std::vector<PolicyChoice> found;
  const Combination* before = nullptr;
  for (const Combination& combination : combinations) {
    if (before != nullptr && before->sharding == combination.sharding && before->decode == combination.decode) continue;
    before = &combination;
    const index_t most = combination.is_hybrid() ? ranks / 2 : 1;
    for (index_t inner = combination.is_hybrid() ? 2 : 1; inner <= most; ++inner) {
      if (ranks % inner != 0) continue;
      const auto one = choice_of(combination, config, {0, ranks, {}, inner}, request, limits, bytes, speeds);
      if (one) found.push_back(*one);
    }
  }
  // Of choices that take equally long, the order of the list.
  const auto rank = [&](const PolicyChoice& choice) {
    return std::tuple(choice.seconds(request), choice.combination, choice.inner);
  };
  std::sort(found.begin(), found.end(),
            [&](const PolicyChoice& a, const PolicyChoice& b) { return rank(a) < rank(b); });
  return found;
}

}  // namespace tessera
