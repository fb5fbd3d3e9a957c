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

namespace {

double seconds_now() { return static_cast<double>(trace_clock()) / 1e9; }

/// A batch of sequences in step: prompts together in chunks, then a token of each at a time.
class Batch {
 public:
  Batch(AnyModel& model, index_t sequences, index_t prompt_len)
      : model_(model), next_(static_cast<std::size_t>(sequences)) {
    for (index_t s = 0; s < sequences; ++s)
      texts_.push_back(random_ids(prompt_len, model.config().vocab, static_cast<unsigned>(s + 1)));
  }

  void truncate(index_t length) {
    for (index_t s = 0; s < sequences(); ++s) model_.truncate(s, length);
  }

  /// Runs what the cache lacks of the sequences through the model, as many tokens at a time as it takes, and draws the
  /// next token of each.
  void prefill() {
    for (;;) {
      chunks_.clear(), drawn_.clear();
      index_t room = model_.limits().max_tokens;
      for (index_t s = 0; s < sequences() && room > 0; ++s) {
        const std::span<const token_t> text = texts_[static_cast<std::size_t>(s)];
        const auto rest = text.subspan(static_cast<std::size_t>(model_.length(s)));
        if (rest.empty()) continue;
        const auto count = std::min(rest.size(), static_cast<std::size_t>(room));
        room -= static_cast<index_t>(count);
        const bool last = count == rest.size();
        chunks_.push_back({s, rest.first(count), last ? Wanted::last : Wanted::none});
        if (last) drawn_.push_back(s);
      }
      if (chunks_.empty()) return;
      step();
    }
  }

  /// Appends the tokens drawn last, and draws the next ones.
  void decode_step() {
    chunks_.clear(), drawn_.clear();
    for (index_t s = 0; s < sequences(); ++s) {
      chunks_.push_back({s, {&next_[static_cast<std::size_t>(s)], 1}, Wanted::last});
      drawn_.push_back(s);
    }
    step();
  }

  /// The same without a cache: everything so far is computed again.
  void decode_step_without_cache() {
    for (std::size_t s = 0; s < texts_.size(); ++s) texts_[s].push_back(next_[s]);
    truncate(0);
    prefill();
  }

  void forget_new_tokens(index_t prompt_len) {
    for (std::vector<token_t>& text : texts_) text.resize(static_cast<std::size_t>(prompt_len));
  }

 private:
  [[nodiscard]] index_t sequences() const { return static_cast<index_t>(texts_.size()); }

  void step() {
    const Logits logits = model_.step(chunks_);
    ids_.resize(drawn_.size());
    argmax_(model_.comm(), logits, ids_);
    for (std::size_t i = 0; i < drawn_.size(); ++i) next_[static_cast<std::size_t>(drawn_[i])] = ids_[i];
  }

  AnyModel& model_;
  std::vector<std::vector<token_t>> texts_;
  std::vector<token_t> next_, ids_;
  std::vector<Chunk> chunks_;
  std::vector<index_t> drawn_;
  Argmax argmax_;
};

/// Calls prepare() and then work(), of which the seconds are returned. All ranks begin together.
template <class Prepare, class Work>
double timed(Communicator& comm, Prepare&& prepare, Work&& work) {
  prepare();
  comm.barrier();
  const double begin = seconds_now();
  work();
  return seconds_now() - begin;
}

/// Every rank's numbers, one after the other.
std::vector<double> gathered(Communicator& comm, std::vector<double> mine) {
  const auto ranks = static_cast<std::size_t>(comm.size());
  std::vector<double> all(mine.size() * ranks);
  comm.allgather<double>(mine, std::span(all), std::vector<index_t>(ranks, static_cast<index_t>(mine.size())));
  return all;
}

/// Arithmetic and bytes of `rows` new tokens of one sequence behind `context`, with logits of the last, per step.
double best_seconds(const ModelConfig& m, CacheType stored, const WeightBytes& weights, const MachinePeak& peak,
                    index_t sequences, index_t context, index_t rows, index_t steps_over_weights) {
  double layer_weights = 0;  // elements
  const index_t q = m.heads * m.head_dim;
  const index_t kv = m.kv_heads * m.head_dim;
  const index_t kv_bytes = 2 * m.kv_heads * bytes_of_head(stored, m.head_dim);
  layer_weights = static_cast<double>(m.layers * m.hidden * (2 * q + 2 * kv + 3 * m.intermediate));
  const auto n = static_cast<double>(rows);
  const double pairs = n * static_cast<double>(context) + n * (n + 1) / 2;
  const double flops = 2 * layer_weights * n + 4 * pairs * static_cast<double>(q * m.layers) +
                       2 * static_cast<double>(m.vocab * m.hidden);
  const double cache = static_cast<double>(m.layers * kv_bytes) * static_cast<double>(context + rows);
  const double bytes = static_cast<double>(steps_over_weights) * weights.layers + weights.lm_head +
                       static_cast<double>(sequences) * cache;
  return std::max(static_cast<double>(sequences) * flops / peak.flops, bytes / peak.bandwidth());
}

double bound_of(const AnyModel& model, const ModelWeights& weights, const BenchmarkCase& of, const MachinePeak& peak) {
  const WeightBytes bytes = bytes_of(weights);
  const auto whole = [&](index_t length) {
    const index_t steps = ceil_div(length * of.batch_size, model.limits().max_tokens);
    return best_seconds(model.config(), model.limits().cache, bytes, peak, of.batch_size, 0, length, steps);
  };
  if (of.phase == BenchmarkPhase::prefill) return whole(of.prompt_len);
  double seconds = 0;
  for (index_t i = 0; i < of.gen_len; ++i)
    seconds += of.kv_cache ? best_seconds(model.config(), model.limits().cache, bytes, peak, of.batch_size,
                                          of.prompt_len + i, 1, 1)
                           : whole(of.prompt_len + i + 1);
  return seconds;
}

}  // namespace

