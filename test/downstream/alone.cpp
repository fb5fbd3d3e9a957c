// The smallest program: the headers by -I alone, no MPI, no build system.
#include <cstdio>
#include <vector>

#include <tessera/tessera.hpp>

int main() {
  tessera::Communicator comm = tessera::Loopback();
  std::vector<float> sum = {3};
  comm.allreduce(sum);
  std::printf("version %d, sum %g\n", TESSERA_VERSION, static_cast<double>(sum[0]));
}
