// The frame of program/frame.hpp on ranks that SMPI simulates: the examples' text is that of real runs.
#include "program/frame.hpp"

#include <cstdlib>
#include <sstream>

#include <fmt/format.h>

#include <tessera/comm/agree.hpp>
#include <tessera/core/trace.hpp>

#include "simulated/machine_file.hpp"
#include "simulated/smpi_transport.hpp"

namespace tessera::program {

namespace {

/// The machine of rank `rank`: of the files in TESSERA_SIMULATED_MACHINES, which the ranks have in turn.
MachineModel machine_of(int rank) {
  const char* const names = std::getenv("TESSERA_SIMULATED_MACHINES");
  require(names != nullptr,
          "TESSERA_SIMULATED_MACHINES: expected files of machines, found nothing: tools/simulate sets it");
  std::vector<std::string> files;
  std::istringstream list(names);
  for (std::string file; std::getline(list, file, ',');) files.push_back(file);
  return simulated::read_machine(files.at(static_cast<std::size_t>(rank) % files.size()));
}

}  // namespace

// No rank calls MPI while it handles an exception, for all of them share one stack of those.
int run(int argc, char** argv, const char* name, const std::function<int(Communicator)>& body) {
  MPI_Init(&argc, &argv);
  CostBackend::account = &simulated::account_of_actor;
  trace_clock_source = &simulated::simulated_nanoseconds;
  int rank = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  detail::Fault fault{};
  int status = 0;
  try {
    simulated::account_of_actor().machine = machine_of(rank);
    status = body(simulated::SmpiTransport(MPI_COMM_WORLD, simulated::Delivery::everything));
  } catch (...) {
    fault = detail::current_fault();
    status = fault.status;
  }
  if (!fault.text.empty() && rank == 0) fmt::print(stderr, "{}: error: {}\n", name, fault.text);
  std::fflush(stdout);
  MPI_Finalize();
  return status;
}

}  // namespace tessera::program
