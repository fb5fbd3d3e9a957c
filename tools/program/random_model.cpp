#include "program/random_model.hpp"

#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <string_view>
#include <vector>

#include <tessera/core/error.hpp>

extern char** environ;  // NOLINT(readability-redundant-declaration): POSIX leaves it to us

namespace tessera::program {

namespace {

/// This process's environment without what makes a process a rank of an MPI job.
std::vector<char*> environment_of_no_rank() {
  std::vector<char*> variables;
  for (char** variable = environ; *variable != nullptr; ++variable) {
    const std::string_view text = *variable;
    if (!text.starts_with("PMI") && !text.starts_with("OMPI_") && !text.starts_with("MPI") && !text.starts_with("HYD"))
      variables.push_back(*variable);
  }
  variables.push_back(nullptr);
  return variables;
}

/// Runs a program to its end, its output on standard error; returns whether it went well.
bool run_program(std::vector<std::string> words) {
  std::vector<char*> arguments;
  arguments.reserve(words.size() + 1);
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_adddup2(&actions, STDERR_FILENO, STDOUT_FILENO);
  pid_t child = 0;
  const int error =
      ::posix_spawn(&child, arguments[0], &actions, nullptr, arguments.data(), environment_of_no_rank().data());
  ::posix_spawn_file_actions_destroy(&actions);
  if (error != 0) return false;
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) continue;
  return status == 0;
}

}  // namespace

std::string program_folder() { return std::filesystem::read_symlink("/proc/self/exe").parent_path().string(); }

RandomModel::RandomModel(const std::string& preset, index_t layers) {
  std::string name = (std::filesystem::temp_directory_path() / "tessera-random-XXXXXX").string();
  require(::mkdtemp(name.data()) != nullptr, name, ": cannot make a folder; set TMPDIR to where one can be made");
  folder_ = name;
  std::vector<std::string> words = {program_folder() + "/tessera", "make-model", "--preset", preset, "--out", folder_};
  if (layers > 0) words.insert(words.end(), {"--layers", std::to_string(layers)});
  if (run_program(words)) return;
  std::filesystem::remove_all(folder_);
  fail(words[0], " make-model --preset ", preset, " failed: choose another preset, or give --model DIR");
}

RandomModel::~RandomModel() {
  std::error_code ignored;
  std::filesystem::remove_all(folder_, ignored);
}

}  // namespace tessera::program
