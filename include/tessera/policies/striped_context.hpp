#pragma once
// What attention over striped keys is made from.

#include <vector>

#include <tessera/policies/sharding.hpp>

namespace tessera {

/// What attention over striped keys is made from: the query heads of every rank, and the stripes of the cache.
struct StripedContext {
  Communicator comm;
  ModelConfig config;
  Limits limits;               ///< max_tokens: rows of one step
  index_t heads;               ///< query heads over which the stripes are attended to
  std::vector<Range> q_heads;  ///< among these, the ones that each rank of `comm` goes on with
};

}  // namespace tessera
