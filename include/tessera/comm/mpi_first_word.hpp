#pragma once
// Which of several failing ranks speaks, when the ranks cannot meet any more.

#include <mpi.h>

#include <algorithm>
#include <chrono>
#include <thread>
#include <vector>

namespace tessera::detail {

/// Whether this rank is to say what went wrong: no other one has begun to within `turn`, and of those that begin at the
/// same moment it is the lowest. Nobody is waited for: the others may be at work, stopped or gone. `comm` returns
/// errors, and has no other messages with this tag.
[[nodiscard]] inline bool has_first_word(MPI_Comm comm, std::chrono::milliseconds turn) {
  using Clock = std::chrono::steady_clock;
  constexpr int tag = 1;                                    // of Mpi's own messages it is 0
  constexpr auto crossing = std::chrono::milliseconds(50);  // two that begin at once have heard of each other by then
  int rank = 0, ranks = 1;
  if (MPI_Comm_rank(comm, &rank) != MPI_SUCCESS || MPI_Comm_size(comm, &ranks) != MPI_SUCCESS) return true;

  // The lowest rank that says within the time that it begins; `ranks` when none does. MPI moves messages in calls only.
  const auto beginner_within = [&](std::chrono::milliseconds patience, int below) {
    int lowest = ranks;
    for (const auto end = Clock::now() + patience;; std::this_thread::sleep_for(std::chrono::milliseconds(2))) {
      int found = 0;
      MPI_Status status;
      if (MPI_Iprobe(MPI_ANY_SOURCE, tag, comm, &found, &status) != MPI_SUCCESS) found = 0;
      if (found != 0 && MPI_Recv(nullptr, 0, MPI_BYTE, status.MPI_SOURCE, tag, comm, MPI_STATUS_IGNORE) == MPI_SUCCESS)
        lowest = std::min(lowest, status.MPI_SOURCE);
      if (lowest < below || Clock::now() >= end) return lowest;
    }
  };

  if (beginner_within(turn, ranks) < ranks) return false;
  std::vector<MPI_Request> said;
  for (int other = 0; other < ranks; ++other) {
    if (other == rank) continue;
    said.push_back(MPI_REQUEST_NULL);
    if (MPI_Isend(nullptr, 0, MPI_BYTE, other, tag, comm, &said.back()) != MPI_SUCCESS) said.pop_back();  // it is gone
  }
  const bool first = beginner_within(crossing, rank) > rank;
  for (MPI_Request& request : said)
    if (request != MPI_REQUEST_NULL) static_cast<void>(MPI_Request_free(&request));  // the job ends now
  return first;
}

}  // namespace tessera::detail
