#pragma once
// A command line, parsed by every rank alike.

#include <cstdio>
#include <optional>
#include <string>
#include <vector>

#include <tessera/comm/agree.hpp>

#include "program/cli.hpp"

namespace tessera::program {

namespace detail {

/// A misspelt word comes before what is missing, which often is only missing because of it.
inline std::string what_is_wrong(const CLI::App& app, const CLI::ParseError& error) {
  const std::vector<std::string> unknown = app.remaining(true);
  if (app.get_require_subcommand_min() > 0 && app.get_subcommands().empty()) {
    std::string names;
    for (const CLI::App* each : app.get_subcommands([](const CLI::App* all) { return !all->get_group().empty(); }))
      names += (names.empty() ? "" : ", ") + each->get_name();
    return concat("expected a subcommand (", names, "), found ", unknown.empty() ? "none" : unknown.front());
  }
  for (const std::string& word : unknown)
    if (word.starts_with('-')) return concat("there is no option ", word);
  return error.what();
}

}  // namespace detail

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
      throw UsageError(concat(detail::what_is_wrong(app, error), "; --help shows the options"));
    }
  });
}

}  // namespace tessera::program
