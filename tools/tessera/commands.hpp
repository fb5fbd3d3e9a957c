#pragma once
// The subcommands of the program `tessera`. Each is one source file with one function, which adds the subcommand and
// its options to the program; it runs as the callback of the parse, and what fails there is a tessera::Error.

#include <CLI/CLI.hpp>

namespace tessera::tools {

void add_make_model(CLI::App& app);
void add_tokenize(CLI::App& app);

}  // namespace tessera::tools
