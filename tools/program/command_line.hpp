#pragma once
// A command line, parsed by every rank alike.

#include <cstdio>
#include <optional>

#include <tessera/comm/agree.hpp>

#include "program/cli.hpp"

namespace tessera::program {

/// Parses; returns the exit status when the program is done with that (--help), nothing when it goes on. A wrong
/// command line becomes one UsageError on all ranks.
inline std::optional<int> parse(Communicator comm, CLI::App& app, int argc, char** argv) {
  return agree(comm, [&]() -> std::optional<int> {
    try {
      app.parse(argc, argv);
      return std::nullopt;
    } catch (const CLI::Success& asked) {  // --help, --version
      if (comm.rank() == 0) app.exit(asked);
      return 0;
    } catch (const CLI::ParseError& error) {
      throw UsageError(concat(error.what(), "; --help shows the options"));
    }
  });
}

}  // namespace tessera::program
