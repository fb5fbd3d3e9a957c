// tessera info: where the ranks run, and what will make them slow there.
#include <unistd.h>

#include <algorithm>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include <fmt/format.h>

#include <tessera/comm/agree.hpp>
#include <tessera/comm/placement.hpp>
#include <tessera/core/version.hpp>
#include <tessera/parallel/team.hpp>
#include <tessera/simd/isa.hpp>

#include "commands.hpp"
#include "places.hpp"
#include "program/cpu_check.hpp"
#include "program/rank_setup.hpp"

namespace tessera::tools {

namespace {

/// The texts of all ranks, in rank order.
std::vector<std::string> gather_texts(Communicator& comm, const std::string& mine) {
  const auto ranks = static_cast<std::size_t>(comm.size());
  const auto size = static_cast<index_t>(mine.size());
  std::vector<index_t> sizes(ranks);
  comm.allgather<index_t>({&size, 1}, std::span(sizes), std::vector<index_t>(ranks, 1));
  index_t total = 0;
  for (const index_t each : sizes) total += each;
  std::string all(static_cast<std::size_t>(total), ' ');
  comm.allgather<char>(mine, std::span(all), sizes);
  std::vector<std::string> texts;
  for (std::size_t begin = 0; const index_t each : sizes) {
    texts.push_back(all.substr(begin, static_cast<std::size_t>(each)));
    begin += static_cast<std::size_t>(each);
  }
  return texts;
}

/// The CPUs of each thread of a team; once where they are the same.
std::string cpus_of_threads(int threads) {
  std::vector<std::string> lists(static_cast<std::size_t>(threads));
  Team team(threads);
  team.run([&](Worker& worker) { lists[static_cast<std::size_t>(worker.index())] = list_text(allowed_cpus()); });
  const bool same = std::all_of(lists.begin(), lists.end(), [&](const auto& list) { return list == lists[0]; });
  return same ? lists[0] : fmt::format("{}", fmt::join(lists, " | "));
}

/// Of ranks that have taken their cores.
std::vector<Place> gather_places(Communicator& comm, int threads) {
  const std::vector<std::string> hosts = gather_texts(comm, detail::host_name());
  const std::vector<std::string> cpus = gather_texts(comm, cpus_of_threads(threads));
  const std::vector<std::string> nodes = gather_texts(comm, list_text(numa_nodes_of(allowed_cpus())));
  const std::vector<std::string> best = gather_texts(comm, program::best_isa());
  const std::vector<std::string> compiled = gather_texts(comm, std::string(compiled_isa()));
  struct Numbers {
    int cores, threads;
    Memory memory;
  };
  const Numbers mine{allowed_cores(), threads, memory_of_machine()};
  std::vector<Numbers> all(hosts.size());
  comm.allgather<Numbers>({&mine, 1}, std::span(all), std::vector<index_t>(hosts.size(), 1));
  std::vector<Place> places;
  for (std::size_t r = 0; r < hosts.size(); ++r)
    places.push_back({hosts[r], cpus[r], nodes[r], best[r], compiled[r], all[r].cores, all[r].threads, all[r].memory});
  return places;
}

int info(Communicator comm, int threads) {
  program::ModelOptions options;  // what a model gets where nothing else is said
  options.threads = threads;
  const program::RankSetup setup = program::set_up_ranks(comm, options, take_cores(comm, threads, true));
  const std::vector<Place> places = gather_places(comm, setup.threads);
  if (comm.rank() != 0) return 0;
  std::set<std::string> hosts;
  for (const Place& place : places) hosts.insert(place.host);
  fmt::print("tessera {}.{}.{}: {} rank{} ({}) on {} host{}\n", TESSERA_VERSION_MAJOR, TESSERA_VERSION_MINOR,
             TESSERA_VERSION_PATCH, places.size(), places.size() == 1 ? "" : "s", comm.name(), hosts.size(),
             hosts.size() == 1 ? "" : "s");
  fmt::print("instruction set: compiled for {}, the processor has {}\n", places[0].compiled_isa,
             places[0].best_isa.empty() ? "?" : places[0].best_isa);
  fmt::print("{}\n\n", setup.text);
  fmt::print("{:>4}  {:<20} {:>5} {:>7}  {:<20} {:<10} {:>20}\n", "rank", "host", "cores", "threads",
             "CPUs of a thread", "NUMA nodes", "memory free / all");
  for (std::size_t r = 0; r < places.size(); ++r)
    fmt::print("{:>4}  {:<20} {:>5} {:>7}  {:<20} {:<10} {:>17}\n", r, places[r].host, places[r].cores,
               places[r].threads, places[r].cpus, places[r].nodes.empty() ? "?" : places[r].nodes,
               fmt::format("{:.1f} / {:.1f} GB", static_cast<double>(places[r].memory.available) / 1e9,
                           static_cast<double>(places[r].memory.total) / 1e9));
  const std::vector<std::string> warnings = warnings_of(places);
  fmt::print("\n{}", warnings.empty() ? "Nothing here will be slow.\n" : "");
  for (const std::string& warning : warnings) fmt::print("slow: {}\n", warning);
  return 0;
}

}  // namespace

void add_info(CLI::App& app, Action& action) {
  CLI::App* command =
      app.add_subcommand("info", "Show ranks, cores, instruction sets and memory, and what will be slow");
  const auto threads = std::make_shared<int>(0);
  command->add_option("--threads", *threads, "Threads of each rank (default: as for a model)")
      ->check(CLI::Range(1, most_threads))
      ->type_name("N");
  command->footer(
      "Start it as the program that it is about: under the same mpiexec, with the same binding.\n\n"
      "  mpiexec.mpich -n 2 tessera info");
  command->callback(
      [threads, &action] { action = [threads](const Communicator& comm) { return info(comm, *threads); }; });
}

}  // namespace tessera::tools
