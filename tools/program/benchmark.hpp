#pragma once
// Times a model as people use it: a prompt at once, or token after token, and what that is of what the machine allows.

#include <optional>
#include <string>
#include <vector>

#include <tessera/runtime/any_model.hpp>
#include <tessera/runtime/trace_file.hpp>

#include "program/machine_peak.hpp"
#include "program/model_options.hpp"

namespace tessera::program {

enum class BenchmarkPhase { prefill, decode };

[[nodiscard]] constexpr std::string_view name_of(BenchmarkPhase phase) {
  return phase == BenchmarkPhase::prefill ? "prefill" : "decode";
}

/// One thing to time.
struct BenchmarkCase {
  BenchmarkPhase phase = BenchmarkPhase::prefill;
  index_t prompt_len = 128;
  index_t gen_len = 0;  ///< decode: tokens made of each sequence, behind its prompt
  index_t batch_size = 1;
  bool kv_cache = true;  ///< decode without one runs the whole sequence through the model for each token

  /// Tokens that an iteration is about, of all sequences.
  [[nodiscard]] index_t tokens() const {
    return batch_size * (phase == BenchmarkPhase::prefill ? prompt_len : gen_len);
  }
};

struct BenchmarkRow {
  BenchmarkCase of;
  /// Of the rank with the largest median.
  double seconds_median = 0, seconds_min = 0, seconds_max = 0;
  double seconds_first = 0;   ///< the first time, before warm-up: pages are touched, weights read
  MachinePeak peak;           ///< of all ranks together, around the time of this row
  double seconds_bound = 0;   ///< what that peak of arithmetic or of reading allows at best
  TimeSplit split;            ///< of a further iteration
  index_t bytes_private = 0;  ///< of the rank with the most, without its KV cache
  index_t bytes_cache = 0;    ///< of that rank

  [[nodiscard]] double tokens_per_second() const { return static_cast<double>(of.tokens()) / seconds_median; }
  [[nodiscard]] double percent_of_peak() const { return 100 * seconds_bound / seconds_median; }
};

struct Repetitions {
  index_t warmup = 1;
  index_t iters = 5;
};

/// Runs a case on all ranks, who meet before it and agree after it on `comm`. Collective; the result is the same on
/// all. `trace` belongs to the model, and one iteration after the timed ones is recorded in it; where none is timed, it
/// is the one that counts.
[[nodiscard]] BenchmarkRow run_case(AnyModel& model, Communicator comm, const BenchmarkCase& of,
                                    const Repetitions& repetitions, Trace& trace);

/// Adds what memory a rank of the model has of its own by now. Collective; the same on all ranks.
void measure_memory(BenchmarkRow& row, AnyModel& model);

/// Every rank's numbers, one after the other. Collective.
[[nodiscard]] std::vector<double> gathered(Communicator& comm, std::vector<double> mine);

/// What arithmetic or reading take at least on a machine of this peak.
[[nodiscard]] double seconds_bound(const ModelConfig& config, const Limits& limits, const ModelWeights& weights,
                                   const BenchmarkCase& of, const MachinePeak& peak);

/// Holds a row against the machine's limits, as they were before and after it: what a virtual core gets changes from
/// minute to minute.
void hold_against(BenchmarkRow& row, const AnyModel& model, const ModelWeights& weights, const MachinePeak& before,
                  const MachinePeak& after);

/// Peak of all ranks' teams measured at the same time. Collective; the same on all ranks.
[[nodiscard]] MachinePeak measure_peak_of_all(Communicator& comm, int threads, index_t bytes);

/// How far the logits of a combination are from those of one rank with the scalar reference, in standard deviations of
/// a row: the prompt `ids` in chunks, and some decoded tokens. `layers`: so many of the model's. Collective.
struct Verdict {
  double error = 0;             ///< the largest
  double root_mean_square = 0;  ///< of all
  bool rounds = false;          ///< to few levels: activations, keys and values
  std::vector<token_t> greedy;
  bool equal_ids = false;

  /// What is rounded to few levels may fall to either side of a step, and a sum in another order decides to which. A
  /// few products on, the difference is as large as the rounding itself, about 0.02 in 8 bits; the largest of a million
  /// logits lies five times as far out, so that is not what a wrong path shows in.
  [[nodiscard]] bool good() const { return (rounds ? root_mean_square <= 0.05 : error <= 2e-4) && equal_ids; }
};
[[nodiscard]] Verdict verify_against_reference(Communicator comm, const Policies& policies, const ModelConfig& config,
                                               const ModelWeights& weights, TransformerOptions options,
                                               const std::vector<token_t>& ids, index_t new_tokens, index_t layers);

/// Ids that look like text to a model of random weights: any below `vocab`, the same in every run.
[[nodiscard]] std::vector<token_t> random_ids(index_t count, index_t vocab, unsigned seed = 1);

/// Bytes of weights that a step reads on all ranks together: those of the layers, and lm_head.
struct WeightBytes {
  double layers = 0;
  double lm_head = 0;
};
[[nodiscard]] WeightBytes bytes_of(const ModelWeights& weights);

}  // namespace tessera::program
