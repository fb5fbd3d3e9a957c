#pragma once
// What the options say about ranks, before a model is made: their cores, what carries their data, and how.

#include <string>

#include <tessera/comm/placement.hpp>

#include "program/model_options.hpp"

namespace tessera::program {

struct RankSetup {
  Communicator comm;  ///< what the model communicates by
  int threads = 1;
  bool overlap = false;
  std::string text;  ///< for the report
};

/// Chooses the transport of ranks that have been placed; `comm` are all ranks of the program. Collective.
[[nodiscard]] RankSetup set_up_ranks(Communicator comm, const ModelOptions& options, const Placement& placement);

}  // namespace tessera::program
