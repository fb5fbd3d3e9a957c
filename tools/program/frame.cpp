#include "program/frame.hpp"

#include <optional>

#ifdef TESSERA_PROGRAM_MPI
#include <tessera/comm/mpi_program.hpp>
#else
#include <tessera/comm/loopback_program.hpp>
#endif
#include <tessera/comm/shared_word.hpp>
#include <tessera/io/bus_error.hpp>

#include "program/cpu_check.hpp"

namespace tessera::program {

#ifdef TESSERA_PROGRAM_MPI
using Frame = MpiProgram;
#else
using Frame = LoopbackProgram;
#endif

int run(int argc, char** argv, const char* name, const std::function<int(Communicator)>& body) {
  require_compiled_instruction_set(name);
  install_bus_error_handler(concat(name, ": error"));  // a mapped file may shrink
  return Frame::run(argc, argv, name, [&](Communicator comm) {
    if (comm.size() > 1) {
      static std::optional<SharedWord> word;  // as long as the process: a handler may want it until then
      word = SharedWord::among(comm);
      install_bus_error_handler(
          concat(name, ": error: rank ", comm.rank(), " of ", comm.size(), " on ", tessera::detail::host_name()),
          word->value());
    }
    return body(std::move(comm));
  });
}

}  // namespace tessera::program
