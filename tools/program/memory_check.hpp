#pragma once
// A model that does not fit is refused before anything is loaded, with the figure and what would fit.

#include <tessera/io/checkpoint.hpp>
#include <tessera/runtime/footprint.hpp>

#include "program/model_options.hpp"

namespace tessera::program {

/// Where a model's ranks are to run, and how it is to be split: the same on all of them.
struct MemoryPlan {
  const ModelConfig& config;
  Policies policies;
  BytesPerNumber bytes;           ///< as used
  bool converts_layers = false;   ///< each rank converts all of them into memory of its own
  bool converts_lm_head = false;  ///< the same of lm_head, and of the embedding where the two are tied
  bool copies = false;            ///< each rank copies what decode reads of them
  int threads = 1;                ///< of a rank
};

[[nodiscard]] MemoryPlan memory_plan(const ModelOptions& options, const ModelConfig& config, const StoredTypes& stored,
                                     index_t ranks, int threads);

/// The element types of the first of the layers' matrices and of lm_head: a header is read, no weight is.
[[nodiscard]] StoredTypes stored_types(const Checkpoint& checkpoint, const ModelConfig& config);

/// What rank `rank` of `ranks` keeps for itself: cache, activations and exchange buffers, and converted weights.
[[nodiscard]] index_t own_bytes(const MemoryPlan& plan, index_t rank, index_t ranks, Limits limits);

/// Throws Error on all ranks where those of one machine would keep more for themselves than it has free. Mapped weights
/// do not count: they may be read again when their pages are needed for something else. Collective.
void require_memory(Communicator comm, const MemoryPlan& plan, const Limits& limits);

}  // namespace tessera::program
