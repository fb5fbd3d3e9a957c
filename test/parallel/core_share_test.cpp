// Ranks of one machine and its cores: pure arithmetic, then real masks of this process.
#include <vector>

#include "catch.hpp"

#include <tessera/comm/in_process.hpp>
#include <tessera/comm/placement.hpp>

using namespace tessera;

namespace {

/// Processors far above those of any machine: without topology each is a core of its own.
constexpr int base = 900;

cpu_set_t mask_of(int begin, int end) {
  cpu_set_t mask;
  CPU_ZERO(&mask);
  for (int cpu = begin; cpu < end; ++cpu) CPU_SET(base + cpu, &mask);
  return mask;
}

std::vector<CoreShare> shares_of(const std::vector<cpu_set_t>& masks, int threads = 0, double quota = 0) {
  std::vector<CoreShare> shares;
  for (std::size_t r = 0; r < masks.size(); ++r) shares.push_back(share_of_cores(masks, r, threads, quota));
  return shares;
}

}  // namespace

TEST_CASE("one mask for all ranks is cut into disjoint parts that differ by at most one core") {
  for (int cores = 1; cores <= 24; ++cores)
    for (int ranks = 2; ranks <= 10; ++ranks) {
      const std::vector<cpu_set_t> masks(static_cast<std::size_t>(ranks), mask_of(0, cores));
      INFO(cores << " cores, " << ranks << " ranks");
      int total = 0;
      for (const CoreShare& share : shares_of(masks)) {
        CHECK(share.ownership == (cores >= ranks ? CoreOwnership::bound_by_rank : CoreOwnership::shared));
        CHECK(share.threads == std::max(1, share.ownership == CoreOwnership::shared ? cores / ranks : share.cores));
        if (cores < ranks) continue;
        CHECK((share.cores == cores / ranks || share.cores == ceil_div(cores, ranks)));
        CHECK(CPU_COUNT(&share.processors) == share.cores);
        total += share.cores;
      }
      if (cores >= ranks) CHECK(total == cores);
      const auto shares = shares_of(masks);
      for (std::size_t a = 0; a < shares.size() && cores >= ranks; ++a)
        for (std::size_t b = 0; b < a; ++b) {
          cpu_set_t common;
          CPU_AND(&common, &shares[a].processors, &shares[b].processors);
          CHECK(CPU_COUNT(&common) == 0);
        }
    }
}

TEST_CASE("what the launcher has bound stays, and every core of it is used") {
  const auto shares = shares_of({mask_of(0, 4), mask_of(4, 6)});
  CHECK(shares[0].ownership == CoreOwnership::bound_by_launcher);
  CHECK(shares[0].threads == 4);
  CHECK(shares[1].threads == 2);
}

TEST_CASE("ranks that cannot have a core each for every thread are left to the kernel") {
  CHECK(shares_of({mask_of(0, 4), mask_of(2, 6)})[0].ownership == CoreOwnership::shared);  // partly the same
  const std::vector<cpu_set_t> two(2, mask_of(0, 4));
  CHECK(shares_of(two, 2)[0].ownership == CoreOwnership::bound_by_rank);
  CHECK(shares_of(two, 3)[0].ownership == CoreOwnership::shared);
  CHECK(shares_of(two, 3)[0].threads == 3);
  CHECK(shares_of(two, 0, 1.5)[0].ownership == CoreOwnership::shared);
  CHECK(shares_of(two, 0, 1.5)[0].threads == 1);
}

TEST_CASE("a quota of the cgroup limits the threads, bound or not") {
  const std::vector<cpu_set_t> two(2, mask_of(0, 16));
  CHECK(shares_of(two, 0, 4)[1].ownership == CoreOwnership::bound_by_rank);
  CHECK(shares_of(two, 0, 4)[1].threads == 2);
  CHECK(share_of_cores({two.data(), 1}, 0, 0, 4).threads == 4);
  CHECK(share_of_cores({two.data(), 1}, 0, 0, 0).ownership == CoreOwnership::alone);
}

TEST_CASE("threads that are ranks bind themselves to disjoint processors, or say that they do not") {
  struct Result {
    Placement placement;
    cpu_set_t now;
  };
  for (const bool bind : {true, false}) {
    const auto results = InProcess::run(2, [&](Communicator comm) {
      const cpu_set_t before = affinity_mask();
      Result result{take_cores(comm, 1, bind), affinity_mask()};
      ::sched_setaffinity(0, sizeof before, &before);
      return result;
    });
    const bool bound = results[0].placement.share.ownership == CoreOwnership::bound_by_rank;
    CHECK(bound == (bind && affinity_cores() >= 2 && (cgroup_cores() == 0 || cgroup_cores() >= 2)));
    CHECK(results[0].placement.ranks_here == 2);
    cpu_set_t common;
    CPU_AND(&common, &results[0].now, &results[1].now);
    CHECK((CPU_COUNT(&common) == 0) == bound);
    CHECK(results[0].placement.describe().ends_with(bound ? "bound by the ranks themselves" : "not bound"));
  }
}
