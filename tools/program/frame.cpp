#include "program/frame.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <optional>

#ifdef TESSERA_PROGRAM_MPI
#include <tessera/comm/mpi_program.hpp>
#else
#include <tessera/comm/loopback_program.hpp>
#endif
#include <tessera/comm/agree.hpp>
#include <tessera/comm/shared_word.hpp>
#include <tessera/io/bus_error.hpp>

#include "program/cpu_check.hpp"

namespace tessera::program {

#ifdef TESSERA_PROGRAM_MPI
using Frame = MpiProgram;
#else
using Frame = LoopbackProgram;
#endif

namespace {

/// A file that is opened must not become the standard output of a program that was started without one: what is printed
/// would go into it. In the place of what is closed come streams that refuse reading and writing.
void hold_standard_streams() {
  for (const int stream : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO})
    if (::fcntl(stream, F_GETFD) < 0)
      static_cast<void>(::open("/dev/null", stream == STDIN_FILENO ? O_WRONLY : O_RDONLY));
}

}  // namespace

int run(int argc, char** argv, const char* name, const std::function<int(Communicator)>& body) {
  hold_standard_streams();
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
    const int status = body(comm);
    agree(
        comm, [] {}, Patience::of_communicator);  // a rank that hangs behind the last operation is noticed, too
    return status;
  });
}

}  // namespace tessera::program
