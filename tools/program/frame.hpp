#pragma once
// The frame of every program: with MPI where the build has it, else one rank. The build chooses, by
// TESSERA_PROGRAM_MPI.

#include <functional>

#include <tessera/comm/communicator.hpp>

namespace tessera::program {

/// Runs body(communicator) in the frame, after a look at the processor: an illegal instruction explains nothing.
int run(int argc, char** argv, const char* name, const std::function<int(Communicator)>& body);

}  // namespace tessera::program
