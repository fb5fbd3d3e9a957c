#pragma once
// The frame of an MPI program: MPI_Init first, one message and one exit status for all ranks, and nobody left behind.

#include <mpi.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>

#include <tessera/comm/loopback_program.hpp>
#include <tessera/comm/mpi.hpp>
#include <tessera/comm/mpi_first_word.hpp>

namespace tessera {

/// A program whose ranks are MPI processes.
///
/// Probed with MPICH 4.0.2, and the reason for most of this: an exit without MPI_Finalize can end the job with status 0
/// and no word; an exit before MPI_Init hangs the others; exit codes of ranks are ORed; what is printed right before
/// MPI_Abort is sometimes lost; a rank behind a dead link survives MPI_Abort.
class MpiProgram {
 public:
  /// Initialises MPI, runs `body(communicator)` on every rank, finalises, and returns what body returned. A rank whose
  /// MPI_Finalize does not come back, when all ranks are done, ends its process after `finalize_seconds`.
  ///
  /// Output of a rank that was lost is an error of all.
  ///
  /// AgreedError (see agree): rank 0 prints `NAME: error: TEXT`, every rank finalises and returns its status. Any other
  /// exception: when all ranks come with one within `meeting_seconds`, the same; otherwise the others are in the middle
  /// of their work, and the job is aborted.
  template <class Body>
  static int run(int& argc, char**& argv, std::string_view name, Body&& body, MpiOptions options = {}) {
    guard().name = name;
    int provided = MPI_THREAD_SINGLE;
    // MPI ends the job itself when this fails, unless it was built to do otherwise.
    if (MPI_Init_thread(&argc, &argv, MPI_THREAD_MULTIPLE, &provided) != MPI_SUCCESS) return 1;
    std::atexit(abort_unless_finalized);
    int status = 1;
    {
      std::optional<Communicator> meeting;
      try {
        detail::check_mpi(MPI_Comm_rank(MPI_COMM_WORLD, &guard().rank), "MPI_Comm_rank");
        detail::check_mpi(MPI_Comm_size(MPI_COMM_WORLD, &guard().ranks), "MPI_Comm_size");
        require_matching_launcher(guard().ranks, "MPI");
        Mpi all = Mpi::by_machine();
        guard().all = all.comm();
        meeting.emplace(std::move(all));
        guard().rank = meeting->rank();
        status = body(Communicator(Mpi::by_machine(options)));
        agree(*meeting, detail::require_all_printed);
      } catch (const AgreedError& error) {
        status = error.status();
        if (guard().rank == 0) detail::print_error(name, error.what());
        abort_after(finalize_seconds);
      } catch (...) {
        status = meet(meeting, detail::current_fault());
        abort_after(finalize_seconds);
      }
      std::fflush(stdout);
      std::fflush(stderr);
      if (meeting) leave_unfinished_after(finalize_seconds, *meeting, status);
    }
    if (MPI_Finalize() != MPI_SUCCESS && status == 0) status = 1;
    ::alarm(0);
    return status;
  }

 private:
  static constexpr double meeting_seconds = 0.5;
  static constexpr unsigned abort_seconds = 5;      // an abort that has not ended the process by then never will
  static constexpr unsigned finalize_seconds = 10;  // when all is done, or after an error: operations may be half done

  struct Guard {
    std::string name;
    MPI_Comm all = MPI_COMM_NULL;  // of the meeting
    int rank = 0;
    int ranks = 1;
  };
  static Guard& guard() {
    static Guard instance;
    return instance;
  }

  /// All ranks failed: one message, and the status to return. Only some: aborts.
  static int meet(std::optional<Communicator>& meeting, const detail::Fault& mine) {
    if (!meeting) {  // a wrong launcher: every rank is a job of its own, and one of them speaks
      if (launched_rank() == 0) detail::print_error(guard().name, mine.text);
      return mine.status;
    }
    try {
      meeting->set_timeout(meeting_seconds);
      const detail::Fault agreed = detail::agree_on_fault(*meeting, mine);
      if (guard().rank == 0) detail::print_error(guard().name, agreed.text);
      return agreed.status;
    } catch (const std::exception&) {
      // The lowest of several failing ranks is the first to abort, so that its message comes alone. Ranks that share
      // cores fail at different moments, and a launcher may take longer than that to end them: so they also tell each
      // other.
      if (detail::has_first_word(guard().all, std::chrono::milliseconds(400) * std::min(guard().rank, 8)))
        detail::print_error(guard().name, concat(mine.text, place()));
      else
        std::this_thread::sleep_for(std::chrono::seconds(1));  // the one that speaks ends the job
      abort_job(mine.status);
    }
  }

  static std::string place() {
    return concat(" (rank ", guard().rank, " of ", guard().ranks, " on ", detail::host_name(), ")");
  }

  /// Once all ranks have done their work: a rank that does not come out of MPI_Finalize leaves without it. Seen with
  /// MPICH 4.0.2 over UCX and TCP on slow links, in every other run. A rank that failed keeps its own alarm.
  static void leave_unfinished_after(unsigned seconds, Communicator& meeting, int status) {
    if (status != 0) return;
    try {
      meeting.barrier();
    } catch (const std::exception&) {
      return;  // somebody is still at work, or gone: MPI waits for them, or ends the job
    }
    set_alarm(seconds, [](int) { ::_exit(0); });
  }

  static void abort_after(unsigned seconds) { set_alarm(seconds, SIG_DFL); }

  static void set_alarm(unsigned seconds, void (*then)(int)) {
    ::signal(SIGALRM, then);
    sigset_t alarm_only;
    ::sigemptyset(&alarm_only);
    ::sigaddset(&alarm_only, SIGALRM);
    ::sigprocmask(SIG_UNBLOCK, &alarm_only, nullptr);
    ::alarm(seconds);
  }

  [[noreturn]] static void abort_job(int status) {
    abort_after(abort_seconds);
    std::this_thread::sleep_for(std::chrono::milliseconds(200));  // the launcher forwards what was printed
    static_cast<void>(MPI_Abort(MPI_COMM_WORLD, status));         // where it comes back, the next line ends this rank
    ::_exit(status);
  }

  static void abort_unless_finalized() {
    int initialized = 0, finalized = 0;
    if (MPI_Initialized(&initialized) != MPI_SUCCESS || MPI_Finalized(&finalized) != MPI_SUCCESS) return;
    if (initialized == 0 || finalized != 0) return;
    detail::print_error(guard().name, concat("exit was called in the middle of the work", place()));
    abort_job(1);
  }
};

}  // namespace tessera
