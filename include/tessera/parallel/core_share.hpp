#pragma once
// Which cores a rank takes among the ranks of its machine, as arithmetic on affinity masks.

#include <sched.h>

#include <algorithm>
#include <cstdlib>
#include <span>
#include <string_view>

#include <tessera/core/partition.hpp>
#include <tessera/parallel/cores.hpp>

namespace tessera {

/// How the ranks of a machine came to their cores.
enum class CoreOwnership : std::uint8_t { alone, bound_by_launcher, bound_by_rank, shared };

/// One rank's part of its machine.
struct CoreShare {
  CoreOwnership ownership = CoreOwnership::alone;
  cpu_set_t processors{};  ///< that its threads may run on
  int cores = 1;           ///< physical ones among them
  int threads = 1;
};

/// What rank `mine` takes among ranks with these masks; each of them comes to its own part by the same call.
///
/// Law: where ownership is bound_by_rank, the parts of all ranks are disjoint, none is empty, each lies in its rank's
/// mask, and their sizes differ by at most one physical core.
///
/// Masks that are disjoint are the launcher's work and stay. One mask for all is cut, unless ranks, threads asked for
/// (`threads`, 0 for none) or a cgroup's quota (cores, 0 for none) leave some rank without a core to itself: then the
/// kernel shares better than a binding. Masks that overlap in part stay as they are.
[[nodiscard]] inline CoreShare share_of_cores(std::span<const cpu_set_t> masks, std::size_t mine, int threads,
                                              double quota) {
  const auto ranks = static_cast<int>(masks.size());
  CoreShare share;
  share.processors = masks[mine];
  bool disjoint = true, equal = true;
  for (std::size_t a = 0; a < masks.size(); ++a)
    for (std::size_t b = 0; b < a; ++b) {
      cpu_set_t common;
      CPU_AND(&common, &masks[a], &masks[b]);
      disjoint = disjoint && CPU_COUNT(&common) == 0;
      equal = equal && CPU_EQUAL(&masks[a], &masks[b]);
    }
  const std::vector<cpu_set_t> cores = cores_of(masks[mine]);
  const auto count = static_cast<index_t>(cores.size());
  const bool quota_allows = quota <= 0 || quota >= static_cast<double>(ranks) * std::max(1, threads);
  if (ranks == 1) {
    share.ownership = CoreOwnership::alone;
  } else if (disjoint) {
    share.ownership = CoreOwnership::bound_by_launcher;
  } else if (equal && quota_allows && count >= static_cast<index_t>(ranks) * std::max(1, threads)) {
    share.ownership = CoreOwnership::bound_by_rank;
    CPU_ZERO(&share.processors);
    const Range part = partition(count, ranks, static_cast<index_t>(mine));
    for (index_t core = part.begin; core < part.end; ++core)
      CPU_OR(&share.processors, &share.processors, &cores[static_cast<std::size_t>(core)]);
  } else {
    share.ownership = CoreOwnership::shared;
  }
  share.cores = physical_cores(share.processors);
  share.threads = share.ownership == CoreOwnership::shared ? share.cores / ranks : share.cores;
  if (quota > 0) share.threads = std::min(share.threads, static_cast<int>(quota / ranks));
  share.threads = threads > 0 ? threads : std::max(1, share.threads);
  return share;
}

}  // namespace tessera
