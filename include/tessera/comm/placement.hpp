#pragma once
// Ranks of one machine take cores of their own.

#include <sched.h>

#include <cerrno>
#include <set>
#include <string>
#include <vector>

#include <tessera/comm/agree.hpp>
#include <tessera/parallel/core_share.hpp>

namespace tessera {

/// Where a rank runs.
struct Placement {
  int machines = 1;
  int ranks_here = 1;
  CoreShare share;

  /// "1 core each, bound here", for a report.
  [[nodiscard]] std::string describe() const {
    std::string cores = concat(share.cores, share.cores == 1 ? " core" : " cores");
    switch (share.ownership) {
      case CoreOwnership::alone: return cores;
      case CoreOwnership::bound_by_launcher: return cores + " each, bound by the launcher";
      case CoreOwnership::bound_by_rank: return cores + " each, bound by the ranks themselves";
      case CoreOwnership::shared: return concat(cores, " shared by ", ranks_here, " ranks, not bound");
    }
    return cores;
  }
};

/// Finds the ranks on this machine and, unless the launcher did so or `bind` says no, binds this thread, and so the
/// threads that it starts, to cores that no other rank uses (share_of_cores says when). Collective. `threads`: of each
/// rank, where they are asked for; 0: OMP_NUM_THREADS, or as many as the rank has cores. Throws AgreedError where that
/// variable says what no rank can have.
[[nodiscard]] inline Placement take_cores(Communicator comm, int threads, bool bind) {
  threads = agree(comm, [&] { return threads > 0 ? threads : threads_of_environment(); });
  struct Seat {
    int machine;
    cpu_set_t processors;
  };
  const Seat mine{comm.machine(), affinity_mask()};
  std::vector<Seat> seats(static_cast<std::size_t>(comm.size()));
  comm.allgather<Seat>(std::span(&mine, 1), std::span(seats), std::vector<index_t>(seats.size(), 1));
  std::set<int> machines;
  std::vector<cpu_set_t> masks;
  std::size_t place = 0;
  for (std::size_t r = 0; r < seats.size(); ++r) {
    machines.insert(seats[r].machine);
    if (seats[r].machine != mine.machine) continue;
    if (r == static_cast<std::size_t>(comm.rank())) place = masks.size();
    masks.push_back(seats[r].processors);
  }
  Placement placement;
  placement.machines = static_cast<int>(machines.size());
  placement.ranks_here = static_cast<int>(masks.size());
  placement.share = share_of_cores(masks, place, threads, cgroup_cores());
  CoreShare& share = placement.share;
  if (share.ownership == CoreOwnership::bound_by_rank &&
      (!bind || ::sched_setaffinity(0, sizeof share.processors, &share.processors) != 0)) {
    share.ownership = CoreOwnership::shared;  // the threads stay: they fit beside the other ranks' all the same
    share.processors = mine.processors;
    share.cores = physical_cores(mine.processors);
  }
  return placement;
}

}  // namespace tessera
