// The one place where programs and tests instantiate all shipped combinations.
#include "program/combinations.hpp"

#include <tessera/runtime/combinations.hpp>

namespace tessera::program {

const std::vector<Combination>& shipped_combinations() {
  static const std::vector<Combination> table = all_combinations();
  return table;
}

}  // namespace tessera::program
