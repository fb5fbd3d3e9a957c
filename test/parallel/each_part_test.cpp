// Work that moves from slow threads to fast ones: every part is done, once.
#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#include "catch.hpp"

#include <tessera/parallel/team.hpp>

using namespace tessera;

namespace {

/// How often each of [0, n) was worked on; worker `slow` sleeps in each of its parts, and what others did of its share
/// is counted.
std::vector<int> counts_of(Team& team, index_t n, index_t grain, index_t size, int slow, std::atomic<int>& helped) {
  std::vector<std::atomic<int>> counts(static_cast<std::size_t>(n));
  team.run([&](Worker& worker) {
    for (int repeat = 0; repeat < 3; ++repeat) {
      worker.each_part({n, grain}, size, [&](Range part) {
        if (worker.index() == slow) std::this_thread::sleep_for(std::chrono::milliseconds(2));
        if (worker.index() != slow && part.size() > 0 &&
            intersect(part, partition(n, worker.count(), slow, grain)).size() > 0)
          ++helped;
        for (index_t i = part.begin; i < part.end; ++i) ++counts[static_cast<std::size_t>(i)];
      });
      worker.barrier();
    }
  });
  return {counts.begin(), counts.end()};
}

}  // namespace

TEST_CASE("every part of all shares is worked on once, by whoever comes to it") {
  for (const int threads : {1, 2, 3, 5}) {
    Team team(threads);
    for (const index_t n : {0, 1, 7, 64, 1000, 1024})
      for (const index_t grain : {1, 16}) {
        INFO(threads << " threads, " << n << " in units of " << grain);
        std::atomic<int> helped = 0;
        CHECK(counts_of(team, n, grain, 64, -1, helped) == std::vector<int>(static_cast<std::size_t>(n), 3));
      }
  }
}

TEST_CASE("threads that are done take from the one that is slow") {
  Team team(2);
  std::atomic<int> helped = 0;
  CHECK(counts_of(team, 640, 1, 16, 1, helped) == std::vector<int>(640, 3));
  if (team.threads() > 1) CHECK(helped > 0);
}

TEST_CASE("parts that an error left are forgotten") {
  Team team(2);
  CHECK_THROWS_WITH(team.run([](Worker& worker) {
    worker.each_part({1000, 1}, 10, [](Range) { fail("lost"); });
    worker.barrier();
  }),
                    "lost");
  // Whoever comes first takes from the queue of the other, which has not filled it yet: what is there is from before.
  std::atomic<index_t> done = 0;
  team.run([&](Worker& worker) {
    if (worker.index() == 1) std::this_thread::sleep_for(std::chrono::milliseconds(20));
    worker.each_part({1000, 1}, 10, [&](Range part) { done += part.size(); });
    worker.barrier();
  });
  CHECK(done == 1000);
}
