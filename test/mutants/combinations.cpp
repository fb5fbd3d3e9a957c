// The table that golden and demo tests run over, in small: two shardings on the reference backend, compiled in half a
// minute where the shipped table takes many.
#include "program/combinations.hpp"

#include <tessera/runtime/combinations.hpp>

namespace tessera::program {

const std::vector<Combination>& shipped_combinations() {
  static const std::vector<Combination> table = [] {
    std::vector<Combination> rows;
    detail::add_backends<HeadWise, OnlineSoftmax>(rows, TypeList<ScalarBackend>{});
    detail::add_backends<Sequence<RingKv>, OnlineSoftmax>(rows, TypeList<ScalarBackend>{});
    return rows;
  }();
  return table;
}

}  // namespace tessera::program
