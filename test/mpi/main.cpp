// The main of test programs that run under mpiexec: all ranks run the same cases in the same order with the same seed,
// rank 0 reports, and the job fails when any rank does.
#define CATCH_CONFIG_RUNNER
#include <cstdio>

#include "catch.hpp"

#include <tessera/comm/mpi_program.hpp>

int main(int argc, char** argv) {
  return tessera::MpiProgram::run(argc, argv, "test_mpi", [&](tessera::Communicator comm) {
    if (comm.rank() != 0 && std::freopen("/dev/null", "w", stdout) == nullptr) return 1;
    Catch::Session session;
    if (const int usage = session.applyCommandLine(argc, argv)) return usage;
    session.configData().runOrder = decltype(session.configData().runOrder){};  // as declared
    session.configData().rngSeed = 1;
    float failed = static_cast<float>(session.run());
    comm.allreduce(std::span(&failed, 1));
    return failed > 0 ? 1 : 0;
  });
}
