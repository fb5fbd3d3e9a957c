#pragma once
// A program that another one starts, speaks with line by line, and ends.

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include <tessera/core/error.hpp>

namespace tessera::tools {

/// A job in a process group of its own, so that the terminal's Ctrl-C does not reach it. Its standard input and output
/// are pipes to us, its standard error is ours.
class Job {
 public:
  /// Throws Error when the program cannot be started. The caller ignores SIGPIPE.
  explicit Job(const std::vector<std::string>& command) {
    std::array<int, 2> in{}, out{};
    require(::pipe2(in.data(), O_CLOEXEC) == 0, "pipe: ", std::strerror(errno));
    require(::pipe2(out.data(), O_CLOEXEC) == 0, "pipe: ", std::strerror(errno));
    to_ = in[1], from_ = out[0];
    posix_spawn_file_actions_t files;
    ::posix_spawn_file_actions_init(&files);
    ::posix_spawn_file_actions_adddup2(&files, in[0], STDIN_FILENO);
    ::posix_spawn_file_actions_adddup2(&files, out[1], STDOUT_FILENO);
    const int error_output = error_output_of_its_own();
    if (error_output >= 0) ::posix_spawn_file_actions_adddup2(&files, error_output, STDERR_FILENO);
    posix_spawnattr_t attributes;
    ::posix_spawnattr_init(&attributes);
    ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGDEF);
    sigset_t all;
    ::sigfillset(&all);
    ::posix_spawnattr_setsigdefault(&attributes, &all);
    std::vector<char*> arguments;
    arguments.reserve(command.size() + 1);
    for (const std::string& argument : command) arguments.push_back(const_cast<char*>(argument.c_str()));
    arguments.push_back(nullptr);
    const int error = ::posix_spawnp(&process_, arguments[0], &files, &attributes, arguments.data(), environ);
    ::posix_spawnattr_destroy(&attributes);
    ::posix_spawn_file_actions_destroy(&files);
    ::close(in[0]), ::close(out[1]);
    if (error_output >= 0) ::close(error_output);
    if (error == 0) return;
    ::close(to_), ::close(from_);
    fail("cannot start ", command[0], ": ", std::strerror(error), "; --mpiexec names what starts the ranks");
  }
  Job(const Job&) = delete;
  Job& operator=(const Job&) = delete;
  ~Job() {
    finish();
    ::close(from_);
  }

  /// Sends a line; when the job has ended it is lost, and receive() says so.
  void send(std::string line) {
    line += '\n';
    for (std::size_t sent = 0; sent < line.size();) {
      const ssize_t n = ::write(to_, line.data() + sent, line.size() - sent);
      if (n < 0 && errno != EINTR) return;
      if (n > 0) sent += static_cast<std::size_t>(n);
    }
  }

  /// The next line, if one comes within the time; a signal may end the wait early.
  std::optional<std::string> receive(std::chrono::milliseconds patience) {
    for (;;) {
      if (const std::size_t end = held_.find('\n'); end != std::string::npos) {
        std::string line = held_.substr(0, end);
        held_.erase(0, end + 1);
        return line;
      }
      if (!fetch(patience)) return std::nullopt;
    }
  }

  /// Whether the job has closed its output, as far as receive() and ends_unasked() have looked.
  [[nodiscard]] bool ended() const { return ended_; }

  /// Whether the job has closed its output while nobody waited for it; what it said before is kept for receive().
  [[nodiscard]] bool ends_unasked() {
    while (fetch(std::chrono::milliseconds(0))) {
    }
    return ended_;
  }

  /// Closes the job's input and waits for its end: patiently at first, by signals to the whole group later. Returns its
  /// exit status, 128 + the signal that ended it.
  int finish(std::chrono::seconds patience = std::chrono::seconds(15)) {  // MPI_Finalize may take 10 (mpi_program.hpp)
    if (process_ <= 0) return status_;
    ::close(to_);
    if (!gone_within(patience)) ::kill(-process_, SIGTERM);
    if (!gone_within(std::chrono::seconds(2))) ::kill(-process_, SIGKILL);
    while (process_ > 0) gone_within(std::chrono::seconds(1));
    return status_;
  }

  /// The same at once, for a job that is in the middle of something.
  int terminate() {
    if (process_ > 0) ::kill(-process_, SIGTERM);
    return finish(std::chrono::seconds(5));
  }

 private:
  /// mpiexec makes its standard error non-blocking, and with a shared description ours would be, too: opened anew. Not
  /// a file, where that changes nothing, and who has a position of his own writes over what others wrote.
  static int error_output_of_its_own() {
    struct stat about {};
    if (::fstat(STDERR_FILENO, &about) != 0 || S_ISREG(about.st_mode)) return -1;
    return ::open("/proc/self/fd/2", O_WRONLY | O_APPEND | O_NOCTTY | O_CLOEXEC);
  }

  /// Takes what the job says within the time; false where that is nothing.
  bool fetch(std::chrono::milliseconds patience) {
    pollfd output{from_, POLLIN, 0};
    if (ended_ || ::poll(&output, 1, static_cast<int>(patience.count())) <= 0) return false;
    char bytes[65536];
    const ssize_t n = ::read(from_, bytes, sizeof bytes);
    ended_ = n == 0;
    if (n > 0) held_.append(bytes, static_cast<std::size_t>(n));
    return !ended_;
  }

  bool gone_within(std::chrono::milliseconds patience) {
    using Clock = std::chrono::steady_clock;
    for (const auto end = Clock::now() + patience; process_ > 0;) {
      int status = 0;
      if (::waitpid(process_, &status, WNOHANG) == process_) {
        status_ = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
        process_ = 0;
      } else if (Clock::now() >= end) {
        return false;
      } else {
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
      }
    }
    return true;
  }

  pid_t process_ = 0;
  int to_ = -1;
  int from_ = -1;
  int status_ = 0;
  std::string held_;
  bool ended_ = false;
};

}  // namespace tessera::tools
