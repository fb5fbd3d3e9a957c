// Every sharding x softmax x backend x number of ranks against transformers' logits and greedy continuation.

#include "catch.hpp"
#include "models/golden.hpp"

#include <tessera/tessera.hpp>

using namespace tessera;

namespace {

struct Outcome {
  double worst = 0;  ///< largest |logit error| in units of its row's standard deviation
  std::vector<token_t> greedy;
  std::vector<float> last_logits;
};

double row_deviation(const float* row, index_t n) {
  double mean = 0, squares = 0;
  for (index_t i = 0; i < n; ++i) mean += row[i];
  mean /= static_cast<double>(n);
  for (index_t i = 0; i < n; ++i) squares += (row[i] - mean) * (row[i] - mean);
  return std::sqrt(squares / static_cast<double>(n));
}

double worst_error(const float* found, const float* expected, index_t rows, index_t vocab) {
  double worst = 0;
  for (index_t r = 0; r < rows; ++r) {
    const double deviation = row_deviation(expected + r * vocab, vocab);
    for (index_t i = 0; i < vocab; ++i) {
      const double error = std::abs(static_cast<double>(found[r * vocab + i]) - expected[r * vocab + i]) / deviation;
      worst = std::isnan(error) ? INFINITY : std::max(worst, error);
    }
  }
  return worst;
}

/// Prefill in chunks of the given sizes (the last one repeats), then greedy decoding, on one rank of `comm`.
template <class Model>
Outcome run(const golden::Golden& g, Communicator comm, const std::vector<index_t>& chunk_sizes) {
  Model model(comm, g.config, g.weights, {.limits = {.max_tokens = 64, .max_positions = 96, .max_sequences = 1}});
  Outcome outcome;
  const Ranks ranks{comm.rank(), comm.size()};
  Argmax argmax;
  token_t next = 0;
  const std::span<const token_t> prompt = g.prompt;
  for (std::size_t done = 0, c = 0; done < prompt.size(); ++c) {
    const auto size = static_cast<std::size_t>(chunk_sizes[std::min(c, chunk_sizes.size() - 1)]);
    const std::size_t count = std::min(size, prompt.size() - done);
    const Chunk chunk{0, prompt.subspan(done, count), Wanted::all};
    const Logits logits = model.step({&chunk, 1});
    const Buffer<float> rows = gather_logits(comm, logits, ranks, g.config.vocab);
    outcome.worst = std::max(outcome.worst, worst_error(rows.data(), g.logits.data() + done * g.config.vocab,
                                                        static_cast<index_t>(count), g.config.vocab));
    done += count;
    std::vector<token_t> best(count);
    argmax(comm, logits, best);
    next = best.back();
  }
  for (std::size_t n = 0; n < g.greedy.size(); ++n) {
    outcome.greedy.push_back(next);
    const Chunk chunk{0, {&next, 1}, Wanted::last};
    const Logits logits = model.step({&chunk, 1});
    const Buffer<float> row = gather_logits(comm, logits, ranks, g.config.vocab);
    outcome.last_logits.assign(row.data(), row.data() + g.config.vocab);
    argmax(comm, logits, {&next, 1});
  }
  return outcome;
}

template <class Sharding, class Softmax, class Backend>
void hold_to_golden(const golden::Golden& g, int ranks, const std::vector<index_t>& chunks, double tolerance) {
  INFO(g.name << ": " << Sharding::name << ", " << Softmax::name << ", " << Backend::name() << ", " << ranks
              << " ranks, first chunk " << chunks.front());
  std::vector<Outcome> outcomes(static_cast<std::size_t>(ranks));
  InProcess::run(ranks, [&](Communicator comm) {
    outcomes[static_cast<std::size_t>(comm.rank())] = run<Transformer<Sharding, Softmax, Backend>>(g, comm, chunks);
  });
  for (const Outcome& outcome : outcomes) {
    CHECK(outcome.worst <= tolerance);
    CHECK(outcome.greedy == g.greedy);
    CHECK(outcome.last_logits == outcomes.front().last_logits);  // the same bits on every rank
  }
}

template <class Sharding>
bool can_use(const ModelConfig& config, int ranks) {
  try {
    Sharding::check(config, {0, ranks});
    return true;
  } catch (const Error&) {
    CHECK(ranks > config.heads);  // nothing else is a reason
    return false;
  }
}

template <class Sharding, class Softmax, class Backend>
void hold_on_all_ranks(double tolerance) {
  for (const std::string& name : golden::names()) {
    const golden::Golden g = golden::load(name);
    for (const int ranks : {1, 2, 3, 4, 6, 8}) {
      if (!can_use<Sharding>(g.config, ranks)) continue;
      hold_to_golden<Sharding, Softmax, Backend>(g, ranks, {64}, tolerance);
      hold_to_golden<Sharding, Softmax, Backend>(g, ranks, {5, 1, 17, 3}, tolerance);
    }
  }
}

}  // namespace

TEMPLATE_TEST_CASE("logits and greedy ids equal those of transformers", "", HeadWise, HeadWiseScattered, Sequence<>,
                   Sequence<RingKv>, Ulysses) {
  hold_on_all_ranks<TestType, OnlineSoftmax, XsimdBackend<>>(2e-4);
  hold_on_all_ranks<TestType, StandardSoftmax, XsimdBackend<>>(2e-4);
  hold_on_all_ranks<TestType, OnlineSoftmax, ScalarBackend>(1e-4);
  hold_on_all_ranks<TestType, StandardSoftmax, ScalarBackend>(1e-4);
}
