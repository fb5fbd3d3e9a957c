#pragma once
// The choice of a transport at start: forced by name, or measured for each kind and size of operation.

#include <algorithm>
#include <chrono>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <tessera/comm/choice.hpp>
#include <tessera/comm/hierarchical.hpp>

namespace tessera {

/// A communicator and what is to be said about how it was chosen.
struct Chosen {
  Communicator communicator;
  std::string report;
};

namespace detail {

/// Seconds that one operation of a kind and about a size takes, on this rank: the least of a few.
class CollectiveTimer {
 public:
  [[nodiscard]] double operator()(Communicator& comm, Collective kind, index_t bytes) {
    constexpr int repetitions = 4;  // the first of them finds cold buffers
    double least = 1e9;
    for (int i = 0; i < repetitions; ++i) {
      comm.barrier();
      const auto begin = std::chrono::steady_clock::now();
      run(comm, kind, bytes / static_cast<index_t>(sizeof(float)));
      least = std::min(least, std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
    }
    return least;
  }

 private:
  void run(Communicator& comm, Collective kind, index_t n) {
    const int ranks = comm.size();
    slice_counts(n, ranks, 1, 1, counts_);
    const auto mine = at(counts_[at(comm.rank())]);
    const std::span<float> one = one_.floats(n), other = other_.floats(n);
    switch (kind) {
      case Collective::allreduce: return comm.allreduce(one);
      case Collective::reduce_scatter: return comm.reduce_scatter(one, other.first(mine), counts_);
      case Collective::allgather: return comm.allgather<float>(other.first(mine), one, counts_);
      case Collective::alltoall: {
        const index_t each = n / ranks;
        counts_.assign(at(ranks), each);
        return comm.alltoall<float>(one.first(at(each * ranks)), counts_, other.first(at(each * ranks)), counts_);
      }
      default:
        comm.start_exchange<float>(one, (comm.rank() + 1) % ranks, other, (comm.rank() + ranks - 1) % ranks).wait();
    }
  }

  GrowingBuffer one_, other_;
  std::vector<index_t> counts_;
};

}  // namespace detail

/// Measures which of `candidates`, all of the same ranks, is the fastest for what; collective, about a tenth of a
/// second. The slowest rank's time counts, and all ranks decide on the same figures.
[[nodiscard]] inline CollectiveChoice measure_collectives(std::vector<Communicator> candidates) {
  constexpr double budget = 0.15;  // seconds; what is not measured by then goes as the nearest smaller size
  CollectiveChoice choice;
  detail::CollectiveTimer time;
  double spent = 0;
  const auto best_of = [&](Collective kind, index_t bytes) {
    std::vector<double> slowest;
    for (Communicator& candidate : candidates) {
      const double mine = time(candidate, kind, bytes);
      std::vector<double> all(static_cast<std::size_t>(candidate.size()));
      candidates[0].allgather<double>(std::span(&mine, 1), std::span(all), std::vector<index_t>(all.size(), 1));
      slowest.push_back(*std::max_element(all.begin(), all.end()));
      spent += 4 * slowest.back();
    }
    return static_cast<std::size_t>(std::min_element(slowest.begin(), slowest.end()) - slowest.begin());
  };
  for (const Collective kind : CollectiveChoice::kinds) {
    std::size_t best = choice(Collective::allreduce, 0);
    for (std::size_t c = 0; c < CollectiveChoice::classes; ++c) {
      const bool used = CollectiveChoice::class_of(kind, 0) == 0 || CollectiveChoice::class_of(kind, 0) == c;
      if (used && spent < budget) best = best_of(kind, CollectiveChoice::measured[c]);
      choice.set(kind, c, best);
    }
  }
  return choice;
}

/// `comm` in what serves its ranks best; collective, with the same bits whatever is chosen. `wanted` is "mpi": as it
/// is; "shm": memory between ranks that share a machine, `comm` between machines; "auto": the faster of the two for
/// each kind and size. Errors: Error for another word, and for "shm" where no two ranks can share memory.
[[nodiscard]] inline Chosen choose_collectives(Communicator comm, std::string_view wanted) {
  require(wanted == "auto" || wanted == "mpi" || wanted == "shm", "collectives: expected auto, mpi or shm, found ",
          wanted);
  std::string report(comm.name());
  if (comm.size() == 1 || wanted == "mpi") return {std::move(comm), std::move(report)};
  std::optional<Communicator> shared;
  try {
    shared = hierarchical(comm);
  } catch (const Error& error) {  // on all ranks
    if (wanted == "shm") throw;
    report += concat(" (", error.what(), ")");
  }
  const bool shares = shared && shared->operations() != comm.operations();
  require(wanted != "shm" || shares, "--collectives shm: expected neighbouring ranks on one machine, found none");
  if (!shares) return {std::move(comm), std::move(report)};
  if (wanted == "shm") return {*shared, std::string(shared->name())};
  const std::vector<Communicator> candidates{comm, *shared};
  const CollectiveChoice choice = measure_collectives(candidates);
  const std::vector<std::string> names{std::string(comm.name()), std::string(shared->name())};
  return {Communicator(std::make_shared<detail::ChoosingOperations>(candidates, choice)),
          concat(choice.describe(names), " (measured)")};
}

}  // namespace tessera
