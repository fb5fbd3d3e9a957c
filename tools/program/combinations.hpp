#pragma once
// The shipped combinations of policies, compiled once for all programs and tests.

#include <algorithm>
#include <string_view>
#include <vector>

#include <tessera/runtime/combination.hpp>

namespace tessera::program {

[[nodiscard]] const std::vector<Combination>& shipped_combinations();

/// The one that others are held to, on one rank: HeadWise and StandardSoftmax on `backend`, scalar or native.
[[nodiscard]] inline const Combination& reference_combination(std::string_view backend) {
  const auto& table = shipped_combinations();
  return *std::find_if(table.begin(), table.end(), [&](const Combination& row) {
    return row.sharding == "headwise" && row.softmax == "standard" && row.backend == backend;
  });
}

}  // namespace tessera::program
