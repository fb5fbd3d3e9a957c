// One case of a benchmark: the steps that are timed.
#include <algorithm>
#include <random>

#include <tessera/runtime/vocabulary.hpp>

#include "program/benchmark.hpp"

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

}  // namespace

std::vector<double> gathered(Communicator& comm, std::vector<double> mine) {
  const auto ranks = static_cast<std::size_t>(comm.size());
  std::vector<double> all(mine.size() * ranks);
  comm.allgather<double>(mine, std::span(all), std::vector<index_t>(ranks, static_cast<index_t>(mine.size())));
  return all;
}

std::vector<token_t> random_ids(index_t count, index_t vocab, unsigned seed) {
  std::minstd_rand random(seed);
  std::vector<token_t> ids(static_cast<std::size_t>(count));
  for (token_t& id : ids) id = static_cast<token_t>(static_cast<index_t>(random()) % vocab);
  return ids;
}

BenchmarkRow run_case(AnyModel& model, Communicator comm, const BenchmarkCase& of, const Repetitions& repetitions,
                      Trace& trace) {
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
  const std::int64_t since = trace_clock();
  const double recorded = timed(comm, prepare, [&] {
    trace.record(true);  // not before: the ranks have met, and nobody waits for that any more
    work();
    trace.record(false);
  });
  row.split = split_time(comm, trace, recorded, since);

  if (seconds.empty()) seconds.push_back(recorded);
  std::sort(seconds.begin(), seconds.end());
  const std::size_t n = seconds.size();
  const double median = n % 2 == 1 ? seconds[n / 2] : (seconds[n / 2 - 1] + seconds[n / 2]) / 2;
  const std::vector<double> all = gathered(comm, {median, seconds.front(), seconds.back(), row.seconds_first});
  for (std::size_t i = 0; i < all.size(); i += 4) {
    if (all[i] >= row.seconds_median)
      row.seconds_median = all[i], row.seconds_min = all[i + 1], row.seconds_max = all[i + 2];
    row.seconds_first = std::max(row.seconds_first, all[i + 3]);
  }
  return row;
}

}  // namespace tessera::program
