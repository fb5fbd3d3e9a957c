#pragma once
// The library without MPI, files and text: types, policies, models, and communicators inside one process.
// tessera/mpi.hpp, tessera/io.hpp and tessera/text.hpp bring the rest.

#include <tessera/comm/in_process.hpp>
#include <tessera/comm/loopback.hpp>
#include <tessera/core/version.hpp>
#include <tessera/models/transformer.hpp>
#include <tessera/runtime/generate.hpp>
#if defined(TESSERA_EXTERN_TEMPLATES)
#include <tessera/runtime/instances.hpp>
#endif
