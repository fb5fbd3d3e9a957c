// What happens when a rank throws, never comes, leaves early, or does something else than the others.
#include <chrono>
#include <thread>

#include "catch.hpp"

#include <tessera/comm/in_process.hpp>

using namespace tessera;
using namespace std::chrono_literals;

namespace {

double seconds_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

/// The text of what `act` throws; empty when it does not.
template <class Act>
std::string error_of(Act act) {
  try {
    act();
  } catch (const std::exception& error) {
    return error.what();
  }
  return {};
}

bool contains(const std::string& text, std::string_view part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST_CASE("a rank that throws wakes the others, and its exception comes out of run") {
  for (const int ranks : {1, 2, 5, 64}) {
    const auto begin = std::chrono::steady_clock::now();
    CHECK_THROWS_WITH(InProcess::run(ranks,
                                     [&](Communicator comm) {
                                       comm.barrier();
                                       if (comm.rank() == comm.size() - 1) fail("tensor lost");
                                       for (;;) comm.barrier();
                                     }),
                      "tensor lost");
    CHECK(seconds_since(begin) < 5);
  }
}

TEST_CASE("of several ranks that throw the lowest one's own exception wins, with its type") {
  struct Peculiar : std::exception {};
  CHECK_THROWS_AS(InProcess::run(6,
                                 [](Communicator comm) {
                                   if (comm.rank() == 2) {
                                     std::this_thread::sleep_for(20ms);
                                     throw Peculiar();
                                   }
                                   if (comm.rank() == 4) fail("a later one");
                                   if (comm.rank() != 2) comm.barrier();
                                 }),
                  Peculiar);
}

TEST_CASE("a rank that waits in a part of the group is woken by a fault outside of it") {
  CHECK_THROWS_WITH(InProcess::run(6,
                                   [](Communicator comm) {
                                     Communicator part = comm.split(comm.rank() / 2, 0);
                                     if (comm.rank() == 5) fail("outside");
                                     if (comm.rank() == 0) part.barrier();
                                     comm.barrier();  // nobody leaves: that would be a trouble of its own
                                   }),
                    "outside");
}

TEST_CASE("a rank that is aborted is told which rank failed and why") {
  std::string told;
  try {
    InProcess::run(3, [&](Communicator comm) {
      if (comm.rank() == 1) fail("tensor lost");
      try {
        comm.barrier();
      } catch (const RankAborted& aborted) {
        if (comm.rank() == 2) told = aborted.what();
        throw;
      }
    });
  } catch (const Error&) {
  }
  CHECK(told == "rank 1 of 3 failed: tensor lost");
}

TEST_CASE("a rank that never comes is waited for until the deadline, not longer") {
  const auto begin = std::chrono::steady_clock::now();
  const std::string error = error_of([] {
    InProcess::run(4, [](Communicator comm) {
      if (comm.rank() == 2) std::this_thread::sleep_for(600ms);
      comm.set_timeout(0.1);
      std::vector<float> values(10);
      comm.allreduce(values);
    });
  });
  INFO(error);
  CHECK(contains(error, "allreduce of 40 bytes: rank "));
  CHECK(contains(error, " of 4 (in process) waited 0.1 s"));
  CHECK(seconds_since(begin) < 5);
}

TEST_CASE("with a deadline of zero a late rank is waited for") {
  const auto sums = InProcess::run(3, [](Communicator comm) {
    comm.set_timeout(0);
    if (comm.rank() == 1) std::this_thread::sleep_for(50ms);
    float value = 1;
    comm.allreduce(std::span(&value, 1));
    return value;
  });
  CHECK(sums == std::vector<float>{3, 3, 3});
}

TEST_CASE("a rank that returns while others wait for it is named at once") {
  const auto begin = std::chrono::steady_clock::now();
  CHECK_THROWS_WITH(InProcess::run(4,
                                   [](Communicator comm) {
                                     if (comm.rank() != 2) comm.barrier();
                                   }),
                    "rank 2 returned without taking part");
  CHECK(seconds_since(begin) < 5);
}

TEST_CASE("ranks in different operations are an error, not a mix of their data") {
  const std::vector<index_t> counts{4, 4};
  const std::string error = error_of([&] {
    InProcess::run(2, [&](Communicator comm) {
      std::vector<float> send(8), receive(8);
      if (comm.rank() == 0) {
        comm.allgather<float>(std::span(send).first(4), std::span(receive), counts);
      } else {
        comm.alltoall<float>(send, counts, std::span(receive), counts);
      }
    });
  });
  INFO(error);
  CHECK((error == "rank 0 of 2 is in allgather, rank 1 in alltoall" ||
         error == "rank 1 of 2 is in alltoall, rank 0 in allgather"));
}

TEST_CASE("ranks that disagree on sizes are told both sizes") {
  const std::string error = error_of([] {
    InProcess::run(2, [](Communicator comm) {
      std::vector<float> values(comm.rank() == 1 ? 9 : 10);
      comm.allreduce(values);
    });
  });
  INFO(error);
  CHECK((error == "reduce: rank 0 of 2 expects 40 bytes of rank 1, which sends 36" ||
         error == "reduce: rank 1 of 2 expects 36 bytes of rank 0, which sends 40"));
}

TEST_CASE("an operation that was started and dropped is finished all the same") {
  const auto values = InProcess::run(2, [](Communicator comm) {
    float mine = static_cast<float>(comm.rank() + 1), other = 0;
    {
      const Pending dropped =
          comm.start_exchange<float>(std::span(&mine, 1), 1 - comm.rank(), std::span(&other, 1), 1 - comm.rank());
    }
    return other;
  });
  CHECK(values == std::vector<float>{2, 1});
}

TEST_CASE("a rank that throws with an operation under way leaves soon") {
  const auto begin = std::chrono::steady_clock::now();
  CHECK_THROWS_WITH(InProcess::run(2,
                                   [](Communicator comm) {
                                     std::vector<float> values(100000, 1);
                                     if (comm.rank() == 1) {
                                       std::this_thread::sleep_for(3s);
                                       comm.allreduce(values);
                                       return;
                                     }
                                     const Pending pending = comm.start_allreduce(values);
                                     fail("in the middle");
                                   }),
                    "in the middle");
  CHECK(seconds_since(begin) < 10);
}
