#pragma once
// The shipped combinations of policies, compiled once for all programs and tests.

#include <vector>

#include <tessera/runtime/combination.hpp>

namespace tessera::program {

[[nodiscard]] const std::vector<Combination>& shipped_combinations();

}  // namespace tessera::program
