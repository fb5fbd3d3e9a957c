// Rows of the shipped table for tests that look at the native backend alone.
#include "program/combinations.hpp"

#include <tessera/runtime/combinations.hpp>

namespace tessera::program {

const std::vector<Combination>& shipped_combinations() {
  static const std::vector<Combination> table = [] {
    std::vector<Combination> rows;
    detail::add_backends<HeadWise, OnlineSoftmax>(rows, TypeList<XsimdBackend<>>{});
    detail::add_backends<Sequence<RingKv>, OnlineSoftmax>(rows, TypeList<XsimdBackend<>>{});
    return rows;
  }();
  return table;
}

}  // namespace tessera::program
