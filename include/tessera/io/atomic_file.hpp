#pragma once
// A file that appears under its name complete or not at all: written beside it, then renamed.

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <string>
#include <string_view>

#include <tessera/core/open_file.hpp>

namespace tessera {

/// A file under construction. What was not committed is removed by the destructor, and a file that was there before
/// stays as it was. write() may be called from several threads; the ranges they write do not overlap.
class AtomicFile {
 public:
  /// Throws Error with the path if it names something other than a regular file, or nothing can be written beside it.
  explicit AtomicFile(const std::filesystem::path& path)
      : path_(path.string()), temporary_(concat(path_, ".part-", static_cast<index_t>(::getpid()))) {
    struct stat status {};
    // Renaming onto a device, or onto a folder, would not do what was asked for.
    require(::stat(path_.c_str(), &status) != 0 || S_ISREG(status.st_mode), path_,
            ": expected to write a regular file; a folder, device or pipe has this name");
    descriptor_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    check(descriptor_ >= 0);
  }
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  ~AtomicFile() {
    if (descriptor_ < 0) return;
    ::close(descriptor_);
    ::unlink(temporary_.c_str());
  }

  [[nodiscard]] const std::string& path() const { return path_; }

  /// Takes `bytes` bytes of disk at once, so that a disk that is too small is known before the work is done. Throws
  /// Error if there is no room; does nothing on a file system that cannot say.
  void reserve(index_t bytes) {
    if (bytes == 0) return;
    int result = 0;
    do result = ::fallocate(descriptor_, 0, 0, bytes);
    while (result != 0 && errno == EINTR);
    check(result == 0 || errno == EOPNOTSUPP || errno == ENOSYS);
  }

  void write(index_t offset, const void* data, index_t count) {
    const auto* from = static_cast<const char*>(data);
    while (count > 0) {
      const ssize_t written = ::pwrite(descriptor_, from, static_cast<std::size_t>(count), offset);
      if (written < 0 && errno == EINTR) continue;
      check(written > 0);
      from += written;
      offset += written;
      count -= written;
    }
  }

  /// Gives the file its name, once its bytes are on disk: some file systems report a full disk only then.
  void commit() {
    check(::fsync(descriptor_) == 0 || errno == EINVAL);
    check(std::rename(temporary_.c_str(), path_.c_str()) == 0);
    ::close(std::exchange(descriptor_, -1));
  }

 private:
  void check(bool good) const { require(good, path_, ": cannot write: ", errno_text(errno)); }

  std::string path_;
  std::string temporary_;
  int descriptor_ = -1;
};

/// Writes a whole text file, atomically.
inline void write_text(const std::filesystem::path& path, std::string_view text) {
  AtomicFile file(path);
  file.write(0, text.data(), static_cast<index_t>(text.size()));
  file.commit();
}

}  // namespace tessera
