#pragma once
// What the launcher's environment says about the job, to tell a wrong launcher from a job of one rank.

#include <algorithm>
#include <cstdlib>
#include <string>

#include <tessera/core/error.hpp>

namespace tessera {

/// Ranks that the launcher (mpiexec of MPICH or Open MPI, or one that speaks PMI) has started; 1 without one.
[[nodiscard]] inline int launched_ranks() {
  int ranks = 1;
  for (const char* name : {"PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MPI_LOCALNRANKS"})
    if (const char* value = std::getenv(name)) ranks = std::max(ranks, std::atoi(value));
  return ranks;
}

/// This process's place in the launcher's job, whatever its MPI says; 0 without a launcher.
[[nodiscard]] inline int launched_rank() {
  for (const char* name : {"PMI_RANK", "OMPI_COMM_WORLD_RANK", "MPI_LOCALRANKID"})
    if (const char* value = std::getenv(name)) return std::atoi(value);
  return 0;
}

/// Throws Error when the launcher started several ranks and `mpi` found one only: each would run the whole job alone.
/// `mpi` names what the program was built with.
inline void require_matching_launcher(int found_ranks, std::string_view mpi) {
  const int ranks = launched_ranks();
  require(found_ranks > 1 || ranks == 1, "the launcher started ", ranks, " ranks, but this program, built with ", mpi,
          ", sees one: start it with the mpiexec of that MPI (mpiexec.mpich or mpiexec.openmpi)");
}

}  // namespace tessera
