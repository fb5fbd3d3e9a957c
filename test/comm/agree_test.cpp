// Ranks agree on one error, in process.
#include <algorithm>
#include <atomic>
#include <thread>

#include "catch.hpp"

#include <tessera/comm/agree.hpp>
#include <tessera/comm/in_process.hpp>
#include <tessera/comm/loopback_program.hpp>
#include <tessera/comm/same_everywhere.hpp>

using namespace tessera;

namespace {

struct Heard {
  std::string text;
  int status = 0;
  friend bool operator==(const Heard&, const Heard&) = default;
};

/// What each rank hears when the ranks run `act` and agree.
template <class Act>
std::vector<Heard> heard_by_all(int ranks, Act act) {
  return InProcess::run(ranks, [&](Communicator comm) -> Heard {
    try {
      agree(comm, [&] { act(comm.rank()); });
    } catch (const AgreedError& error) {
      return {error.what(), error.status()};
    }
    return {};
  });
}

}  // namespace

TEST_CASE("when no rank fails, agreeing returns every rank's own result") {
  const auto results =
      InProcess::run(5, [](Communicator comm) { return agree(comm, [&] { return comm.rank() * 2; }); });
  CHECK(results == std::vector<int>{0, 2, 4, 6, 8});
}

TEST_CASE("when one rank fails, all hear its text, its place and its status") {
  for (const int culprit : {0, 2, 3}) {
    const auto heard = heard_by_all(4, [&](int rank) { require(rank != culprit, "no such file: model"); });
    CHECK(heard[0].text == concat("no such file: model (rank ", culprit, " of 4 on ", detail::host_name(), ")"));
    CHECK(heard[0].status == 1);
    CHECK(std::count(heard.begin(), heard.end(), heard[0]) == 4);
  }
}

TEST_CASE("of several failing ranks the lowest one is heard, with its own status") {
  const auto heard = heard_by_all(6, [](int rank) {
    if (rank == 5) fail("later");
    if (rank == 3) throw UsageError("--threads: expected a number");
  });
  CHECK(heard[0].text.starts_with("--threads: expected a number (rank 3 of 6"));
  CHECK(heard[0].status == 2);
  CHECK(std::count(heard.begin(), heard.end(), heard[0]) == 6);
}

TEST_CASE("a fault of every rank is told without a place") {
  const auto heard = heard_by_all(3, [](int) { throw UsageError("unknown flag --x (rank 1 of many)"); });
  CHECK(heard == std::vector<Heard>(3, Heard{"unknown flag --x (rank 1 of many)", 2}));
}

TEST_CASE("what is not an Error is told in words too") {
  CHECK(heard_by_all(2, [](int) { throw std::bad_alloc(); })[1].text == "out of memory");
  CHECK(heard_by_all(2, [](int) { throw 7; })[1].text == "an exception of unknown type");
}

TEST_CASE("ranks agree again after a fault") {
  const auto rounds = InProcess::run(3, [](Communicator comm) {
    int faults = 0;
    for (int round = 0; round < 6; ++round) try {
        agree(comm, [&] { require(comm.rank() != round, "round"); });
      } catch (const AgreedError&) {
        ++faults;
      }
    return faults;
  });
  CHECK(rounds == std::vector<int>{3, 3, 3});
}

TEST_CASE("a rank that does not come is waited for up to the deadline where what they agree on takes no time") {
  std::atomic<bool> ended = false;
  const auto texts = InProcess::run(2, [&](Communicator comm) -> std::string {
    comm.set_timeout(0.2);
    std::string text;
    try {
      if (comm.rank() == 0)
        agree(
            comm, [] {}, Patience::of_communicator);
    } catch (const Error& error) {
      text = error.what();
    }
    if (comm.rank() == 0) ended = true;
    while (!ended) std::this_thread::yield();  // busy with something else
    return text;
  });
  INFO(texts[0]);
  CHECK(texts[0].find("waited 0.2 s") != std::string::npos);
}

TEST_CASE("facts that differ between ranks are named, with both values and the rank that has another") {
  const auto heard = [](auto&& facts_of_rank) {
    return InProcess::run(3, [&](Communicator comm) -> std::string {
      const std::vector<Fact> facts = facts_of_rank(comm.rank());
      try {
        require_same_everywhere(comm, "command lines", facts);
      } catch (const AgreedError& error) {
        return error.what();
      }
      return "";
    });
  };
  const std::string place = concat(" (rank 2 of 3 on ", detail::host_name(), ")");
  const auto told = [&](const std::string& what) {
    return std::vector<std::string>(3, "command lines differ between ranks: " + what + place);
  };
  CHECK(heard([](int) { return std::vector<Fact>{{"--seed", "7"}, {"", "12:a"}}; }) == std::vector<std::string>(3));
  CHECK(heard([](int rank) {
          return std::vector<Fact>{{"--seed", "7"}, {"--chunk", rank == 2 ? "256" : "512"}};
        }) == told("--chunk: expected 512 as on rank 0, found 256"));
  CHECK(heard([](int rank) {
          return rank == 2 ? std::vector<Fact>{} : std::vector<Fact>{{"--greedy", ""}};
        }) == told("--greedy: expected nothing as on rank 0, found none"));
  CHECK(heard([](int rank) {
          return rank == 2 ? std::vector<Fact>{{"--wire", "q8"}} : std::vector<Fact>{};
        }) == told("--wire: expected none as on rank 0, found q8"));
}

TEST_CASE("a program of one rank returns its status, 1 for an error, 2 for a wrong command line") {
  int argc = 0;
  char** argv = nullptr;
  const auto run = [&](auto body) { return LoopbackProgram::run(argc, argv, "agree_test", body); };
  CHECK(run([](Communicator comm) { return comm.size() + 6; }) == 7);
  CHECK(run([](Communicator) -> int { fail("this line on standard error is expected"); }) == 1);
  CHECK(run([](Communicator) -> int { throw UsageError("this line on standard error is expected"); }) == 2);
}
