// The law of collectives over the transports that need no launcher.
#include "collectives_law.hpp"
#include "moves_only.hpp"

#include <algorithm>
#include <atomic>

#include "catch.hpp"

#include <tessera/comm/loopback.hpp>

using namespace tessera;

namespace {

index_t large_for(int ranks) { return ranks <= 4 ? 1500007 : ranks <= 16 ? 200003 : 30011; }

}  // namespace

TEST_CASE("a single rank obeys the law of collectives without a transport") {
  CHECK(test::check_law(Loopback{}, 1, 1500007) == "");
}

TEST_CASE("ranks in one process obey the law of collectives, any number of them") {
  for (const int ranks : {1, 2, 3, 5, 16, 64})
    for (const std::string& findings : InProcess::run(
             ranks, [&](Communicator comm) { return test::check_law(std::move(comm), 2, large_for(ranks)); })) {
      INFO(ranks << " ranks");
      CHECK(findings == "");
    }
}

TEST_CASE("operations made of moves alone obey the law of collectives, polled by await") {
  for (const int ranks : {1, 2, 3, 4, 5, 6, 7, 8, 9, 12})
    for (const std::string& findings : test::run_moves_only(
             ranks, [&](Communicator comm) { return test::check_law(std::move(comm), 3, large_for(ranks)); })) {
      INFO(ranks << " ranks");
      CHECK(findings == "");
    }
}

TEST_CASE("no rank leaves a barrier before the last one has entered it") {
  for (const int ranks : {2, 7, 64}) {
    std::atomic<int> entered{0};
    const auto early = InProcess::run(ranks, [&](Communicator comm) {
      int early_leaves = 0;
      for (int round = 1; round <= 20; ++round) {
        ++entered;
        comm.barrier();
        if (entered < round * ranks) ++early_leaves;
        comm.barrier();
      }
      return early_leaves;
    });
    CHECK(std::count(early.begin(), early.end(), 0) == ranks);
  }
}

TEST_CASE("a communicator's copies share its group and its deadline") {
  const auto agreed = InProcess::run(3, [](Communicator comm) {
    Communicator copy = comm;
    copy.set_timeout(7);
    float value = static_cast<float>(comm.rank());
    comm.allreduce(std::span(&value, 1));
    copy.allreduce(std::span(&value, 1));
    return comm.timeout() == 7 && value == 9;
  });
  CHECK(agreed == std::vector<bool>{true, true, true});
}

TEST_CASE("counts that do not describe the buffers are refused") {
  Communicator comm = Loopback{};
  std::vector<float> four(4), three(3);
  const std::vector<index_t> counts{4}, two_counts{2, 2};
  CHECK_THROWS_WITH(comm.allgather<float>(four, std::span(three), counts),
                    "allgather: the counts add up to 16, the buffer holds 12 (rank 0 of 1)");
  CHECK_THROWS_WITH(comm.allgather<float>(four, std::span(four), two_counts),
                    "allgather: expected one count for each of 1 ranks, found 2");
  CHECK_THROWS_WITH(comm.broadcast(std::span(four), 1), "broadcast: expected a root in [0, 1), found 1");
  CHECK_THROWS_WITH(comm.split(-1, 0), "split: expected a color >= 0, found -1");
}
