#pragma once
// A regular file, open for reading: its size, its bytes by position, and whether it is still the file that was opened.

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <string>
#include <system_error>
#include <utility>

#include <tessera/core/types.hpp>

namespace tessera {

/// The operating system's words for `number`, an errno.
[[nodiscard]] inline std::string errno_text(int number) { return std::generic_category().message(number); }

/// An open regular file (symbolic links are followed) and what it was when it was opened. Moves, no copy.
class OpenFile {
 public:
  /// Throws Error with the path and the system's reason if the file cannot be opened or is not a regular one.
  explicit OpenFile(const std::filesystem::path& path) : path_(path.string()) {
    // O_NONBLOCK: opening a pipe that nobody writes to must end in the refusal below and not in a wait.
    descriptor_ = ::open(path_.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    require(descriptor_ >= 0, path_, ": ", errno_text(errno));
    if (::fstat(descriptor_, &status_) != 0) refuse(errno_text(errno));
    if (S_ISDIR(status_.st_mode)) refuse("expected a file, found a directory");
    if (!S_ISREG(status_.st_mode)) refuse("expected a regular file, found a device, pipe or socket");
  }
  OpenFile(OpenFile&& other) noexcept
      : path_(std::move(other.path_)), descriptor_(std::exchange(other.descriptor_, -1)), status_(other.status_) {}
  OpenFile& operator=(OpenFile&& other) noexcept {
    std::swap(path_, other.path_);
    std::swap(descriptor_, other.descriptor_);
    std::swap(status_, other.status_);
    return *this;
  }
  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;
  ~OpenFile() {
    if (descriptor_ >= 0) ::close(descriptor_);
  }

  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] int descriptor() const { return descriptor_; }
  [[nodiscard]] index_t size() const { return status_.st_size; }  ///< in bytes, when it was opened

  /// Copies `count` bytes from byte `offset` on. Throws Error if the file ends before them.
  void read(index_t offset, void* to, index_t count) const {
    auto* out = static_cast<char*>(to);
    while (count > 0) {
      const ssize_t got = ::pread(descriptor_, out, static_cast<std::size_t>(count), offset);
      if (got < 0 && errno == EINTR) continue;
      require(got >= 0, path_, ": ", errno_text(errno));
      require(got > 0, path_, ": ended at byte ", offset, " while it was read; it had ", size(), " bytes before");
      out += got;
      offset += got;
      count -= got;
    }
  }

  /// Throws Error unless the file has the size and time of modification that it had, and the path still leads to it.
  void check_unchanged() const {
    struct stat now {};
    require(::fstat(descriptor_, &now) == 0, path_, ": ", errno_text(errno));
    require(now.st_size == status_.st_size, path_, ": expected ", size(), " bytes, as when it was opened; found ",
            static_cast<index_t>(now.st_size), ": it was written to while in use");
    require(now.st_mtim.tv_sec == status_.st_mtim.tv_sec && now.st_mtim.tv_nsec == status_.st_mtim.tv_nsec, path_,
            ": was written to while in use");
    struct stat named {};
    require(::stat(path_.c_str(), &named) == 0, path_, ": was removed while in use");
    require(named.st_ino == now.st_ino && named.st_dev == now.st_dev, path_,
            ": was replaced by another file while in use");
  }

 private:
  template <class Reason>
  [[noreturn]] void refuse(const Reason& reason) {
    ::close(std::exchange(descriptor_, -1));  // a constructor that throws runs no destructor
    fail(path_, ": ", reason);
  }

  std::string path_;
  int descriptor_ = -1;
  struct stat status_ {};
};

/// The whole text of a file of at most `most_bytes` bytes. Throws Error if it is larger or cannot be read.
[[nodiscard]] inline std::string read_text(const std::filesystem::path& path, index_t most_bytes) {
  const OpenFile file(path);
  require(file.size() <= most_bytes, file.path(), ": expected at most ", most_bytes, " bytes, found ", file.size());
  std::string text(static_cast<std::size_t>(file.size()), '\0');
  file.read(0, text.data(), file.size());
  return text;
}

}  // namespace tessera
