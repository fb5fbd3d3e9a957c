// What tessera info warns of, on machines that this one is not.

#include "catch.hpp"

#include "tessera/places.hpp"

using namespace tessera::tools;

namespace {

Place place(const std::string& cpus, int cores, int threads) {
  return {.host = "a",
          .cpus = cpus,
          .nodes = "0",
          .best_isa = "avx2_fma_f16c",
          .compiled_isa = "avx2_fma_f16c",
          .cores = cores,
          .threads = threads,
          .memory = {.total = 100, .available = 50}};
}

/// The only warning, or all of them where there is not one.
std::string warning(const std::vector<Place>& places) {
  return fmt::format("{}", fmt::join(warnings_of(places), "; "));
}

}  // namespace

TEST_CASE("ranks that have what they need are not warned of") {
  CHECK(warning({place("0-3", 4, 4)}).empty());
  CHECK(warning({place("0-1", 2, 2), place("2-3", 2, 2)}).empty());
  CHECK(warning({place("0-3", 4, 2), place("0-3", 4, 2)}).empty());
  CHECK(warning({place("0 | 1", 2, 2), place("2 | 3", 2, 2)}).empty());
}

TEST_CASE("ranks and threads that share cores are warned of") {
  CHECK(warning({place("0", 1, 1), place("0", 1, 1)}) == "2 ranks share 1 core of a: take at most one rank per core");
  CHECK(warning({place("0-1", 2, 1), place("1", 1, 1), place("0", 1, 1)}).starts_with("3 ranks share 2 cores"));
  CHECK(warning({place("0-3", 4, 4), place("0-3", 4, 4)}) == "8 threads share 4 cores of a: give --threads 2");
  std::vector<Place> apart = {place("0-1", 2, 2), place("0-1", 2, 2)};
  apart[1].host = "b";
  CHECK(warning(apart).empty());
}

TEST_CASE("ranks over NUMA nodes, poorer builds and full memories are warned of") {
  Place wide = place("0-7", 8, 8);
  wide.nodes = "0-1";
  CHECK(warning({wide}) == "rank 0 may run on NUMA nodes 0-1: bind a rank to each, mpiexec -bind-to numa");
  Place poor = place("0", 1, 1);
  poor.best_isa = "avx512";
  CHECK(warning({poor}) == "a has avx512, this build uses avx2_fma_f16c: configure with -Dmarch=native there");
  poor.best_isa = "avx2_fma_f16c_vnni";
  CHECK(warning({poor}).starts_with("a has avx2_fma_f16c_vnni, this build uses avx2_fma_f16c"));
  Place full = place("0", 1, 1);
  full.memory.available = 5;
  CHECK(warning({full}).find("a has 0.0 GB of free memory") == 0);
}

TEST_CASE("lists of CPUs read and write as the kernel has them") {
  CHECK(list_text({0, 1, 2, 5, 7, 8}) == "0-2,5,7-8");
  CHECK(list_text({}).empty());
  CHECK(list_of("0-2,5,7-8") == std::vector<int>{0, 1, 2, 5, 7, 8});
  CHECK(list_of("").empty());
  CHECK(cpus_in("0 | 2-3") == std::vector<int>{0, 2, 3});
}
