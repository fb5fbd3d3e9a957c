// Two levels of ranks: threads that pretend to be on several machines.
#include <sched.h>

#include <numeric>

#include "catch.hpp"

#include <tessera/comm/hierarchical.hpp>
#include <tessera/comm/in_process.hpp>
#include <tessera/comm/recording.hpp>

#include "collectives_law.hpp"

using namespace tessera;

namespace {

/// The machine of a rank when machine m has ranks[m] of them, in order.
int machine_of(int rank, const std::vector<int>& ranks) {
  int machine = 0;
  for (int end = ranks[0]; rank >= end; end += ranks[static_cast<std::size_t>(machine)]) ++machine;
  return machine;
}

}  // namespace

TEST_CASE("ranks on several machines obey the law of collectives") {
  for (const std::vector<int>& ranks :
       {std::vector<int>{2, 2}, {1, 3}, {3, 1, 2}, {4, 4}, {1, 1, 2, 1}, {2, 2, 2, 2}, {5}, {1, 1, 1}}) {
    const int size = std::accumulate(ranks.begin(), ranks.end(), 0);
    for (const std::string& findings : InProcess::run(size, [&](Communicator comm) {
           const int machine = machine_of(comm.rank(), ranks);
           return test::check_law(hierarchical(std::move(comm), machine), 41, size <= 4 ? 1500007 : 200003);
         })) {
      INFO(ranks.size() << " machines, " << size << " ranks");
      CHECK(findings == "");
    }
  }
}

TEST_CASE("ranks that do not share a machine, or not with their neighbours, keep their transport") {
  const auto names = [](int ranks, auto machine) {
    return InProcess::run(
        ranks, [&](Communicator comm) { return std::string(hierarchical(comm, machine(comm.rank())).name()); });
  };
  CHECK(names(3, [](int rank) { return rank; }) == std::vector<std::string>(3, "in process"));
  CHECK(names(4, [](int rank) { return rank % 2; }) == std::vector<std::string>(4, "in process"));
  CHECK(names(3, [](int) { return 7; }) == std::vector<std::string>(3, "shared memory"));
  CHECK(names(3, [](int rank) { return rank / 2; }) == std::vector<std::string>(3, "shared memory and in process"));
}

TEST_CASE("where the ranks of one machine cannot share memory, those of all machines hear of it") {
  // Rank 0 is a machine of its own. What rank 1 opens from here on is no file of the process, so that rank 2 finds
  // nothing where rank 1 says that their memory is.
  const auto heard = InProcess::run(3, [&](Communicator comm) -> std::string {
    if (comm.rank() == 1 && ::unshare(CLONE_FILES) != 0) return "unshare failed";
    comm.set_timeout(10);
    try {
      static_cast<void>(hierarchical(comm, (comm.rank() + 1) / 2));
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  });
  for (const std::string& text : heard) CHECK_THAT(text, Catch::Contains("shared memory: "));
}

TEST_CASE("sums of every size go from machine to machine in the way that takes the least") {
  const auto way = [](index_t bytes, index_t machines, index_t ranks) {
    return sum_of_machines(bytes, machines, ranks, 256 << 10);
  };
  CHECK((way(16 << 10, 2, 2) == SumOfMachines::one_move && way(17 << 10, 2, 2) == SumOfMachines::slices));
  CHECK((way(16 << 10, 8, 16) == SumOfMachines::slices && way(256, 8, 16) == SumOfMachines::one_move));
  CHECK((way(256 << 10, 4, 4) == SumOfMachines::slices && way(512 << 10, 4, 4) == SumOfMachines::blocks));
  CHECK((way(1 << 20, 64, 2) == SumOfMachines::slices && way((1 << 20) + 4, 64, 2) == SumOfMachines::blocks));
  CHECK(way(512 << 10, 2, 16) == SumOfMachines::blocks);
  // Two machines of two ranks, 5000 floats: half of two terms each way, then half of the sum.
  const index_t n = 5000, half = partition(n, 2, 0, 16).size();
  const auto sent = InProcess::run(4, [&](Communicator world) {
    auto [network, ledger] = record(world);
    Communicator comm = hierarchical(network, world.rank() / 2);
    ledger->clear();
    std::vector<float> values(static_cast<std::size_t>(n), 1);
    comm.allreduce(values);
    return ledger->total().wire_bytes;
  });
  CHECK(sent == std::vector<index_t>{4 * (2 * (n - half) + half), 0, 4 * (2 * half + n - half), 0});
}

TEST_CASE("of a large sum a machine sends the terms of its ranks once") {
  // Two machines of three ranks: n floats to the second, n back, whatever the number of ranks.
  const index_t n = 300000;
  const auto sent = InProcess::run(6, [&](Communicator world) {
    auto [network, ledger] = record(world);
    Communicator comm = hierarchical(network, world.rank() / 3);
    ledger->clear();
    std::vector<float> values(static_cast<std::size_t>(n), 1);
    comm.allreduce(values);
    return ledger->total().wire_bytes;
  });
  CHECK(sent == std::vector<index_t>{4 * n, 0, 0, 4 * n, 0, 0});
}
