// Operations on a thread of their own.
#include <chrono>
#include <thread>

#include "catch.hpp"

#include <tessera/comm/in_process.hpp>
#include <tessera/comm/recording.hpp>
#include <tessera/comm/shared_memory.hpp>

#include "collectives_law.hpp"

using namespace tessera;

TEST_CASE("operations in the background obey the law of collectives") {
  for (const int ranks : {1, 2, 3, 5})
    for (const std::string& findings : InProcess::run(ranks, [](Communicator comm) {
           Communicator shared = SharedMemory::over(comm);
           return test::check_law(comm.in_background(), 51, 100003) +
                  test::check_law(shared.in_background(), 52, 100003);
         })) {
      INFO(ranks << " ranks");
      CHECK(findings == "");
    }
}

TEST_CASE("an operation in the background goes on while its rank does something else") {
  const auto sums = InProcess::run(3, [](Communicator comm) {
    Communicator background = comm.in_background();
    std::vector<float> values(100000, 1);  // of two moves: the second one is started by nobody but the thread
    Pending sum = background.start_allreduce(values);
    if (comm.rank() != 0) sum.wait();
    comm.barrier();  // the others have the sum before rank 0 waits for it
    sum.wait();
    return values[99999];
  });
  CHECK(sums == std::vector<float>(3, 3));
}

TEST_CASE("a recording communicator counts what runs in the background") {
  const auto ledgers = InProcess::run(4, [](Communicator world) {
    auto [comm, ledger] = record(world);
    Communicator background = comm.in_background();
    ledger->clear();
    std::vector<float> values(1 << 20), small(16);
    Pending large = background.start_allreduce(values);
    comm.allreduce(small);
    large.wait();
    return *ledger;
  });
  for (const Ledger& ledger : ledgers) {
    CHECK(ledger[Collective::allreduce].calls == 2);
    CHECK(ledger[Collective::allreduce].wire_bytes == 2 * (4 << 20) / 4 * 3 + 3 * 64);
    CHECK(ledger.total().calls == 2);
  }
}

TEST_CASE("an operation in the background that waits in vain throws where it is waited for") {
  const auto texts = InProcess::run(2, [](Communicator comm) -> std::string {
    Communicator background = Communicator(SharedMemory::over(comm)).in_background();
    background.set_timeout(0.1);
    std::string text;
    std::vector<float> values(3);
    if (comm.rank() == 0) {
      Pending pending = background.start_allreduce(values);
      try {
        pending.wait();
      } catch (const Error& error) {
        text = error.what();
      }
    }
    comm.barrier();
    return text;
  });
  CHECK(texts[0].starts_with("allreduce of 12 bytes: rank 0 of 2 (shared memory) waited 0.1 s"));
}

TEST_CASE("a rank that throws with an operation in the background leaves soon") {
  const auto begin = std::chrono::steady_clock::now();
  CHECK_THROWS_WITH(InProcess::run(2,
                                   [](Communicator comm) {
                                     Communicator background = comm.in_background();
                                     std::vector<float> values(100000, 1);
                                     if (comm.rank() == 1) {
                                       std::this_thread::sleep_for(std::chrono::seconds(3));
                                       background.allreduce(values);
                                       return;
                                     }
                                     const Pending pending = background.start_allreduce(values);
                                     fail("in the middle");
                                   }),
                    "in the middle");
  CHECK(std::chrono::steady_clock::now() - begin < std::chrono::seconds(10));
}
