// Every sharding x softmax x backend x number of ranks against transformers' logits and greedy continuation.

#include "catch.hpp"

#include <tessera/tessera.hpp>

#include "program/golden.hpp"

using namespace tessera;
using program::Golden;
using program::Outcome;

namespace {

template <class Sharding, class Softmax, class Backend>
void hold_to_golden(const Golden& g, int ranks, const std::vector<index_t>& chunks, double tolerance) {
  INFO(g.name << ": " << Sharding::name << ", " << Softmax::name << ", " << Backend::name() << ", " << ranks
              << " ranks, first chunk " << chunks.front());
  std::vector<Outcome> outcomes(static_cast<std::size_t>(ranks));
  InProcess::run(ranks, [&](Communicator comm) {
    Transformer<Sharding, Softmax, Backend> model(comm, g.config, g.weights, {.limits = program::limits_of(g)});
    outcomes[static_cast<std::size_t>(comm.rank())] = program::run_golden(model, g, chunks);
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
  for (const std::string name : {"qwen3-tiny", "qwen3-uneven", "qwen2-tiny", "llama-tiny", "llama3-tiny"}) {
    const Golden g = program::load_golden(std::filesystem::path(TESSERA_GOLDEN) / name);
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
