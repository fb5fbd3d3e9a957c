#pragma once
// The frame of every program: with MPI where the build has it, else one rank. The build chooses, by
// TESSERA_PROGRAM_MPI.

#ifdef TESSERA_PROGRAM_MPI
#include <tessera/comm/mpi_program.hpp>
#else
#include <tessera/comm/loopback_program.hpp>
#endif

#include <tessera/io/bus_error.hpp>

#include "program/cpu_check.hpp"

namespace tessera::program {

#ifdef TESSERA_PROGRAM_MPI
using Frame = MpiProgram;
#else
using Frame = LoopbackProgram;
#endif

/// Runs body(communicator) in the frame, after a look at the processor: an illegal instruction explains nothing.
template <class Body>
int run(int argc, char** argv, const char* name, Body&& body) {
  require_compiled_instruction_set(name);
  install_bus_error_handler(name);  // a mapped file may shrink
  return Frame::run(argc, argv, name, std::forward<Body>(body));
}

}  // namespace tessera::program