std::vector<token_t> random_ids(index_t count, index_t vocab, unsigned seed) {
  std::minstd_rand random(seed);
  std::vector<token_t> ids(static_cast<std::size_t>(count));
  for (token_t& id : ids) id = static_cast<token_t>(static_cast<index_t>(random()) % vocab);
  return ids;
}

WeightBytes bytes_of(const ModelWeights& weights) {
  const auto bytes = [](const WeightView& w) {
    const index_t scales = w.scales == nullptr ? 0 : w.rows * w.scale_stride() * static_cast<index_t>(sizeof(f16_t));
    return static_cast<double>(bytes_of(w.dtype, w.rows * w.cols) + scales);
  };
  WeightBytes sum;
  for (const LayerWeights& layer : weights.layers)
    for (const WeightView* w : {&layer.q_proj, &layer.k_proj, &layer.v_proj, &layer.o_proj, &layer.gate_proj,
                                &layer.up_proj, &layer.down_proj})
      sum.layers += bytes(*w);
  sum.lm_head = bytes(weights.lm_head);
  return sum;
}

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

BenchmarkRow run_case(AnyModel& model, const BenchmarkCase& of, const Repetitions& repetitions, Trace& trace) {
  Communicator& comm = model.comm();
  Batch batch(model, of.batch_size, of.prompt_len);
  batch.truncate(0);
  const bool decode = of.phase == BenchmarkPhase::decode;
  if (decode) batch.prefill();
  const auto prepare = [&] {
    batch.forget_new_tokens(of.prompt_len);
    if (!decode) batch.truncate(0);
    if (decode && of.kv_cache) batch.truncate(of.prompt_len);
  };
  const auto work = [&] {
    if (!decode) return batch.prefill();
    for (index_t i = 0; i < of.gen_len; ++i) {
      if (of.kv_cache)
        batch.decode_step();
      else
        batch.decode_step_without_cache();
    }
  };

  std::vector<double> seconds;
  BenchmarkRow row;
  row.of = of;
  for (index_t i = 0; i < repetitions.warmup + repetitions.iters; ++i) {
    const double here = timed(comm, prepare, work);
    if (i == 0) row.seconds_first = here;
    if (i >= repetitions.warmup) seconds.push_back(here);
  }
  std::sort(seconds.begin(), seconds.end());
  const std::size_t n = seconds.size();
  const double median = n % 2 == 1 ? seconds[n / 2] : (seconds[n / 2 - 1] + seconds[n / 2]) / 2;

  const std::int64_t since = trace_clock();
  const double recorded = timed(comm, prepare, [&] {
    trace.record(true);  // not before: the ranks have met, and nobody waits for that any more
    work();
    trace.record(false);
  });
  row.split = split_time(comm, trace, recorded, since);

  const auto cache = static_cast<double>(model.cache_bytes());
  const auto private_bytes = std::max(0.0, static_cast<double>(private_dirty_bytes()) - cache);
  const std::vector<double> all =
      gathered(comm, {median, seconds.front(), seconds.back(), row.seconds_first, private_bytes, cache});
  for (std::size_t i = 0; i < all.size(); i += 6) {
    if (all[i] >= row.seconds_median)
      row.seconds_median = all[i], row.seconds_min = all[i + 1], row.seconds_max = all[i + 2];
    row.seconds_first = std::max(row.seconds_first, all[i + 3]);
    if (static_cast<index_t>(all[i + 4]) >= row.bytes_private) {
      row.bytes_private = static_cast<index_t>(all[i + 4]);
      row.bytes_cache = static_cast<index_t>(all[i + 5]);
    }
  }
  return row;
}

void hold_against(BenchmarkRow& row, const AnyModel& model, const ModelWeights& weights, const MachinePeak& before,
                  const MachinePeak& after) {
  row.peak = {(before.flops + after.flops) / 2, (before.file_bandwidth + after.file_bandwidth) / 2,
              (before.buffer_bandwidth + after.buffer_bandwidth) / 2};
  row.seconds_bound = bound_of(model, weights, row.of, row.peak);
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
  // Activations that are rounded to 8 bits may fall to either side of a step.
  if (weights.layers.front().q_proj.arithmetic == Arithmetic::int8) verdict.tolerance = 0.05;
  std::vector<float> expected;
  {
    TransformerOptions alone{.limits = options.limits, .threads = options.threads};
    const auto model = reference_combination("scalar").make(Communicator(Loopback{}), part, part_weights, alone);
    expected = run(*model, verdict.greedy, false);
  }
  const auto model = policies.combination->make(std::move(comm), part, part_weights, options);
  const std::vector<float> found = run(*model, verdict.greedy, true);
  verdict.error = worst_error(found.data(), expected.data(), new_tokens + 1, vocab);
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
