#pragma once
// The sizes of a model in use.

#include <tessera/kernels/attention_problem.hpp>

namespace tessera {

/// Sizes that memory is planned for.
struct Limits {
  index_t max_tokens = 512;          ///< rows of one step
  index_t max_positions = 4096;      ///< positions of one sequence
  index_t max_sequences = 1;         ///< sequences in the cache at a time
  index_t max_wanted = 0;            ///< rows of one step that get logits; 0: the last of each sequence
  AttentionBlocks attention = {};    ///< what attention works on at a time
  CacheType cache = CacheType::f32;  ///< what keys and values are stored as
  bool states_merge = false;         ///< the softmax is one whose states merge: less is kept for what travels. A
                                     ///< Transformer says so itself
};

}  // namespace tessera
