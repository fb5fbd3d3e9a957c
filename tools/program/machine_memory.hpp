#pragma once
// Memory of this machine and of this process, as Linux counts it.

#include <algorithm>
#include <charconv>
#include <fstream>
#include <string>

#include <tessera/core/types.hpp>

namespace tessera::program {

/// Bytes of memory of this machine, and those that a program could take now; -1 where the system does not say.
struct Memory {
  index_t total = -1;
  index_t available = -1;
};

namespace detail {

/// The number that follows `name` in a file of lines "name number"; -1 where there is none.
[[nodiscard]] inline index_t number_in(const char* path, const std::string& name) {
  std::ifstream file(path);
  std::string word, rest;
  for (index_t number = 0; file >> word;) {
    if (word == name && file >> number) return number;
    std::getline(file, rest);
  }
  return -1;
}

/// The number that a file consists of; -1 where it is a word or the file is not there.
[[nodiscard]] inline index_t number_of(const char* path) {
  index_t number = -1;
  std::ifstream file(path);
  return file >> number ? number : -1;
}

}  // namespace detail

/// What the kernel says, less what a control group does not allow.
[[nodiscard]] inline Memory memory_of_machine() {
  const auto bytes = [](const char* name) {
    const index_t kilobytes = detail::number_in("/proc/meminfo", name);
    return kilobytes < 0 ? -1 : kilobytes * 1024;
  };
  Memory memory{bytes("MemTotal:"), bytes("MemAvailable:")};
  const index_t limit = detail::number_of("/sys/fs/cgroup/memory.max");
  const index_t used = detail::number_of("/sys/fs/cgroup/memory.current");
  if (limit > 0 && used >= 0) {
    const index_t evictable = std::max<index_t>(0, detail::number_in("/sys/fs/cgroup/memory.stat", "inactive_file"));
    const auto at_most = [](index_t bytes, index_t allowed) { return bytes < 0 ? allowed : std::min(bytes, allowed); };
    memory.total = at_most(memory.total, limit);
    memory.available = at_most(memory.available, std::max<index_t>(0, limit - used + evictable));
  }
  return memory;
}

/// Memory of this process that is of no file and that no other process can share, in bytes; 0 where the system does not
/// say. What MPI keeps in shared memory is not in it.
[[nodiscard]] inline index_t anonymous_bytes() {
  return std::max<index_t>(0, detail::number_in("/proc/self/smaps_rollup", "Anonymous:")) * 1024;
}

}  // namespace tessera::program
