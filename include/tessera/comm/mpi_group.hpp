#pragma once
// MPI communicators as owned objects, and MPI's return codes as errors.

#include <mpi.h>

#include <string_view>
#include <utility>

#include <tessera/core/error.hpp>

namespace tessera {
namespace detail {

/// Throws Error with MPI's own text when `code` says that `call` failed.
inline void check_mpi(int code, std::string_view call) {
  if (code == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING] = {};
  int length = 0;
  if (MPI_Error_string(code, text, &length) != MPI_SUCCESS) fail(call, " failed with code ", code);
  fail(call, " failed: ", std::string_view(text, static_cast<std::size_t>(length)));
}

[[nodiscard]] inline bool mpi_is_up() {
  int initialized = 0, finalized = 0;
  check_mpi(MPI_Initialized(&initialized), "MPI_Initialized");
  check_mpi(MPI_Finalized(&finalized), "MPI_Finalized");
  return initialized != 0 && finalized == 0;
}

/// An MPI communicator of our own, freed with its owner unless MPI has been finalized before.
class MpiGroup {
 public:
  explicit MpiGroup(MPI_Comm owned) : comm_(owned) {
    check_mpi(MPI_Comm_set_errhandler(comm_, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
  }
  MpiGroup(MpiGroup&& other) noexcept : comm_(std::exchange(other.comm_, MPI_COMM_NULL)) {}
  MpiGroup& operator=(MpiGroup&& other) noexcept {
    std::swap(comm_, other.comm_);
    return *this;
  }
  ~MpiGroup() {
    int finalized = 1;
    if (comm_ != MPI_COMM_NULL && MPI_Finalized(&finalized) == MPI_SUCCESS && finalized == 0)
      static_cast<void>(MPI_Comm_free(&comm_));  // nobody to tell
  }
  operator MPI_Comm() const { return comm_; }  // NOLINT(google-explicit-constructor): used as one

 private:
  MPI_Comm comm_;
};

}  // namespace detail

}  // namespace tessera
