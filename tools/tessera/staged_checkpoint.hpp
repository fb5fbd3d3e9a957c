#pragma once
// A checkpoint's folder that is filled out of sight: its files appear when all of them are complete, or none does.

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include <tessera/io/atomic_file.hpp>

namespace tessera::tools {

/// Where the files of a checkpoint's folder are until all are complete.
[[nodiscard]] inline std::filesystem::path staged_folder(const std::filesystem::path& folder) {
  return folder / ".part";
}

/// Name of the file there that holds the task.
inline constexpr const char* staged_task = "task";

/// The task whose files are in a staged folder; nothing where there is none.
[[nodiscard]] inline std::optional<std::string> task_in(const std::filesystem::path& staged) {
  const std::filesystem::path file = staged / staged_task;
  std::error_code unused;
  if (!std::filesystem::exists(file, unused)) return std::nullopt;
  return read_text(file, index_t{1} << 20);
}

/// Files are written to path(), a hidden folder inside the checkpoint's, and moved by publish(). The destructor removes
/// what was not published, and folders that were made for it. What an earlier run left when it was killed is removed.
/// With a `task`, a text that says all that the files depend on, complete files stay for the next run of that task.
class StagedCheckpoint {
 public:
  /// Throws Error if the folder has a checkpoint and `replace` is false, cannot be made, or is being written by another
  /// process.
  StagedCheckpoint(std::filesystem::path folder, bool replace, const std::string& task = {})
      : folder_(std::move(folder)), path_(staged_folder(folder_)), resumes_(!task.empty()) {
    namespace fs = std::filesystem;
    std::error_code error;
    for (fs::path at = fs::absolute(folder_).lexically_normal(); !fs::exists(at, error) && at != at.parent_path();
         at = at.parent_path()) {
      if (at.has_filename()) made_.push_back(at);
    }
    fs::create_directories(path_, error);
    if (error) {
      remove_made();
      fail(folder_.string(), ": cannot make this folder: ", error.message());
    }
    lock_ = ::open(path_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (lock_ < 0) {
      const std::string reason = errno_text(errno);
      fs::remove(path_, error);
      remove_made();
      fail(folder_.string(), ": ", reason);
    }
    if (::flock(lock_, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {  // some file systems have no such locks
      ::close(lock_);
      fail(folder_.string(), ": another process is writing a checkpoint here");
    }
    try {
      take(replace, task);
    } catch (...) {  // a constructor that throws runs no destructor
      clean();
      throw;
    }
  }
  StagedCheckpoint(const StagedCheckpoint&) = delete;
  StagedCheckpoint& operator=(const StagedCheckpoint&) = delete;
  ~StagedCheckpoint() { clean(); }

  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

  /// Removes the checkpoint that was there before and moves the complete one to its place. config.json goes first and
  /// comes last: a folder without it is no checkpoint to any reader, should the machine stop in between.
  void publish() {
    namespace fs = std::filesystem;
    std::vector<fs::path> complete = complete_files();
    std::partition(complete.begin(), complete.end(), [](const fs::path& p) { return p.filename() != "config.json"; });
    try {
      fs::remove(folder_ / "config.json");
      for (const fs::path& file : checkpoint_files()) fs::remove(file);
      for (const fs::path& file : complete) fs::rename(file, folder_ / file.filename());
    } catch (const fs::filesystem_error& error) {
      fail(error.path1().string(), ": ", error.code().message());
    }
    made_.clear();
    resumes_ = false;
  }

 private:
  /// Leaves of an earlier run what belongs to the same task, and says which task this is.
  void take(bool replace, const std::string& task) {
    std::error_code unused;
    const bool same_task = resumes_ && task_in(path_) == task;
    for (const std::filesystem::path& left : entries(path_))
      if (!same_task || left.filename().string().find(".part-") != std::string::npos)
        std::filesystem::remove_all(left, unused);
    if (resumes_ && !same_task) write_text(path_ / staged_task, task);
    const std::vector<std::filesystem::path> earlier = checkpoint_files();
    if (earlier.empty() || replace) return;
    resumes_ = false;
    fail(folder_.string(), ": expected no checkpoint, found ", earlier.front().filename().string(),
         "; --force replaces it");
  }

  static std::vector<std::filesystem::path> entries(const std::filesystem::path& folder) {
    std::vector<std::filesystem::path> paths;
    std::error_code unused;
    for (const auto& entry : std::filesystem::directory_iterator(folder, unused)) paths.push_back(entry.path());
    std::sort(paths.begin(), paths.end());
    return paths;
  }

  [[nodiscard]] std::vector<std::filesystem::path> complete_files() const {
    std::vector<std::filesystem::path> files = entries(path_);
    std::erase_if(files, [](const std::filesystem::path& path) { return path.filename() == staged_task; });
    return files;
  }

  /// What a loader would take for weights or configuration. A tokenizer beside them is nobody's checkpoint.
  [[nodiscard]] std::vector<std::filesystem::path> checkpoint_files() const {
    std::vector<std::filesystem::path> files = entries(folder_);
    std::erase_if(files, [](const std::filesystem::path& path) {
      const std::string name = path.filename().string();
      return name != "config.json" && name != "generation_config.json" && name != "model.safetensors.index.json" &&
             !(name.starts_with("model") && name.ends_with(".safetensors"));
    });
    return files;
  }

  void remove_made() {
    std::error_code unused;
    for (const auto& folder : made_) std::filesystem::remove(folder, unused);  // only where it is empty
    made_.clear();
  }

  void clean() {
    std::error_code unused;
    const bool kept = resumes_ && !complete_files().empty();
    if (!kept) std::filesystem::remove_all(path_, unused);
    ::close(lock_);
    remove_made();
  }

  std::filesystem::path folder_;
  std::filesystem::path path_;
  std::vector<std::filesystem::path> made_;  // innermost first
  int lock_ = -1;
  bool resumes_;
};

}  // namespace tessera::tools
