#pragma once
// Which threads may call MPI: as the caller's MPI_Init_thread was answered.

#include <mpi.h>

#include <atomic>
#include <string_view>

#include <tessera/comm/mpi_group.hpp>

namespace tessera::detail {

/// Held while MPI is called: throws Error where this thread must not call it now. What the caller asked of
/// MPI_Init_thread is known at run time only, and a wrong guess would be a race inside MPI.
class MpiCall {
 public:
  explicit MpiCall(int level) : exclusive_(level == MPI_THREAD_SERIALIZED) {
    if (level < MPI_THREAD_SERIALIZED) {
      int is_main = 1;
      check_mpi(MPI_Is_thread_main(&is_main), "MPI_Is_thread_main");
      require(is_main != 0,
              "MPI was initialised for calls from the thread that initialised it, and another one calls; ", remedy);
    }
    require(!exclusive_ || !busy().exchange(true),
            "MPI was initialised for calls from one thread at a time, and two call; ", remedy);
  }
  MpiCall(const MpiCall&) = delete;
  MpiCall& operator=(const MpiCall&) = delete;
  ~MpiCall() {
    if (exclusive_) busy().store(false);
  }

  /// The level that MPI_Init_thread provided.
  [[nodiscard]] static int level() {
    int provided = MPI_THREAD_SINGLE;
    check_mpi(MPI_Query_thread(&provided), "MPI_Query_thread");
    return provided;
  }

 private:
  static constexpr std::string_view remedy =
      "several threads with a model each need MPI_Init_thread with MPI_THREAD_MULTIPLE";
  static std::atomic<bool>& busy() {
    static std::atomic<bool> flag{false};
    return flag;
  }
  bool exclusive_;
};

}  // namespace tessera::detail
