#pragma once
// How many cores this process may use: physical cores within its affinity mask and its cgroup's quota.

#include <sched.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <set>
#include <sstream>
#include <string>
#include <thread>
#include <utility>

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

/// Physical cores in the affinity mask of this thread: hyperthreads of one core count once.
[[nodiscard]] inline int affinity_cores() {
  cpu_set_t mask;
  CPU_ZERO(&mask);
  if (sched_getaffinity(0, sizeof mask, &mask) != 0) {
    return static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
  }
  std::set<std::pair<std::string, std::string>> cores;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (!CPU_ISSET(cpu, &mask)) continue;
    const std::string topology = concat("/sys/devices/system/cpu/cpu", cpu, "/topology/");
    std::string core = detail::first_line(topology + "core_id");
    if (core.empty()) core = std::to_string(cpu);
    cores.emplace(detail::first_line(topology + "physical_package_id"), core);
  }
  return std::max(1, static_cast<int>(cores.size()));
}

/// Cores that this process may keep busy: the affinity mask, cut by the cgroup's quota. At least 1.
[[nodiscard]] inline int allowed_cores() {
  const double quota = cgroup_cores();
  const int cores = affinity_cores();
  return quota > 0 ? std::clamp(static_cast<int>(quota), 1, cores) : cores;
}

/// Threads for one rank: OMP_NUM_THREADS if it is set, else the allowed cores divided by the ranks that share them.
[[nodiscard]] inline int default_threads(int ranks_sharing_cores = 1) {
  if (const char* text = std::getenv("OMP_NUM_THREADS"); text != nullptr) {
    if (const int threads = std::atoi(text); threads > 0) return threads;
  }
  return std::max(1, allowed_cores() / std::max(1, ranks_sharing_cores));
}

}  // namespace tessera
