#pragma once
// The subcommands of the program `tessera`. Each is one source file with one function, which adds the subcommand and
// its options to the program. What fails in one is a tessera::Error.

#include <functional>
#include <string>
#include <vector>

#include <tessera/comm/communicator.hpp>

#include "program/cli.hpp"

namespace tessera::tools {

/// Subcommands of one process: they run as the callback of the parse.
void add_completion(CLI::App& app);
void add_make_model(CLI::App& app);
void add_plan(CLI::App& app);
void add_tokenize(CLI::App& app);

/// Work on all ranks (of one process: on the only one), which starts when the command line is parsed; returns the exit
/// status.
using Action = std::function<int(Communicator)>;

/// Subcommands that run on any number of ranks: the callback of the parse sets the action.
void add_chat_ranks(CLI::App& app, Action& action);
void add_generate(CLI::App& app, Action& action);
void add_info(CLI::App& app, Action& action);
void add_perplexity(CLI::App& app, Action& action);
void add_quantize(CLI::App& app, Action& action);
void add_verify(CLI::App& app, Action& action);

/// Starts ranks of its own, one job after the other.
void add_bench(CLI::App& app, Action& action);

/// Starts ranks of its own, with the `arguments` that it was given itself.
void add_chat(CLI::App& app, Action& action, std::vector<std::string> arguments);

}  // namespace tessera::tools
