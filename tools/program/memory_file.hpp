#pragma once
// A file without a name, in memory and mapped: as weights lie in the page cache, with no disk to disturb a measurement.

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>

#include <tessera/core/error.hpp>
#include <tessera/core/types.hpp>

namespace tessera::program {

class MemoryFile {
 public:
  /// `size` zeroed bytes, shared and writable, on ordinary pages like those of any mapped file.
  explicit MemoryFile(index_t size) : size_(static_cast<std::size_t>(size)) {
    const int file = ::memfd_create("tessera", MFD_CLOEXEC);
    require(file >= 0, "no file in memory could be made");
    if (::ftruncate(file, size) == 0) data_ = ::mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    ::close(file);
    require(data_ != MAP_FAILED, "out of memory: a file of ", static_cast<double>(size) / 1e9, " GB was asked for");
  }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;
  ~MemoryFile() { ::munmap(data_, size_); }

  [[nodiscard]] void* data() const { return data_; }

 private:
  std::size_t size_;
  void* data_ = MAP_FAILED;
};

}  // namespace tessera::program
