#include "program/random_model.hpp"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <filesystem>
#include <string_view>
#include <utility>
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

/// Starts a program with the attributes and files that are asked for; its id, or 0 where it cannot be started.
pid_t start_program(std::vector<std::string> words, const posix_spawnattr_t& attributes,
                    const posix_spawn_file_actions_t& files) {
  std::vector<char*> arguments;
  arguments.reserve(words.size() + 1);
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  pid_t child = 0;
  const int error =
      ::posix_spawn(&child, arguments[0], &files, &attributes, arguments.data(), environment_of_no_rank().data());
  return error == 0 ? child : 0;
}

/// Waits for the end of a program; returns whether it went well.
bool ends_well(pid_t program) {
  int status = 0;
  while (::waitpid(program, &status, 0) < 0 && errno == EINTR) continue;
  return status == 0;
}

/// Runs a program to its end, its output on standard error; returns whether it went well.
bool run_program(std::vector<std::string> words) {
  posix_spawnattr_t attributes;
  ::posix_spawnattr_init(&attributes);
  posix_spawn_file_actions_t files;
  ::posix_spawn_file_actions_init(&files);
  ::posix_spawn_file_actions_adddup2(&files, STDERR_FILENO, STDOUT_FILENO);
  const pid_t program = start_program(std::move(words), attributes, files);
  ::posix_spawn_file_actions_destroy(&files);
  ::posix_spawnattr_destroy(&attributes);
  return program > 0 && ends_well(program);
}

/// Starts the shell that removes `folder` when nobody has the other side of `pipe` any more; its id, or 0.
pid_t start_remover(const std::string& folder, int pipe) {
  posix_spawnattr_t attributes;
  ::posix_spawnattr_init(&attributes);
  ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID);  // so that no signal to our group or terminal reaches it
  posix_spawn_file_actions_t files;
  ::posix_spawn_file_actions_init(&files);
  ::posix_spawn_file_actions_adddup2(&files, pipe, STDIN_FILENO);
  // Whoever reads what we print must not wait for the shell to end.
  for (const int output : {STDOUT_FILENO, STDERR_FILENO})
    ::posix_spawn_file_actions_addopen(&files, output, "/dev/null", O_WRONLY, 0);
  const pid_t shell = start_program({"/bin/sh", "-c", "read end; rm -rf -- \"$0\"", folder}, attributes, files);
  ::posix_spawn_file_actions_destroy(&files);
  ::posix_spawnattr_destroy(&attributes);
  return shell;
}

}  // namespace

std::string program_folder() { return std::filesystem::read_symlink("/proc/self/exe").parent_path().string(); }

FolderOfProcess::FolderOfProcess() {
  path_ = (std::filesystem::temp_directory_path() / "tessera-random-XXXXXX").string();
  require(::mkdtemp(path_.data()) != nullptr, path_, ": cannot make a folder; set TMPDIR to where one can be made");
  std::array<int, 2> pipe{-1, -1};
  if (::pipe2(pipe.data(), O_CLOEXEC) == 0) shell_ = start_remover(path_, pipe[0]);
  ::close(pipe[0]);
  pipe_ = pipe[1];
  if (shell_ > 0) return;
  ::close(pipe_);
  ::rmdir(path_.c_str());
  fail(path_, ": expected a shell, /bin/sh, that removes this folder at the end, found none that starts");
}

FolderOfProcess::~FolderOfProcess() {
  ::close(pipe_);
  static_cast<void>(ends_well(shell_));
}

RandomModel::RandomModel(const std::string& preset, index_t layers) {
  std::vector<std::string> words = {program_folder() + "/tessera", "make-model", "--preset", preset, "--out", folder()};
  if (layers > 0) words.insert(words.end(), {"--layers", std::to_string(layers)});
  if (!run_program(words))
    fail(words[0], " make-model --preset ", preset, " failed: choose another preset, or give --model DIR");
}

}  // namespace tessera::program
