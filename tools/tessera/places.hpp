#pragma once
// Where each rank runs, and what of that will be slow.

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "machine.hpp"

namespace tessera::tools {

/// What a rank tells the others; texts are parts of its line in the table.
struct Place {
  std::string host;
  std::string cpus;          // of each thread
  std::string nodes;         // NUMA
  std::string best_isa;      // of the processor
  std::string compiled_isa;  // of the program: another binary may run on another host
  int cores = 0;             // physical ones that the rank may use
  int threads = 0;
  Memory memory;
};

/// The CPUs of all threads of a rank, whose lists stand one after another: "0-1", or "0 | 1".
[[nodiscard]] inline std::vector<int> cpus_in(std::string lists) {
  std::replace(lists.begin(), lists.end(), '|', ',');
  std::erase(lists, ' ');
  return list_of(lists);
}

/// Sentences about what will be slow, each with what to do.
[[nodiscard]] inline std::vector<std::string> warnings_of(const std::vector<Place>& places) {
  std::vector<std::string> warnings;
  std::map<std::string, std::vector<std::size_t>> ranks_of;
  for (std::size_t r = 0; r < places.size(); ++r) ranks_of[places[r].host].push_back(r);
  for (const auto& [host, ranks] : ranks_of) {
    // Ranks with the same CPUs share their cores, ranks that are bound elsewhere do not; some may share a part of them.
    std::map<std::string, int> cores_of;
    int threads = 0, cores = 0;
    for (const std::size_t r : ranks) cores_of[places[r].cpus] = places[r].cores, threads += places[r].threads;
    for (const auto& [cpus, each] : cores_of) cores += each;
    std::set<int> all_cpus;
    for (const std::size_t r : ranks)
      for (const int cpu : cpus_in(places[r].cpus)) all_cpus.insert(cpu);
    if (!all_cpus.empty()) cores = std::min(cores, static_cast<int>(all_cpus.size()));
    if (static_cast<int>(ranks.size()) > cores)
      warnings.push_back(fmt::format("{} ranks share {} core{} of {}: take at most one rank per core", ranks.size(),
                                     cores, cores == 1 ? "" : "s", host));
    else if (threads > cores)
      warnings.push_back(fmt::format("{} threads share {} cores of {}: give --threads {}", threads, cores, host,
                                     std::max(1, cores / static_cast<int>(ranks.size()))));
    const Place& first = places[ranks[0]];
    if (!first.best_isa.empty() && first.compiled_isa != first.best_isa)
      warnings.push_back(fmt::format("{} has {}, this build uses {}: configure with -Dmarch=native there", host,
                                     first.best_isa, first.compiled_isa));
    if (first.memory.available < first.memory.total / 10)
      warnings.push_back(
          fmt::format("{} has {:.1f} GB of free memory: weights that do not stay in it are read from "
                      "the disk for every token",
                      host, static_cast<double>(first.memory.available) / 1e9));
  }
  for (std::size_t r = 0; r < places.size(); ++r)
    if (places[r].nodes.find_first_of(",-") != std::string::npos)
      warnings.push_back(fmt::format("rank {} may run on NUMA nodes {}: bind a rank to each, mpiexec -bind-to numa", r,
                                     places[r].nodes));
  return warnings;
}

}  // namespace tessera::tools
