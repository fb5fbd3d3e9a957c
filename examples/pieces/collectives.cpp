// Collectives of unequal parts on a communicator that the program has already: sums in rank order, the same bits on
// every rank, errors instead of deadlocks after the deadline.
//   mpicxx.mpich -std=c++20 -O2 -Iinclude examples/pieces/collectives.cpp -o collectives && mpiexec.mpich -n 3
//   ./collectives
#include <cstdio>
#include <numeric>
#include <vector>

#include <tessera/mpi.hpp>
using namespace tessera;

void run(Communicator comm) {
  comm.set_timeout(60);
  const int rank = comm.rank();

  std::vector<float> sum = {1.0F, static_cast<float>(rank)};
  comm.allreduce(sum);

  // Rank r brings r + 1 numbers; counts are in elements and may be anything.
  std::vector<index_t> counts(static_cast<std::size_t>(comm.size()));
  std::iota(counts.begin(), counts.end(), 1);
  const std::vector<int> mine(static_cast<std::size_t>(rank) + 1, rank);
  std::vector<int> all(static_cast<std::size_t>(std::accumulate(counts.begin(), counts.end(), index_t{0})));
  Pending gathering = comm.start_allgather<int>(mine, all, counts);
  // ... work that does not touch `mine` and `all` ...
  gathering.wait();

  Communicator half = comm.split(rank % 2, rank);  // even ranks and odd ranks
  std::vector<float> of_half = {static_cast<float>(rank)};
  half.allreduce(of_half);

  if (rank != 0) return;
  std::printf("sum %g %g; gathered", static_cast<double>(sum[0]), static_cast<double>(sum[1]));
  for (const int value : all) std::printf(" %d", value);
  std::printf("; even ranks sum to %g\n", static_cast<double>(of_half[0]));
}

int main(int argc, char** argv) {
  MPI_Init(&argc, &argv);
  int status = 0;
  try {
    run(Mpi(MPI_COMM_WORLD));  // duplicated: messages never meet the program's own
  } catch (const Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    status = 1;
  }
  MPI_Finalize();
  return status;
}
