// Ranks of one machine and its cores: pure arithmetic, then real masks of this process.
#include <sys/resource.h>

#include <climits>
#include <cstdlib>
#include <fstream>
#include <optional>
#include <string>
#include <vector>

#include "catch.hpp"

#include <tessera/comm/in_process.hpp>
#include <tessera/comm/placement.hpp>
#include <tessera/parallel/thread_pool.hpp>

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

/// OMP_NUM_THREADS for a while; null: not set.
class ThreadsInEnvironment {
 public:
  explicit ThreadsInEnvironment(const char* value) {
    if (const char* text = std::getenv(name)) before_ = text;
    set(value);
  }
  ThreadsInEnvironment(const ThreadsInEnvironment&) = delete;
  ThreadsInEnvironment& operator=(const ThreadsInEnvironment&) = delete;
  ~ThreadsInEnvironment() { set(before_ ? before_->c_str() : nullptr); }

 private:
  static constexpr const char* name = "OMP_NUM_THREADS";
  static void set(const char* value) { value == nullptr ? ::unsetenv(name) : ::setenv(name, value, 1); }

  std::optional<std::string> before_;
};

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

TEST_CASE("OMP_NUM_THREADS is a number of threads, or the first of a list of them") {
  const auto asked = [](const char* value) {
    const ThreadsInEnvironment environment(value);
    return threads_of_environment();
  };
  CHECK(asked(nullptr) == 0);
  CHECK(asked("") == 0);
  CHECK(asked("3") == 3);
  CHECK(asked("4,2") == 4);
  CHECK(asked(" 4 , 2") == 4);
  CHECK(asked("1024") == most_threads);
}

TEST_CASE("OMP_NUM_THREADS that no rank can have is refused by name, on all ranks alike") {
  for (const char* value : {"abc", "-3", "0", "1025", "100000", "99999999999999999999", "2.5", "4x", ",4"}) {
    const ThreadsInEnvironment environment(value);
    const std::string expected =
        concat("OMP_NUM_THREADS: expected a number of threads from 1 to 1024, found \"", value, '"');
    CHECK_THROWS_WITH(default_threads(), expected);
    const auto texts = InProcess::run(2, [](Communicator comm) -> std::string {
      try {
        static_cast<void>(take_cores(comm, 0, false));
      } catch (const AgreedError& error) {
        return error.what();
      }
      return "nothing";
    });
    CHECK(texts == std::vector<std::string>(2, expected));
    CHECK(InProcess::run(1, [](Communicator comm) { return take_cores(comm, 2, false).share.threads; })[0] == 2);
  }
}

TEST_CASE("ranks with more threads together than an int counts share their cores") {
  const std::vector<cpu_set_t> four(4, mask_of(0, 4));
  CHECK(shares_of(four, INT_MAX / 2, 8)[0].ownership == CoreOwnership::shared);
}

#if defined(__has_feature)
#define TESSERA_TEST_SANITIZED (__has_feature(address_sanitizer) || __has_feature(thread_sanitizer))
#elif defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define TESSERA_TEST_SANITIZED 1
#else
#define TESSERA_TEST_SANITIZED 0
#endif
#if !TESSERA_TEST_SANITIZED  // sanitizers end the process themselves where they get no memory
TEST_CASE("a pool of more threads than the system allows is an error that says so, and leaves none") {
  index_t pages = 0;
  std::ifstream("/proc/self/statm") >> pages;
  rlimit before{};
  ::getrlimit(RLIMIT_AS, &before);
  rlimit less = before;  // what there is, and room for the stacks of some threads
  less.rlim_cur = static_cast<rlim_t>(pages * ::sysconf(_SC_PAGESIZE) + (index_t{64} << 20));
  REQUIRE(::setrlimit(RLIMIT_AS, &less) == 0);
  std::string text = "nothing";
  try {
    ThreadPool pool(1000);
  } catch (const Error& error) {
    text = error.what();
  }
  ::setrlimit(RLIMIT_AS, &before);
  CHECK_THAT(text, Catch::StartsWith("threads: expected 1000 beside the one that is there, the system refused"));
}
#endif
