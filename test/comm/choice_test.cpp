// The choice of a transport: agreed on by all ranks, and without a trace in the bits.
#include "catch.hpp"

#include <tessera/comm/choose.hpp>
#include <tessera/comm/in_process.hpp>

#include "collectives_law.hpp"

using namespace tessera;

namespace {

/// Another candidate for every kind and class, so that neighbours in time use different transports.
CollectiveChoice checkered() {
  CollectiveChoice choice;
  for (std::size_t k = 0; k < CollectiveChoice::kinds.size(); ++k)
    for (std::size_t c = 0; c < CollectiveChoice::classes; ++c) choice.set(CollectiveChoice::kinds[k], c, (k + c) % 2);
  return choice;
}

Communicator both(const Communicator& comm, const CollectiveChoice& choice) {
  return Communicator(
      std::make_shared<detail::ChoosingOperations>(std::vector<Communicator>{comm, SharedMemory::over(comm)}, choice));
}

}  // namespace

TEST_CASE("operations that go to two transports in turns obey the law of collectives") {
  for (const int ranks : {1, 2, 4, 5})
    for (const std::string& findings : InProcess::run(ranks, [](Communicator comm) {
           return test::check_law(both(comm, checkered()), 61, 300007) +
                  test::check_law(both(comm, checkered()).in_background(), 62, 100003);
         })) {
      INFO(ranks << " ranks");
      CHECK(findings == "");
    }
}

TEST_CASE("a sum has the same bits whichever transport is chosen") {
  const auto same = InProcess::run(4, [](Communicator comm) {
    std::vector<Communicator> ways{comm};
    for (const char* wanted : {"auto", "mpi", "shm"}) ways.push_back(choose_collectives(comm, wanted).communicator);
    ways.push_back(hierarchical(comm, comm.rank() / 2));
    ways.push_back(both(comm, checkered()));
    for (const index_t n : {1, 700, 5000, 20000, 300007}) {
      const auto terms = test::terms(17, comm.rank(), n);
      auto expected = terms;
      comm.allreduce(expected);
      for (Communicator& way : ways) {
        auto sum = terms;
        way.allreduce(sum);
        if (std::memcmp(sum.data(), expected.data(), sum.size() * sizeof(float)) != 0) return false;
      }
    }
    return true;
  });
  CHECK(same == std::vector<bool>(4, true));
}

TEST_CASE("all ranks measure the same choice") {
  const auto choices = InProcess::run(3, [](Communicator comm) {
    return measure_collectives({comm, SharedMemory::over(comm)});
  });
  CHECK(choices[1] == choices[0]);
  CHECK(choices[2] == choices[0]);
}

TEST_CASE("a choice is told in words") {
  const std::vector<std::string> names{"mpi", "shared memory"};
  CollectiveChoice choice;
  CHECK(choice.describe(names) == "mpi");
  for (std::size_t c = 0; c < 2; ++c) choice.set(Collective::allreduce, c, 1);
  choice.set(Collective::alltoall, 2, 1);
  CHECK(choice.describe(names) ==
        "allreduce: shared memory to 64 KiB, then mpi; allgather, reduce_scatter, exchange: mpi; alltoall: shared "
        "memory");
}

TEST_CASE("what is not chosen for goes as the kind whose data moves alike") {
  CollectiveChoice choice;
  choice.set(Collective::allreduce, 0, 1);
  choice.set(Collective::allgather, 3, 1);
  choice.set(Collective::alltoall, 2, 1);
  CHECK((choice(Collective::barrier, 0) == 1 && choice(Collective::allreduce, 1 << 20) == 0));
  CHECK((choice(Collective::broadcast, 1 << 20) == 1 && choice(Collective::broadcast, 1 << 10) == 0));
  CHECK((choice(Collective::deal, 1) == 1 && choice(Collective::deal, 1 << 30) == 1));
  CHECK((choice(Collective::exchange, 1) == 0 && choice(Collective::reduce_scatter, 1) == 0));
  for (int k = 0; k < collective_kinds; ++k) {
    const Collective kind = CollectiveChoice::chosen_as(static_cast<Collective>(k));
    CHECK(CollectiveChoice::chosen_as(kind) == kind);
    CHECK(std::count(CollectiveChoice::kinds.begin(), CollectiveChoice::kinds.end(), kind) == 1);
  }
}

TEST_CASE("ranks that cannot share memory are told so when it is asked for, and go on when it is not") {
  InProcess::run(1, [](Communicator comm) { CHECK(choose_collectives(comm, "shm").report == "in process"); });
  CHECK_THROWS_WITH(InProcess::run(2, [](Communicator comm) { return choose_collectives(comm, "tcp").report; }),
                    "collectives: expected auto, mpi or shm, found tcp");
  // One rank of each color is a group without a neighbour.
  const auto reports = InProcess::run(2, [](Communicator comm) {
    return choose_collectives(comm, "shm").report + ", " + choose_collectives(comm, "mpi").report;
  });
  CHECK(reports == std::vector<std::string>(2, "shared memory, in process"));
}
