// The program `tessera`: one subcommand for each thing that people do with models.
#include <array>
#include <string_view>

#include <tessera/core/version.hpp>

#include "commands.hpp"
#include "program/command_line.hpp"
#include "program/frame.hpp"

using namespace tessera;

namespace {

/// Subcommands that are one process: under mpiexec every rank would do the same work again.
constexpr std::array<std::string_view, 2> of_one_process = {"make-model", "tokenize"};

void require_one_process(const Communicator& comm, int argc, char** argv) {
  if (argc < 2 || comm.size() == 1) return;
  for (const std::string_view name : of_one_process)
    if (name == argv[1]) throw UsageError(concat("tessera ", name, " is one process: start it without mpiexec"));
}

}  // namespace

int main(int argc, char** argv) {
  return program::run(argc, argv, "tessera", [&](Communicator comm) {
    CLI::App app("tessera: transformer inference on the CPUs of one or several machines");
    app.set_version_flag("--version",
                         concat(TESSERA_VERSION_MAJOR, '.', TESSERA_VERSION_MINOR, '.', TESSERA_VERSION_PATCH));
    app.require_subcommand(1);
    tools::Action action;
    tools::add_make_model(app);
    tools::add_tokenize(app);
    tools::add_verify(app, action);
    app.footer("tessera SUBCOMMAND --help shows its options and examples.");
    agree(comm, [&] { require_one_process(comm, argc, argv); });
    if (const auto status = program::parse(comm, app, argc, argv)) return *status;
    return action ? action(comm) : 0;
  });
}
