// What carries data between ranks how fast: every transport, and the algorithms that were considered for MPI.
// Run: mpiexec.mpich -n 2 collectives_bench [--json] [--kinds allreduce] [--carriers "ours over MPI"] [--bytes
// 256,4096]
//
// A row is one kind of operation, its payload (as comm/recording.hpp counts it), who carries it, and the median time of
// the slowest rank. "ours" sums in rank order; "MPI's own" picks its order. A gather is checked before it is timed, and
// sums against the sum of the ranks' numbers.
#include <algorithm>
#include <chrono>
#include <functional>
#include <numeric>
#include <string>
#include <vector>

#include <fmt/format.h>

#include <tessera/comm/choose.hpp>
#include <tessera/comm/compressed.hpp>
#include <tessera/comm/mpi_program.hpp>

#include "program/cli.hpp"

namespace {

using namespace tessera;

/// One way to do one kind of operation on n floats: all of them in and out of `data`, which holds as many.
struct Way {
  std::string kind;
  std::string carrier;
  std::function<void(std::span<float> data)> run;
};

index_t begin_of(index_t n, int ranks, int r) { return partition(n, ranks, r).begin; }

/// Counts of the ranks' parts of n floats.
std::vector<index_t> parts(index_t n, int ranks) {
  std::vector<index_t> counts;
  for (int r = 0; r < ranks; ++r) counts.push_back(partition(n, ranks, r).size());
  return counts;
}

std::span<float> part_of(std::span<float> data, int ranks, int first, int last) {
  const auto n = static_cast<index_t>(data.size());
  const index_t begin = begin_of(n, ranks, first), end = last == ranks ? n : begin_of(n, ranks, last);
  return data.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(end - begin));
}

void gather(Communicator& comm, std::span<float> data) {
  const auto counts = parts(static_cast<index_t>(data.size()), comm.size());
  comm.allgather<float>(part_of(data, comm.size(), comm.rank(), comm.rank() + 1), data, counts);
}
/// P - 1 messages one after the other, each to the next rank.
void gather_around_ring(Communicator& comm, std::span<float> data) {
  const int ranks = comm.size(), rank = comm.rank();
  for (int step = 0; step + 1 < ranks; ++step) {
    const int sent = (rank + ranks - step) % ranks, received = (rank + ranks - step - 1) % ranks;
    comm.start_exchange<float>(part_of(data, ranks, sent, sent + 1), (rank + 1) % ranks,
                               part_of(data, ranks, received, received + 1), (rank + ranks - 1) % ranks)
        .wait();
  }
}
/// log2 P messages, each twice as long: for a power of two.
void gather_by_doubling(Communicator& comm, std::span<float> data) {
  const int ranks = comm.size(), rank = comm.rank();
  for (int distance = 1; distance < ranks; distance *= 2) {
    const int mine = rank / distance * distance, other = rank ^ distance;
    const int theirs = other / distance * distance;
    comm.start_exchange<float>(part_of(data, ranks, mine, mine + distance), other,
                               part_of(data, ranks, theirs, theirs + distance), other)
        .wait();
  }
}
/// This rank's part of the sum, in place of its part of the terms.
void scatter_sum(Communicator& comm, std::span<float> data) {
  static std::vector<float> mine;
  const auto counts = parts(static_cast<index_t>(data.size()), comm.size());
  mine.resize(static_cast<std::size_t>(counts[static_cast<std::size_t>(comm.rank())]));
  comm.reduce_scatter(data, mine, counts);
  std::copy(mine.begin(), mine.end(), part_of(data, comm.size(), comm.rank(), comm.rank() + 1).begin());
}
void scatter_sum_of_mpi(Communicator& comm, std::span<float> data) {
  static std::vector<float> mine;
  const auto counts = parts(static_cast<index_t>(data.size()), comm.size());
  const std::vector<int> ints(counts.begin(), counts.end());
  mine.resize(static_cast<std::size_t>(counts[static_cast<std::size_t>(comm.rank())]));
  detail::check_mpi(MPI_Reduce_scatter(data.data(), mine.data(), ints.data(), MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD),
                    "MPI_Reduce_scatter");
  std::copy(mine.begin(), mine.end(), part_of(data, comm.size(), comm.rank(), comm.rank() + 1).begin());
}

