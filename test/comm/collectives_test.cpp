// The law of collectives over the transports that need no launcher.
#include "collectives_law.hpp"

#include <algorithm>
#include <atomic>

#include "catch.hpp"

#include <tessera/comm/in_process.hpp>
#include <tessera/comm/loopback.hpp>

using namespace tessera;

namespace {

/// In process, but through the moves alone: without what shared memory adds.
class MovesOnly {
 public:
  explicit MovesOnly(InProcessRank rank) : rank_(std::move(rank)) {}
  [[nodiscard]] int rank() const { return rank_.rank(); }
  [[nodiscard]] int size() const { return rank_.size(); }
  [[nodiscard]] std::string_view name() const { return "moves only"; }
  Ticket start_allgather(std::span<const std::byte> mine, std::span<std::byte> all, std::span<const index_t> counts) {
    return rank_.start_allgather(mine, all, counts);
  }
  Ticket start_alltoall(std::span<const std::byte> send, std::span<const index_t> send_counts,
                        std::span<std::byte> receive, std::span<const index_t> receive_counts) {
    return rank_.start_alltoall(send, send_counts, receive, receive_counts);
  }
  Ticket start_exchange(std::span<const std::byte> send, int dest, std::span<std::byte> receive, int source) {
    return rank_.start_exchange(send, dest, receive, source);
  }
  [[nodiscard]] bool test(Ticket ticket) { return rank_.test(ticket); }
  [[nodiscard]] MovesOnly split(int color, int key) { return MovesOnly(rank_.split(color, key)); }

 private:
  InProcessRank rank_;
};
static_assert(Collectives<MovesOnly> && !ReducingCollectives<MovesOnly> && !BlockingCollectives<MovesOnly>);

template <class Body>
auto run_moves_only(int size, Body body) {
  return InProcess::run_transports(size,
                                   [&](InProcessRank rank) { return body(Communicator(MovesOnly(std::move(rank)))); });
}

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
  for (const int ranks : {1, 2, 3, 4, 5, 8})
    for (const std::string& findings : run_moves_only(
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
