#pragma once
// A golden checkpoint: a small model with the logits and the greedy continuation that transformers computed for it; and
// a model run against it.

#include <cmath>
#include <filesystem>
#include <string>
#include <vector>

#include <tessera/io/checkpoint.hpp>
#include <tessera/io/hf_config.hpp>
#include <tessera/runtime/load_weights.hpp>
#include <tessera/runtime/vocabulary.hpp>

namespace tessera::program {

struct Golden {
  std::string name;
  ModelConfig config;
  ModelWeights weights;
  std::vector<token_t> prompt;
  std::vector<float> logits;  ///< [prompt, vocab]
  std::vector<token_t> greedy;
  CacheType cache = CacheType::f32;

  [[nodiscard]] const float* row(std::size_t i) const {
    return logits.data() + i * static_cast<std::size_t>(config.vocab);
  }
};

/// The folder itself if it is a golden checkpoint, else those in it, by name. Throws Error if there is none.
[[nodiscard]] std::vector<std::filesystem::path> golden_folders(const std::filesystem::path& folder);

/// Reads config.json, the weights and golden.safetensors (input_ids i64 [T], logits f32 [T, V], greedy_ids i64 [N]).
/// Throws Error if something is missing or of the wrong shape.
[[nodiscard]] Golden load_golden(const std::filesystem::path& folder);

/// What a model gave, held against a golden.
struct Outcome {
  double worst = 0;                ///< largest |logit error| of the prompt, in standard deviations of its row
  double squares = 0;              ///< sum of their squares, in the same unit
  index_t logits = 0;              ///< how many
  double smallest_gap = INFINITY;  ///< between the best and the next logit of a generated token, in the same unit
  std::vector<token_t> greedy;
  std::vector<float> last_logits;  ///< of the last decode step

  /// Root mean square of the logit errors.
  [[nodiscard]] double rms() const { return logits == 0 ? 0 : std::sqrt(squares / static_cast<double>(logits)); }
  [[nodiscard]] bool good(const Golden& golden, double tolerance) const {
    return worst <= tolerance && greedy == golden.greedy;
  }
};

/// What the errors of a run may be, in that unit: a scalar sum and a vector sum round differently; and where a cache
/// rounds, a key that two sums put to either side of an edge moves by a step of its format.
[[nodiscard]] inline double tolerance_of(CacheType cache, std::string_view backend) {
  switch (cache) {
    case CacheType::bf16:
    case CacheType::int8: return 0.05;
    case CacheType::f32: break;
  }
  return backend == "scalar" ? 1e-4 : 2e-4;
}
/// Standard deviation of a row of logits, the unit of its errors.
[[nodiscard]] double row_deviation(const float* row, index_t n);
/// Takes |found - expected| over the rows' standard deviations into `outcome`; infinite where a NaN is found.
void add_errors(const float* found, const float* expected, index_t rows, index_t vocab, Outcome& outcome);
/// The largest of them.
[[nodiscard]] inline double worst_error(const float* found, const float* expected, index_t rows, index_t vocab) {
  Outcome outcome;
  add_errors(found, expected, rows, vocab, outcome);
  return outcome.worst;
}
/// Distance of the best logit from the next, in standard deviations of the row.
[[nodiscard]] double top_gap(const float* row, index_t n);

/// Sizes that hold a golden's prompt and continuation.
[[nodiscard]] inline Limits limits_of(const Golden& golden) {
  const auto prompt = static_cast<index_t>(golden.prompt.size());
  return {.max_tokens = prompt,
          .max_positions = prompt + static_cast<index_t>(golden.greedy.size()),
          .max_sequences = 1,
          .cache = golden.cache};
}

/// Prefill in chunks of the given sizes (the last one repeats), then greedy decoding. `model` is fresh.
template <class Model>
[[nodiscard]] Outcome run_golden(Model& model, const Golden& golden, const std::vector<index_t>& chunk_sizes) {
  const index_t vocab = golden.config.vocab;
  Communicator& comm = model.comm();
  Outcome outcome;
  Argmax argmax;
  token_t next = 0;
  const std::span<const token_t> prompt = golden.prompt;
  for (std::size_t done = 0, c = 0; done < prompt.size(); ++c) {
    const auto size = static_cast<std::size_t>(chunk_sizes[std::min(c, chunk_sizes.size() - 1)]);
    const std::size_t count = std::min(size, prompt.size() - done);
    const Chunk chunk{0, prompt.subspan(done, count), Wanted::all};
    const Logits logits = model.step({&chunk, 1});
    const Buffer<float> rows = gather_logits(comm, logits, model.ranks(), vocab);
    add_errors(rows.data(), golden.row(done), static_cast<index_t>(count), vocab, outcome);
    done += count;
    std::vector<token_t> best(count);
    argmax(comm, logits, best);
    next = best.back();
  }
  for (std::size_t n = 0; n < golden.greedy.size(); ++n) {
    outcome.greedy.push_back(next);
    const Chunk chunk{0, {&next, 1}, Wanted::last};
    const Logits logits = model.step({&chunk, 1});
    const Buffer<float> row = gather_logits(comm, logits, model.ranks(), vocab);
    outcome.last_logits.assign(row.data(), row.data() + vocab);
    outcome.smallest_gap = std::min(outcome.smallest_gap, top_gap(row.data(), vocab));
    argmax(comm, logits, {&next, 1});
  }
  return outcome;
}

}  // namespace tessera::program
