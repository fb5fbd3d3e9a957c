// The table of shipped combinations, which native_instances.cpp and scalar_instances.cpp compile.
#include "program/combinations.hpp"

#include <tessera/runtime/combinations.hpp>

namespace tessera::program {

const std::vector<Combination>& shipped_combinations() {
  static const std::vector<Combination> table = all_combinations();
  return table;
}

}  // namespace tessera::program
