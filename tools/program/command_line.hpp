#pragma once
// A command line, parsed by every rank alike.

#include <algorithm>
#include <array>
#include <cstdio>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <tessera/comm/same_everywhere.hpp>
#include <tessera/core/version.hpp>

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

/// What a machine may have another of than its neighbour: where files lie, how many cores, what is told.
constexpr std::array<std::string_view, 7> of_a_machine = {"--model",         "--threads", "--binding",    "--quiet",
                                                          "--ignore-memory", "--trace",   "--dump-logits"};

/// The version, and every option that was given, by name.
inline void add_options(const CLI::App& app, std::vector<Fact>& facts) {
  for (const CLI::Option* option : app.get_options()) {
    const std::string name = option->get_name();
    if (option->count() == 0 || std::find(of_a_machine.begin(), of_a_machine.end(), name) != of_a_machine.end())
      continue;
    std::string value;
    for (const std::string& each : option->results()) value += (value.empty() ? "" : " ") + each;
    facts.push_back({name, value});
  }
  for (const CLI::App* each : app.get_subcommands()) {
    facts.push_back({"subcommand", each->get_name()});
    add_options(*each, facts);
  }
}

}  // namespace detail

/// Parses; returns the exit status when the program is done with that (--help), nothing when it goes on. A wrong
/// command line becomes one UsageError on all ranks, and command lines or versions that differ between them an Error.
inline std::optional<int> parse(Communicator comm, CLI::App& app, int argc, char** argv) {
  const std::optional<int> status = agree(comm, [&]() -> std::optional<int> {
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
  std::vector<Fact> facts = {
      {"version", concat(TESSERA_VERSION_MAJOR, '.', TESSERA_VERSION_MINOR, '.', TESSERA_VERSION_PATCH)}};
  detail::add_options(app, facts);
  require_same_everywhere(comm, "command lines", facts);
  return status;
}

}  // namespace tessera::program
