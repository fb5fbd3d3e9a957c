#pragma once
// What the fuzz targets share: files that cost no disk, and the law that an Error says something short.

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include <tessera/core/error.hpp>

#include "../io/temp_folder.hpp"

/// One execution: reads `size` bytes as the target's input. Anything but a return is a finding.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace tessera::fuzz {

/// Ends the process with the law that was broken.
inline void expect(bool holds, const char* law) {
  if (holds) return;
  std::fprintf(stderr, "fuzz: expected that %s\n", law);
  std::abort();
}

/// Runs `f`, which may end in an Error of a few hundred bytes: every one says something, none repeats the input.
template <class F>
void parse(F&& f) {
  try {
    f();
  } catch (const Error& error) {
    const std::string_view text = error.what();
    expect(!text.empty() && text.size() < 4000, "an error is a sentence");
  }
}

/// The input as texts, cut at zero bytes: `count` of them, the last ones empty where the input has fewer.
inline std::vector<std::string> texts(const std::uint8_t* data, std::size_t size, std::size_t count) {
  std::vector<std::string> all(count);
  std::string_view rest(reinterpret_cast<const char*>(data), size);
  for (std::size_t i = 0; i < count; ++i) {
    const std::size_t end = i + 1 < count ? std::min(rest.find('\0'), rest.size()) : rest.size();
    all[i] = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  return all;
}

/// A regular file in memory, written anew for every input.
class MemoryFile {
 public:
  MemoryFile() : descriptor_(::memfd_create("fuzz", 0)) { expect(descriptor_ >= 0, "a file can be made in memory"); }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;
  ~MemoryFile() { ::close(descriptor_); }

  [[nodiscard]] std::filesystem::path path() const { return "/proc/self/fd/" + std::to_string(descriptor_); }
  void write(const void* bytes, std::size_t size) {
    // Not cut to nothing first: the kernel would free its pages and clear them again, ten thousand times a second.
    if (size != size_) expect(::ftruncate(descriptor_, static_cast<off_t>(size)) == 0, "a file in memory can be cut");
    size_ = size;
    expect(::pwrite(descriptor_, bytes, size, 0) == static_cast<ssize_t>(size), "a file in memory can be written");
  }
  void write(std::string_view bytes) { write(bytes.data(), bytes.size()); }

 private:
  int descriptor_;
  std::size_t size_ = 0;
};

/// A folder whose files are links to files in memory. It stays behind when the process is ended by a finding.
class MemoryFolder {
 public:
  [[nodiscard]] const std::filesystem::path& path() const { return folder_.path(); }
  void link(const MemoryFile& file, std::string_view name) const {
    std::filesystem::create_symlink(file.path(), path() / name);
  }

 private:
  test::TempFolder folder_;
};

}  // namespace tessera::fuzz
