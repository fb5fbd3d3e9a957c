#include "catch.hpp"

#include <tessera/core/partition.hpp>

using namespace tessera;

TEST_CASE("parts tile the whole in order and differ by at most one unit") {
  for (index_t n = 0; n <= 64; ++n)
    for (index_t parts = 1; parts <= 64; ++parts)
      for (index_t grain : {1, 3, 32}) {
        index_t at = 0, least = n, most = 0;  // units, of which the last of all may be short
        for (index_t i = 0; i < parts; ++i) {
          const Range r = partition(n, parts, i, grain);
          REQUIRE(r.begin == at);
          REQUIRE(r.begin <= r.end);
          at = r.end;
          const index_t units = ceil_div(r.size(), grain);
          least = std::min(least, units), most = std::max(most, units);
          if (r.end != n) REQUIRE(r.size() % grain == 0);
        }
        REQUIRE(at == n);
        REQUIRE(most - least <= 1);
      }
}

TEST_CASE("shares cut in proportion and still tile") {
  const double shares[] = {3, 1, 0, 2};
  for (index_t n = 0; n <= 200; ++n) {
    index_t at = 0;
    for (index_t i = 0; i < 4; ++i) {
      const Range r = partition(n, 4, i, shares);
      REQUIRE(r.begin == at);
      at = r.end;
      REQUIRE(std::abs(static_cast<double>(r.size()) - static_cast<double>(n) * shares[i] / 6.0) <= 1.0 + 1e-9);
    }
    REQUIRE(at == n);
  }
}
