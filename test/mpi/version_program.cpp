// A program that parses its command line and ends, of this version of the library or (TESSERA_OTHER_VERSION) of
// another.
#include <tessera/core/version.hpp>
#ifdef TESSERA_OTHER_VERSION
#undef TESSERA_VERSION_PATCH
#define TESSERA_VERSION_PATCH 99
#endif

#include <tessera/comm/mpi_program.hpp>
#include "program/command_line.hpp"

using namespace tessera;

int main(int argc, char** argv) {
  return MpiProgram::run(argc, argv, "version_program", [&](Communicator comm) {
    CLI::App app;
    return program::parse(comm, app, argc, argv).value_or(0);
  });
}
