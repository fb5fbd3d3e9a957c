#include "program/benchmark.hpp"

#include <algorithm>
#include <fstream>
#include <random>

#include <tessera/comm/loopback.hpp>
#include <tessera/runtime/generate.hpp>
#include <tessera/runtime/vocabulary.hpp>

#include "program/combinations.hpp"
#include "program/golden.hpp"
#include "program/machine_memory.hpp"

namespace tessera::program {

MachinePeak measure_peak_of_all(Communicator& comm, int threads, index_t bytes) {
  MachinePeak mine;
  {
    Team team(threads);
    comm.barrier();
    mine = measure_peak(team, bytes / comm.size());
  }
  const std::vector<double> all = gathered(comm, {mine.flops, mine.file_bandwidth, mine.buffer_bandwidth});
  MachinePeak sum;
  for (std::size_t i = 0; i < all.size(); i += 3)
    sum.flops += all[i], sum.file_bandwidth += all[i + 1], sum.buffer_bandwidth += all[i + 2];
  return sum;
}

void measure_memory(BenchmarkRow& row, AnyModel& model) {
  const auto cache = static_cast<double>(model.cache_bytes());
  const auto private_bytes = std::max(0.0, static_cast<double>(anonymous_bytes()) - cache);
  const std::vector<double> all = gathered(model.comm(), {private_bytes, cache});
  for (std::size_t i = 0; i < all.size(); i += 2)
    if (static_cast<index_t>(all[i]) >= row.bytes_private) {
      row.bytes_private = static_cast<index_t>(all[i]);
      row.bytes_cache = static_cast<index_t>(all[i + 1]);
    }
}

Verdict verify_against_reference(Communicator comm, const Policies& policies, const ModelConfig& config,
                                 const ModelWeights& weights, TransformerOptions options,
                                 const std::vector<token_t>& ids, index_t new_tokens, index_t layers) {
  ModelConfig part = config;
  part.layers = std::min(layers, config.layers);
  ModelWeights part_weights = weights;
  part_weights.layers.resize(static_cast<std::size_t>(part.layers));
  const auto length = static_cast<index_t>(ids.size());
  const index_t vocab = config.vocab;
  options.trace = nullptr;
  options.limits = {.max_tokens = std::max<index_t>(1, length / 2),
                    .max_positions = length + new_tokens,
                    .max_sequences = 1,
                    .attention = options.limits.attention,
                    .cache = options.limits.cache};

  /// Rows of logits: of the prompt's last token, and of each new one.
  const auto run = [&](AnyModel& model, std::vector<token_t>& greedy, bool forced) {
    std::vector<float> rows;
    Argmax argmax;
    const auto keep = [&](const Logits& logits) {
      const Buffer<float> row = gather_logits(model.comm(), logits, model.ranks(), vocab);
      rows.insert(rows.end(), row.data(), row.data() + vocab);
      token_t best = 0;
      argmax(model.comm(), logits, {&best, 1});
      return best;
    };
    token_t next = keep(prefill(model, 0, ids, [](index_t) {}));
    for (index_t n = 0; n < new_tokens; ++n) {
      if (!forced) greedy.push_back(next);
      const Chunk chunk{0, {&greedy[static_cast<std::size_t>(n)], 1}, Wanted::last};
      next = keep(model.step({&chunk, 1}));
    }
    return rows;
  };

  Verdict verdict;
  verdict.rounds =
      weights.layers.front().q_proj.arithmetic != Arithmetic::f32 || options.limits.cache != CacheType::f32;
  std::vector<float> expected;
  {
    TransformerOptions alone{.limits = options.limits, .threads = options.threads};
    const auto model = reference_combination("scalar").make(Communicator(Loopback{}), part, part_weights, alone);
    expected = run(*model, verdict.greedy, false);
  }
  const auto model = policies.combination->make(std::move(comm), part, part_weights, options);
  const std::vector<float> found = run(*model, verdict.greedy, true);
  Outcome outcome;
  add_errors(found.data(), expected.data(), new_tokens + 1, vocab, outcome);
  verdict.error = outcome.worst;
  verdict.root_mean_square = outcome.rms();
  // Where the two best logits are closer than the error, either is right.
  verdict.equal_ids = true;
  for (index_t n = 0; n <= new_tokens; ++n) {
    const float* row = found.data() + n * vocab;
    const float* reference = expected.data() + n * vocab;
    const auto id = std::max_element(row, row + vocab) - row;
    const auto wanted = std::max_element(reference, reference + vocab) - reference;
    verdict.equal_ids = verdict.equal_ids && (id == wanted || top_gap(reference, vocab) <= 2 * verdict.error);
  }
  return verdict;
}

}  // namespace tessera::program