/// Those whose carrier is among `wanted`, which makes no other; all where it is empty.
std::vector<Way> ways_of(const Communicator& world, const std::vector<std::string>& wanted) {
  std::vector<std::pair<std::string, Communicator>> carriers;
  const auto carry = [&](const char* name, auto&& make) {
    if (wanted.empty() || std::find(wanted.begin(), wanted.end(), name) != wanted.end())
      carriers.emplace_back(name, make());
  };
  const auto shared = [&] { return Communicator(SharedMemory::over(world)); };
  carry("ours over MPI", [&] { return world; });
  if (world.size() > 1) {
    carry("ours over shared memory", shared);
    if (world.size() > 2)
      carry("two levels, as if of 2 ranks a machine", [&] { return hierarchical(world, world.rank() / 2); });
    carry("as --collectives auto chose", [&] { return choose_collectives(world, "auto").communicator; });
    carry("bf16 over shared memory", [&] { return compressed(shared(), WireFormat::bf16); });
    carry("q8 over shared memory", [&] { return compressed(shared(), WireFormat::q8); });
  }
  const Communicator own = Mpi(MPI_COMM_WORLD, {.allreduce = Allreduce::mpi});
  std::vector<Way> ways;
  const auto add = [&](const char* kind, const std::string& carrier, const Communicator& comm, auto run) {
    ways.push_back(
        {kind, carrier, [comm = Communicator(comm), run](std::span<float> data) mutable { run(comm, data); }});
  };
  const auto allreduce = [](Communicator& comm, std::span<float> data) { comm.allreduce(data); };
  for (const auto& [name, comm] : carriers) add("allreduce", name, comm, allreduce);
  add("allreduce", "MPI's own", own, allreduce);
  for (const auto& [name, comm] : carriers) add("reduce_scatter", name, comm, scatter_sum);
  add("reduce_scatter", "MPI's own", own, scatter_sum_of_mpi);
  for (const auto& [name, comm] : carriers)
    if (name.find("shared memory") == std::string::npos || name.starts_with("ours"))
      add("allgather", name, comm, gather);
  add("allgather", "a ring over MPI", world, gather_around_ring);
  if ((world.size() & (world.size() - 1)) == 0)
    add("allgather", "recursive doubling over MPI", world, gather_by_doubling);
  return ways;
}

/// Every rank's terms are its number + 1: what must come out of a kind of operation on this rank's part.
bool is_right(const Way& way, std::span<const float> data, int ranks, int rank) {
  const float sum = static_cast<float>(ranks * (ranks + 1)) / 2;
  const auto n = static_cast<index_t>(data.size());
  for (int r = 0; r < ranks; ++r)
    for (index_t i = begin_of(n, ranks, r); i < (r + 1 == ranks ? n : begin_of(n, ranks, r + 1)); ++i) {
      if (way.kind == "reduce_scatter" && r != rank) continue;
      const float expected = way.kind == "allgather" ? static_cast<float>(r + 1) : sum;
      if (std::abs(data[static_cast<std::size_t>(i)] - expected) > 0.02F * expected) return false;
    }
  return true;
}

/// Seconds of the slowest rank: the median of some runs.
double measure(Communicator& world, const Way& way, index_t n) {
  std::vector<float> data(static_cast<std::size_t>(n), static_cast<float>(world.rank() + 1));
  way.run(data);
  require(is_right(way, data, world.size(), world.rank()), way.kind, ", ", way.carrier, ": a wrong result");
  std::vector<double> seconds;
  const int runs = n > 100000 ? 11 : 41;
  for (int i = 0; i < runs; ++i) {
    std::fill(data.begin(), data.end(), 1.0F);
    world.barrier();
    const auto begin = std::chrono::steady_clock::now();
    way.run(data);
    const double mine = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    std::vector<double> all(static_cast<std::size_t>(world.size()));
    world.allgather<double>(std::span(&mine, 1), std::span(all), std::vector<index_t>(all.size(), 1));
    seconds.push_back(*std::max_element(all.begin(), all.end()));
  }
  std::sort(seconds.begin(), seconds.end());
  return seconds[seconds.size() / 2];
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("collectives_bench: what an operation between ranks takes, on every transport");
  bool json = false;
  std::vector<std::string> kinds = {"allreduce", "reduce_scatter", "allgather"}, carriers;
  std::vector<index_t> sizes = {256, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20};
  app.add_flag("--json", json, "Rows as JSON");
  app.add_option("--kinds", kinds, "Of these operations alone")->delimiter(',')->capture_default_str();
  app.add_option("--carriers", carriers, "Of these carriers alone, e.g. \"ours over MPI\"")->delimiter(',');
  app.add_option("--bytes", sizes, "Payloads")->delimiter(',')->check(CLI::Range(4, 1 << 30))->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  return MpiProgram::run(argc, argv, "collectives_bench", [&](Communicator world) {
    const bool speaks = world.rank() == 0;
    const std::vector<Way> ways = ways_of(world, carriers);
    if (speaks && !json)
      fmt::print("{:<15} {:>9} {:<40} {:>12} {:>8}\n", "kind", "bytes", "carrier", "microseconds", "GB/s");
    if (speaks && json) fmt::print("[");
    bool first = true;
    for (const std::string& kind : kinds)
      for (const index_t bytes : sizes)
        for (const Way& way : ways) {
          const bool asked =
              carriers.empty() || std::find(carriers.begin(), carriers.end(), way.carrier) != carriers.end();
          if (way.kind != kind || !asked) continue;
          const double seconds = measure(world, way, bytes / 4);
          if (!speaks) continue;
          if (json)
            fmt::print(
                "{}\n  {{\"kind\": \"{}\", \"bytes\": {}, \"ranks\": {}, \"carrier\": \"{}\", \"seconds\": {:.9f}}}",
                first ? "" : ",", kind, bytes, world.size(), way.carrier, seconds);
          else
            fmt::print("{:<15} {:>9} {:<40} {:>12.1f} {:>8.2f}\n", kind, bytes, way.carrier, 1e6 * seconds,
                       static_cast<double>(bytes) / seconds * 1e-9);
          std::fflush(stdout);
          first = false;
        }
    if (speaks && json) fmt::print("\n]\n");
    return 0;
  });
}
