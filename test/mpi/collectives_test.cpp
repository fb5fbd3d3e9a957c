// The law of collectives over MPI.
#include "catch.hpp"

#include <tessera/comm/choose.hpp>
#include <tessera/comm/mpi.hpp>
#include <tessera/comm/recording.hpp>

#include "comm/collectives_law.hpp"

using namespace tessera;

TEST_CASE("MPI ranks obey the law of collectives") { CHECK(test::check_law(Mpi(), 21, 1500007) == ""); }

TEST_CASE("ranks of a machine are neighbours, however the launcher placed them") {
  Mpi comm = Mpi::by_machine();
  const int mine = comm.machine();
  std::vector<int> machines(static_cast<std::size_t>(comm.size()));
  Communicator(comm.split(0, comm.rank()))
      .allgather<int>({&mine, 1}, std::span(machines), std::vector<index_t>(machines.size(), 1));
  CHECK(std::is_sorted(machines.begin(), machines.end()));
  int launched = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &launched);
  CHECK((comm.rank() == 0) == (launched == 0));
  if (std::getenv("MPIR_CVAR_ODD_EVEN_CLIQUES") != nullptr) CHECK(machines == std::vector<int>{0, 0, 1, 1});
}

TEST_CASE("messages cut into many MPI calls obey the law of collectives") {
  CHECK(test::check_law(Mpi(MPI_COMM_WORLD, {.largest_message = 1000}), 22, 100003) == "");
}

TEST_CASE("a recording communicator over MPI obeys the law of collectives") {
  CHECK(test::check_law(record(Mpi()).communicator, 23, 20011) == "");
}

TEST_CASE("processes that share memory obey the law of collectives") {
  CHECK(test::check_law(SharedMemory::over(Mpi()), 24, 1500007) == "");
}

TEST_CASE("ranks on machines that they only pretend to be on obey the law of collectives") {
  Communicator comm = Mpi();
  CHECK(test::check_law(hierarchical(comm, comm.rank() / 2), 25, 500009) == "");
}

TEST_CASE("the faster transport for each size obeys the law of collectives") {
  Chosen chosen = choose_collectives(Mpi(), "auto");
  CHECK(test::check_law(chosen.communicator, 26, 500009) == "");
}

TEST_CASE("operations in the background obey the law of collectives, beside others") {
  Communicator comm = Mpi();
  Communicator background = comm.in_background();
  CHECK(test::check_law(background, 27, 100003) == "");
  test::Findings findings;
  for (const index_t n : {5, 30000}) {
    auto hidden = test::terms(28, comm.rank(), n), shown = test::terms(29, comm.rank(), n);
    Pending pending = background.start_allreduce(hidden);
    comm.allreduce(shown);
    pending.wait();
    test::for_samples(n, [&](index_t i) {
      const auto at = static_cast<std::size_t>(i);
      findings.expect(test::same_bits(hidden[at], test::serial_sum(28, comm.size(), i)), "hidden sum, element ", i);
      findings.expect(test::same_bits(shown[at], test::serial_sum(29, comm.size(), i)), "shown sum, element ", i);
    });
  }
  CHECK(test::gather_findings(comm, findings) == "");
}

TEST_CASE("ranks of one machine know each other, and nobody else") {
  Communicator comm = Mpi();
  CHECK(comm.machine() == 0);  // these tests run on one machine
  CHECK(comm.split(comm.rank() % 2, 0).machine() == 0);
}

TEST_CASE("MPI's own allreduce gives the sum, in whatever order") {
  Communicator comm = Mpi(MPI_COMM_WORLD, {.allreduce = Allreduce::mpi, .largest_message = 4000});
  test::Findings findings;
  for (const index_t n : {0, 1, 999, 1000, 5003}) {
    std::vector<float> values(static_cast<std::size_t>(n));
    for (index_t i = 0; i < n; ++i) values[static_cast<std::size_t>(i)] = static_cast<float>((comm.rank() + 1) * i);
    comm.allreduce(values);
    const int ranks = comm.size();
    for (index_t i = 0; i < n; ++i)  // integers below 2^24: exact in any order
      findings.expect(values[static_cast<std::size_t>(i)] == static_cast<float>(ranks * (ranks + 1) / 2 * i),
                      "element ", i, " of ", n);
  }
  CHECK(test::gather_findings(comm, findings) == "");
}

TEST_CASE("two communicators of the same ranks do not mix their messages") {
  Communicator one = Mpi(), two = Mpi();
  test::Findings findings;
  const int next = (one.rank() + 1) % one.size(), previous = (one.rank() + one.size() - 1) % one.size();
  for (int round = 0; round < 50; ++round) {
    int from_one = -1, from_two = -1;
    const int for_one = one.rank() * 100 + round, for_two = -for_one;
    Pending first = one.start_exchange<int>(std::span(&for_one, 1), next, std::span(&from_one, 1), previous);
    Pending second = two.start_exchange<int>(std::span(&for_two, 1), next, std::span(&from_two, 1), previous);
    second.wait();
    first.wait();
    findings.expect(from_one == previous * 100 + round, "the first communicator received ", from_one);
    findings.expect(from_two == -(previous * 100 + round), "the second communicator received ", from_two);
  }
  CHECK(test::gather_findings(one, findings) == "");
}

TEST_CASE("a rank that comes late is waited for until the deadline, then the others are told") {
  Communicator comm = Mpi();
  test::Findings findings;
  if (comm.size() > 1 && comm.rank() != 0) {
    Communicator impatient = comm;
    impatient.set_timeout(0.05);
    float value = 0;
    Pending pending = impatient.start_exchange<float>({}, no_rank, std::span(&value, 1), 0);
    std::string text;
    try {
      pending.wait();
    } catch (const Error& error) {
      text = error.what();
    }
    findings.expect(text == concat("exchange of 0 bytes: rank ", comm.rank(), " of ", comm.size(),
                                   " (mpi) waited 0.05 s for the others; a rank is lost, stopped or in another "
                                   "collective"),
                    "found: ", text);
  }
  // What is left half done belongs to that communicator alone: another one finds all ranks well.
  CHECK(test::gather_findings(Mpi(), findings) == "");
}
