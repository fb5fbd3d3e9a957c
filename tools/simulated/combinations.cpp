// The combinations that a simulation has: every shipped sharding, on kernels that cost time and compute nothing.
#include "program/combinations.hpp"

#include <tessera/simulate/cost_kernels.hpp>

#include <tessera/runtime/combinations.hpp>

namespace tessera {

template <>
struct BackendChoice<CostBackend> {
  static constexpr std::string_view name = CostBackend::name();
};

namespace program {

const std::vector<Combination>& shipped_combinations() {
  static const std::vector<Combination> table =
      combinations_of(Shardings{}, TypeList<OnlineSoftmax>{}, TypeList<CostBackend>{});
  return table;
}

}  // namespace program
}  // namespace tessera
