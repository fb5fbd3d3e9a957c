#pragma once
// What a model is asked for and what it answers, whatever its policies.

#include <span>
#include <vector>

#include <tessera/core/trace.hpp>
#include <tessera/core/view.hpp>
#include <tessera/policies/limits.hpp>

namespace tessera {

/// Which rows of a chunk get logits.
enum class Wanted : std::uint8_t { none, last, all };

/// The next tokens of one sequence: its positions continue where the cache ends.
struct Chunk {
  index_t sequence = 0;
  std::span<const token_t> tokens;
  Wanted logits = Wanted::last;
};

/// Logits of the wanted rows, in the order of the step; a rank holds the columns of its part of the vocabulary.
struct Logits {
  ConstActivations local;  ///< [wanted rows, vocab.size()]
  Range vocab;             ///< ids of the local columns
};

/// How large a model may grow in use, and what it may use.
struct TransformerOptions {
  Limits limits;
  int threads = 1;
  std::vector<double> shares = {};  ///< how the ranks share the work; empty: equally
  bool overlap = false;         ///< hide what travels behind what is computed, where the policy can; for slow networks
  index_t inner = 1;            ///< ranks of the inner dimension of a Hybrid; consecutive ranks are neighbours in it
  bool copies_weights = false;  ///< each rank copies what decode reads of them into huge pages of its own
  Trace* trace = nullptr;       ///< where the threads of this rank write down what they do; it outlives the model
};

}  // namespace tessera
