#pragma once
// Ranks as MPI processes. Needs an MPI library.

#include <tessera/comm/mpi.hpp>
