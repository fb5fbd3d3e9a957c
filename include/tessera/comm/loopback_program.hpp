#pragma once
// The frame of a program that runs without MPI: one rank, errors as one sentence and an exit status.

#include <unistd.h>

#include <cstdio>
#include <string>
#include <string_view>

#include <tessera/comm/agree.hpp>
#include <tessera/comm/launcher.hpp>
#include <tessera/comm/loopback.hpp>

namespace tessera {
namespace detail {

/// `PROGRAM: error: TEXT` on standard error, in one piece, after all earlier output.
inline void print_error(std::string_view program, std::string_view text) {
  std::fflush(stdout);
  const std::string line = concat(program, ": error: ", text, "\n");
  std::fwrite(line.data(), 1, line.size(), stderr);
  std::fflush(stderr);
}

/// Throws Error if something that was printed did not arrive. A stream remembers that a write has failed, whenever it
/// was.
inline void require_all_printed() {
  require(std::fflush(stdout) == 0 && std::ferror(stdout) == 0,
          "standard output: expected to write all of it, but it is closed, or its disk is full");
}

}  // namespace detail

/// A program of one rank. MpiProgram (mpi_program.hpp) is its counterpart with MPI; both have the same interface, and
/// a program is built with one or the other.
class LoopbackProgram {
 public:
  /// Returns what `body(communicator)` returns; for an exception prints `NAME: error: TEXT` and returns 1, or 2 for
  /// UsageError. Output that was lost is an error.
  template <class Body>
  static int run(int& /*argc*/, char**& /*argv*/, std::string_view name, Body&& body) {
    try {
      require_matching_launcher(1, "no MPI");
      const int status = body(Communicator(Loopback{}));
      detail::require_all_printed();
      return status;
    } catch (...) {
      const detail::Fault fault = detail::current_fault();
      if (launched_rank() == 0) detail::print_error(name, fault.text);
      return fault.status;
    }
  }
};

}  // namespace tessera
