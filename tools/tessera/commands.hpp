#pragma once
// The subcommands of the program `tessera`. Each is one source file with one function, which adds the subcommand and
// its options to the program. What fails in one is a tessera::Error.

#include <functional>

#include <CLI/CLI.hpp>

#include <tessera/comm/communicator.hpp>

namespace tessera::tools {

/// Subcommands of one process: they run as the callback of the parse.
void add_make_model(CLI::App& app);
void add_tokenize(CLI::App& app);

/// Work on all ranks, which starts when the command line is parsed; returns the exit status.
using Action = std::function<int(Communicator)>;

/// Subcommands that run on any number of ranks: the callback of the parse sets the action.
void add_verify(CLI::App& app, Action& action);

}  // namespace tessera::tools
