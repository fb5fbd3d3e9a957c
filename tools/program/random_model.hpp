#pragma once
// A checkpoint of random weights that is there as long as a program runs.

#include <sys/types.h>

#include <string>

#include <tessera/core/types.hpp>

namespace tessera::program {

/// A temporary folder (TMPDIR) that is gone with this process, also where a signal ends it, SIGKILL included: a shell
/// in a session of its own waits for the end of a pipe, of which this process alone has the other side, and removes it.
class FolderOfProcess {
 public:
  /// Throws Error where the folder cannot be made, or the shell not be started.
  FolderOfProcess();
  FolderOfProcess(const FolderOfProcess&) = delete;
  FolderOfProcess& operator=(const FolderOfProcess&) = delete;
  /// Removes the folder: when this returns it is gone.
  ~FolderOfProcess();

  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_;
  int pipe_ = -1;
  pid_t shell_ = 0;
};

/// Made by `tessera make-model`, the program beside this one, in such a folder.
class RandomModel {
 public:
  /// `layers` of 0 are as many as published. Throws Error where the program or the disk fails.
  RandomModel(const std::string& preset, index_t layers);

  [[nodiscard]] const std::string& folder() const { return folder_.path(); }

 private:
  FolderOfProcess folder_;
};

/// The folder in which this program lies, and its siblings.
[[nodiscard]] std::string program_folder();

}  // namespace tessera::program
