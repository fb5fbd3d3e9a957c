// Ranks that share memory: here threads, that meet in a segment as processes do.
#include <chrono>
#include <thread>

#include "catch.hpp"

#include <tessera/comm/in_process.hpp>
#include <tessera/comm/shared_memory.hpp>

#include "collectives_law.hpp"

using namespace tessera;

TEST_CASE("ranks that share memory obey the law of collectives, any number of them") {
  for (const int ranks : {1, 2, 3, 4, 8, 33})
    for (const std::string& findings : InProcess::run(ranks, [&](Communicator comm) {
           const index_t large = ranks <= 4 ? 1500007 : ranks <= 16 ? 200003 : 30011;
           return test::check_law(SharedMemory::over(std::move(comm)), 31, large);
         })) {
      INFO(ranks << " ranks");
      CHECK(findings == "");
    }
}

TEST_CASE("shared memory and moves between ranks give the same bits") {
  const auto same = InProcess::run(4, [](Communicator comm) {
    Communicator shared = SharedMemory::over(comm);
    for (const index_t n : {1, 100, 8193, 300007}) {
      auto one = test::terms(9, comm.rank(), n), other = one;
      comm.allreduce(one);
      shared.allreduce(other);
      if (std::memcmp(one.data(), other.data(), one.size() * sizeof(float)) != 0) return false;
    }
    return true;
  });
  CHECK(same == std::vector<bool>(4, true));
}

TEST_CASE("a rank that sleeps between operations loses no wake-up") {
  const auto sums = InProcess::run(3, [](Communicator comm) {
    Communicator shared = SharedMemory::over(comm);
    float sum = 0;
    for (int round = 0; round < 60; ++round) {
      if (round % 3 == comm.rank()) std::this_thread::sleep_for(std::chrono::microseconds(round * 20));
      float value = 1;
      shared.allreduce(std::span(&value, 1));
      sum += value;
    }
    return sum;
  });
  CHECK(sums == std::vector<float>(3, 180));
}

TEST_CASE("shared memory waits for a rank that never comes until the deadline") {
  const auto texts = InProcess::run(3, [](Communicator comm) -> std::string {
    Communicator shared = SharedMemory::over(comm);
    shared.set_timeout(0.1);
    std::string text;
    if (comm.rank() != 1) try {
        shared.barrier();
      } catch (const Error& error) {
        text = error.what();
      }
    comm.barrier();
    return text;
  });
  CHECK(texts[1] == "");
  CHECK(texts[0].starts_with("barrier of 0 bytes: rank 0 of 3 (shared memory) waited 0.1 s"));
  CHECK(texts[2].starts_with("barrier of 0 bytes: rank 2 of 3 (shared memory) waited 0.1 s"));
}

TEST_CASE("ranks that share memory and disagree on sizes are told both sizes") {
  const auto texts = InProcess::run(2, [](Communicator comm) -> std::string {
    Communicator shared = SharedMemory::over(comm);
    std::vector<float> values(comm.rank() == 1 ? 9 : 10);
    try {
      shared.allreduce(values);
    } catch (const Error& error) {
      return error.what();
    }
    return {};
  });
  CHECK(texts[0] == "rank 0 of 2 expects 40 bytes of rank 1, which sends 36");
  CHECK(texts[1] == "rank 1 of 2 expects 36 bytes of rank 0, which sends 40");
}
