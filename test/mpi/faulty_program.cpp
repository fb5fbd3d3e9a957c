// A program that goes wrong in a chosen way on a chosen rank: faulty_program FAULT RANK. RANK -1: on every rank.
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include <tessera/comm/mpi_program.hpp>
#include "program/cpu_check.hpp"

using namespace tessera;

namespace {

/// What the others do meanwhile: work, with a collective in every step.
void work(Communicator& comm, int steps) {
  std::vector<float> values(10000, 1);
  for (int i = 0; i < steps; ++i) comm.allreduce(values);
}

int misbehave(Communicator comm, const std::string& fault, int culprit) {
  const bool mine = culprit == -1 || culprit == comm.rank();
  if (fault == "agreed")
    agree(comm, [&] { require(!mine, "no such file: model.safetensors"); });
  else if (fault == "usage")
    agree(comm, [&] {
      if (mine) throw UsageError("--threads: expected a number");
    });
  work(comm, 10);
  if (mine && fault == "throw") fail("tensor lost");
  if (mine && fault == "started") {
    std::vector<float> values(10000, 1);
    const Pending pending = comm.start_allreduce(values);
    fail("tensor lost");
  }
  if (mine && fault == "exit") std::exit(0);
  if (mine && fault == "kill") std::raise(SIGKILL);
  if (mine && fault == "terminate") std::terminate();
  if (mine && fault == "stop") {
    std::this_thread::sleep_for(std::chrono::seconds(20));
    return 0;
  }
  if (fault == "together") {  // each of the others would have its turn to speak at the same moment
    std::this_thread::sleep_for(std::chrono::milliseconds(400) * (mine ? 50 : comm.size() - comm.rank()));
    fail("tensor lost");
  }
  if (fault == "stop") comm.set_timeout(1);
  work(comm, 1000);
  if (mine && fault == "finalize") {  // what belongs to MPI_COMM_SELF is deleted first of all
    int key = 0;
    MPI_Comm_create_keyval(
        MPI_COMM_NULL_COPY_FN,
        [](MPI_Comm, int, void*, void*) {
          std::this_thread::sleep_for(std::chrono::seconds(100));
          return MPI_SUCCESS;
        },
        &key, nullptr);
    MPI_Comm_set_attr(MPI_COMM_SELF, key, nullptr);
  }
  comm.barrier();
  if (comm.rank() == 0) std::puts("all is well");
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string fault = argv[1];
  if (launched_rank() == std::atoi(argv[2])) {  // before MPI_Init
    if (fault == "early") return 0;
    if (fault == "processor") program::refuse_processor("faulty_program", "AVX-512");
  }
  return MpiProgram::run(argc, argv, "faulty_program",
                         [&](Communicator comm) { return misbehave(std::move(comm), argv[1], std::atoi(argv[2])); });
}
