// tessera completion: a script for bash that completes subcommands, options and their values, made from the program's
// own options, so that it cannot be out of date.
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>

#include "commands.hpp"

namespace tessera::tools {

namespace {

/// What compgen is to offer for an option's value; empty: nothing.
std::string values_of(const CLI::Option& option) {
  const std::string type = option.get_type_name();
  if (type.starts_with("DIR")) return "-d";
  if (type.starts_with("FILE")) return "-f";
  const std::size_t begin = type.find('{'), end = type.find('}');
  if (begin == std::string::npos || end == std::string::npos) return {};
  std::string words = type.substr(begin + 1, end - begin - 1);
  for (char& c : words)
    if (c == ',') c = ' ';
  return fmt::format("-W '{}'", words);
}

bool takes_value(const CLI::Option& option) { return option.get_items_expected_max() > 0; }

std::string words_of(const std::vector<std::string>& words) { return fmt::format("{}", fmt::join(words, " ")); }

std::string script(const CLI::App& app) {
  std::vector<std::string> commands;
  std::string values, options;
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; })) {
    if (command->get_group().empty()) continue;
    commands.push_back(command->get_name());
    std::vector<std::string> names;
    for (const CLI::Option* option : command->get_options()) {
      for (const std::string& name : option->get_lnames()) {
        names.push_back("--" + name);
        if (!takes_value(*option)) continue;
        const std::string offered = values_of(*option);
        values += fmt::format("    {},--{}) {}return ;;\n", command->get_name(), name,
                              offered.empty() ? "" : fmt::format("offer {}; ", offered));
      }
    }
    options += fmt::format("    {}) offer -W '{}' ;;\n", command->get_name(), words_of(names));
  }
  return fmt::format(R"(# bash completion of tessera, made by `tessera completion`
_tessera() {{
  local word=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD - 1]}} command=${{COMP_WORDS[1]}}
  COMPREPLY=()
  offer() {{ mapfile -t COMPREPLY < <(compgen "$@" -- "$word"); }}
  if ((COMP_CWORD == 1)); then
    offer -W '{} --help --version'
    return
  fi
  case $command,$before in
{}  esac
  if [[ $word != -* ]]; then
    offer -f
    return
  fi
  case $command in
{}  esac
}}
complete -o filenames -F _tessera tessera
)",
                     words_of(commands), values, options);
}

}  // namespace

void add_completion(CLI::App& app) {
  CLI::App* command = app.add_subcommand("completion", "Print a script that completes tessera's options in bash");
  command->footer("An installed tessera has it already. Else:\n\n  source <(tessera completion)");
  command->callback([&app] { fmt::print("{}", script(app)); });
}

}  // namespace tessera::tools
