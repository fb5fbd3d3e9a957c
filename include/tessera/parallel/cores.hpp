#pragma once
// How many cores this process may use: physical cores within its affinity mask and its cgroup's quota.

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include <tessera/core/error.hpp>

namespace tessera {

namespace detail {

inline std::string first_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

/// Cores that quota/period in one cgroup directory allows; 0 when it sets no limit.
inline double cores_of_quota(const std::string& directory) {
  std::string quota;
  double period = 0;
  if (std::istringstream v2(first_line(directory + "/cpu.max")); v2 >> quota >> period) {
    return quota == "max" || period <= 0 ? 0 : std::strtod(quota.c_str(), nullptr) / period;
  }
  quota = first_line(directory + "/cpu.cfs_quota_us");
  period = std::strtod(first_line(directory + "/cpu.cfs_period_us").c_str(), nullptr);
  return quota.empty() || quota[0] == '-' || period <= 0 ? 0 : std::strtod(quota.c_str(), nullptr) / period;
}

}  // namespace detail

/// Cores that the cgroups of this process allow (the least of the group and its ancestors); 0 where none sets a limit.
/// Versions 1 and 2; `root` stands before /proc and /sys, for tests.
[[nodiscard]] inline double cgroup_cores(const std::string& root = "") {
  double least = 0;
  std::ifstream groups(root + "/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {
    const auto first = line.find(':');
    const auto second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = concat(",", line.substr(first + 1, second - first - 1), ",");
    const bool v2 = controllers == ",,";
    if (!v2 && controllers.find(",cpu,") == std::string::npos) continue;
    const std::string mount = root + (v2 ? "/sys/fs/cgroup" : "/sys/fs/cgroup/cpu");
    // Inside a container the path may name a group that only the host sees; its ancestors still include the mount.
    for (std::string group = line.substr(second + 1);; group.erase(group.rfind('/'))) {
      const double cores = detail::cores_of_quota(mount + group);
      if (cores > 0) least = least == 0 ? cores : std::min(least, cores);
      if (group.find('/') == std::string::npos) break;
    }
  }
  return least;
}

/// The processors that this thread may run on.
[[nodiscard]] inline cpu_set_t affinity_mask() {
  cpu_set_t mask;
  CPU_ZERO(&mask);
  if (sched_getaffinity(0, sizeof mask, &mask) == 0) return mask;
  for (unsigned cpu = 0; cpu < std::max(1U, std::thread::hardware_concurrency()); ++cpu) CPU_SET(cpu, &mask);
  return mask;
}

/// Which core a processor belongs to: (package, core); without an answer of the kernel each is a core of its own. Read
/// once: files are slow for whoever makes a team per task.
[[nodiscard]] inline std::pair<int, int> core_of_processor(int cpu) {
  static const std::vector<std::pair<int, int>> known = [] {
    std::vector<std::pair<int, int>> cores;
    for (int n = 0; n < ::sysconf(_SC_NPROCESSORS_CONF); ++n) {
      const std::string topology = concat("/sys/devices/system/cpu/cpu", n, "/topology/");
      const std::string core = detail::first_line(topology + "core_id");
      const std::string package = detail::first_line(topology + "physical_package_id");
      cores.emplace_back(core.empty() ? std::pair{-1, n}
                                      : std::pair{std::atoi(package.c_str()), std::atoi(core.c_str())});
    }
    return cores;
  }();
  return static_cast<std::size_t>(cpu) < known.size() ? known[static_cast<std::size_t>(cpu)] : std::pair{-1, cpu};
}

/// The physical cores of a mask, each as its processors in the mask: hyperthreads of one core are together.
[[nodiscard]] inline std::vector<cpu_set_t> cores_of(const cpu_set_t& mask) {
  std::map<std::pair<int, int>, std::size_t> numbers;  // core -> place in the result, by the lowest processor
  std::vector<cpu_set_t> cores;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &mask)) continue;
    const auto [found, is_new] = numbers.try_emplace(core_of_processor(cpu), cores.size());
    if (is_new) cores.emplace_back();
    CPU_SET(cpu, &cores[found->second]);
  }
  return cores;
}

/// Physical cores in a mask: hyperthreads of one core count once. At least 1.
[[nodiscard]] inline int physical_cores(const cpu_set_t& mask) {
  return std::max(1, static_cast<int>(cores_of(mask).size()));
}
/// Physical cores of the affinity mask, at least 1.
[[nodiscard]] inline int affinity_cores() { return physical_cores(affinity_mask()); }

/// Cores that this process may keep busy: the affinity mask, cut by the cgroup's quota at start. At least 1.
[[nodiscard]] inline int allowed_cores() {
  static const double quota = cgroup_cores();
  const int cores = affinity_cores();
  return quota > 0 ? std::clamp(static_cast<int>(quota), 1, cores) : cores;
}

/// Threads that a rank may be asked to have: far more than a machine has processors, and each has a stack.
inline constexpr int most_threads = 1024;

/// Threads that OMP_NUM_THREADS asks for: of a list such as 4,2, one number for each level of nesting, the first. 0
/// where it is not set, or empty. Throws Error where it is no such number from 1 to most_threads.
[[nodiscard]] inline int threads_of_environment() {
  const char* const value = std::getenv("OMP_NUM_THREADS");
  constexpr std::string_view blanks = " \t";
  std::string_view first = value == nullptr ? "" : value;
  first.remove_prefix(std::min(first.find_first_not_of(blanks), first.size()));
  if (first.empty()) return 0;
  first = first.substr(0, first.find(','));
  first = first.substr(0, first.find_last_not_of(blanks) + 1);
  int threads = 0;
  const auto [end, error] = std::from_chars(first.data(), first.data() + first.size(), threads);
  require(error == std::errc{} && end == first.data() + first.size() && threads >= 1 && threads <= most_threads,
          "OMP_NUM_THREADS: expected a number of threads from 1 to ", most_threads, ", found \"", value, '"');
  return threads;
}

/// Threads for one rank: OMP_NUM_THREADS if it is set, else the allowed cores divided by the ranks that share them.
[[nodiscard]] inline int default_threads(int ranks_sharing_cores = 1) {
  if (const int threads = threads_of_environment(); threads > 0) return threads;
  return std::max(1, allowed_cores() / std::max(1, ranks_sharing_cores));
}

}  // namespace tessera
