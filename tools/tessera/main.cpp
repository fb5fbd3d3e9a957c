// The program `tessera`: one subcommand for each thing that people do with models.
#include <algorithm>
#include <array>
#include <string_view>

#include <tessera/comm/launcher.hpp>
#include <tessera/comm/loopback_program.hpp>
#include <tessera/core/version.hpp>

#include "commands.hpp"
#include "program/command_line.hpp"
#include "program/frame.hpp"

using namespace tessera;

namespace {

/// Subcommands that are one process: under mpiexec every rank would do the same work again.
constexpr std::array<std::string_view, 6> of_one_process = {"bench",      "chat", "completion",
                                                            "make-model", "plan", "tokenize"};

void require_one_process(const Communicator& comm, int argc, char** argv) {
  if (argc < 2 || comm.size() == 1) return;
  for (const std::string_view name : of_one_process)
    if (name == argv[1]) throw UsageError(concat("tessera ", name, " is one process: start it without mpiexec"));
}

/// What starts ranks of its own, or runs while the program is built, has no business with MPI.
bool without_mpi(int argc, char** argv) {
  if (argc < 2 || launched_ranks() > 1) return false;
  const std::string_view name = argv[1];
  return name == "bench" || name == "chat" || name == "completion" || name == "plan";
}

int run_command(const Communicator& comm, int argc, char** argv) {
  CLI::App app("tessera: transformer inference on the CPUs of one or several machines");
  app.set_version_flag("--version",
                       concat(TESSERA_VERSION_MAJOR, '.', TESSERA_VERSION_MINOR, '.', TESSERA_VERSION_PATCH));
  app.require_subcommand(1);
  tools::Action action;
  tools::add_bench(app, action);
  tools::add_chat(app, action, {argv + std::min(argc, 2), argv + argc});
  tools::add_chat_ranks(app, action);
  tools::add_completion(app);
  tools::add_generate(app, action);
  tools::add_info(app, action);
  tools::add_make_model(app);
  tools::add_perplexity(app, action);
  tools::add_plan(app);
  tools::add_quantize(app, action);
  tools::add_tokenize(app);
  tools::add_verify(app, action);
  app.footer("tessera SUBCOMMAND --help shows its options and examples.");
  agree(comm, [&] { require_one_process(comm, argc, argv); });
  if (const auto status = program::parse(comm, app, argc, argv)) return *status;
  return action ? action(comm) : 0;
}

}  // namespace

int main(int argc, char** argv) {
  const auto body = [&](const Communicator& comm) { return run_command(comm, argc, argv); };
  if (without_mpi(argc, argv)) return LoopbackProgram::run(argc, argv, "tessera", body);
  return program::run(argc, argv, "tessera", body);
}
