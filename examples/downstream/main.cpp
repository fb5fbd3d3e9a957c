// A project that uses tessera from outside. Run: mpiexec -n 2 build/hello
#include <cstdio>
#include <exception>
#include <vector>

#include <mpi.h>

#include <tessera/mpi.hpp>

int main(int argc, char** argv) {
  MPI_Init(&argc, &argv);  // the program's own affair: the library takes a communicator and leaves MPI's life alone
  int status = 0;
  try {
    tessera::Communicator comm = tessera::Mpi(MPI_COMM_WORLD);
    std::vector<float> sum(4, static_cast<float>(comm.rank() + 1));
    comm.allreduce(sum);
    if (comm.rank() == 0) std::printf("%d ranks, sum of their numbers %g\n", comm.size(), static_cast<double>(sum[0]));
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    status = 1;
  }
  MPI_Finalize();
  return status;
}
