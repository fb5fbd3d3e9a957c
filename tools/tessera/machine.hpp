#pragma once
// What Linux says about the machine: CPUs that a thread may use, NUMA nodes, memory.

#include <sched.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

#include <tessera/core/error.hpp>
#include <tessera/core/types.hpp>

#include "program/machine_memory.hpp"

namespace tessera::tools {

/// Numbers in order as the kernel writes lists of CPUs: "0-3,8".
[[nodiscard]] inline std::string list_text(const std::vector<int>& numbers) {
  std::string text;
  for (std::size_t i = 0; i < numbers.size();) {
    std::size_t end = i + 1;
    while (end < numbers.size() && numbers[end] == numbers[end - 1] + 1) ++end;
    text += concat(text.empty() ? "" : ",", numbers[i]);
    if (end - i > 1) text += concat('-', numbers[end - 1]);
    i = end;
  }
  return text;
}

/// The numbers of such a list.
[[nodiscard]] inline std::vector<int> list_of(std::string_view text) {
  std::vector<int> numbers;
  while (!text.empty()) {
    const std::string_view piece = text.substr(0, text.find(','));
    text.remove_prefix(std::min(text.size(), piece.size() + 1));
    int first = 0;
    const auto [end, error] = std::from_chars(piece.data(), piece.data() + piece.size(), first);
    if (error != std::errc{}) continue;
    int last = first;
    if (end != piece.data() + piece.size()) std::from_chars(end + 1, piece.data() + piece.size(), last);
    for (int n = first; n <= last; ++n) numbers.push_back(n);
  }
  return numbers;
}

/// CPUs in the calling thread's affinity mask.
[[nodiscard]] inline std::vector<int> allowed_cpus() {
  cpu_set_t mask;
  std::vector<int> cpus;
  if (::sched_getaffinity(0, sizeof mask, &mask) != 0) return cpus;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu)
    if (CPU_ISSET(cpu, &mask)) cpus.push_back(cpu);
  return cpus;
}

/// NUMA nodes that some of the CPUs belong to.
[[nodiscard]] inline std::vector<int> numa_nodes_of(const std::vector<int>& cpus) {
  std::vector<int> nodes;
  std::error_code unreadable;
  for (const auto& entry : std::filesystem::directory_iterator("/sys/devices/system/node", unreadable)) {
    const std::string name = entry.path().filename();
    if (!name.starts_with("node") || name.size() == 4) continue;
    std::string line;
    std::getline(std::ifstream(entry.path() / "cpulist") >> std::ws, line);
    for (const int cpu : list_of(line))
      if (std::find(cpus.begin(), cpus.end(), cpu) != cpus.end()) {
        nodes.push_back(list_of(name.substr(4)).front());
        break;
      }
  }
  std::sort(nodes.begin(), nodes.end());
  return nodes;
}

using program::Memory;
using program::memory_of_machine;

}  // namespace tessera::tools
