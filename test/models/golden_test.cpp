// Every sharding x softmax x backend x number of ranks against transformers' logits and greedy continuation.

#include "catch.hpp"

#include <tessera/comm/in_process.hpp>

#include "program/combinations.hpp"
#include "program/golden.hpp"

using namespace tessera;
using program::Golden;
using program::Outcome;

namespace {

/// Whether the sharding takes so many ranks; nothing but their number may be a reason that it does not.
bool can_use(const Combination& row, const ModelConfig& config, int ranks) {
  try {
    row.check(config, {0, ranks});
    return true;
  } catch (const Error&) {
    CHECK(ranks > config.heads);
    return false;
  }
}

void hold_to_golden(const Combination& row, const Golden& g, int ranks, const std::vector<index_t>& chunks) {
  INFO(g.name << ": " << row.sharding << ", " << row.softmax << ", " << row.backend << ", " << ranks
              << " ranks, first chunk " << chunks.front());
  std::vector<Outcome> outcomes(static_cast<std::size_t>(ranks));
  InProcess::run(ranks, [&](Communicator comm) {
    const auto model = row.make(comm, g.config, g.weights, {.limits = program::limits_of(g)});
    outcomes[static_cast<std::size_t>(comm.rank())] = program::run_golden(*model, g, chunks);
  });
  for (const Outcome& outcome : outcomes) {
    CHECK(outcome.worst <= (row.backend == "scalar" ? 1e-4 : 2e-4));
    CHECK(outcome.greedy == g.greedy);
    CHECK(outcome.last_logits == outcomes.front().last_logits);  // the same bits on every rank
  }
}

}  // namespace

TEST_CASE("logits and greedy ids of every combination equal those of transformers") {
  const auto* const name = GENERATE("qwen3-tiny", "qwen3-uneven", "qwen2-tiny", "llama-tiny", "llama3-tiny");
  const Golden g = program::load_golden(std::filesystem::path(TESSERA_GOLDEN) / name);
  for (const Combination& row : program::shipped_combinations())
    for (const int ranks : {1, 2, 3, 4, 6, 8}) {
      if (!can_use(row, g.config, ranks)) continue;
      hold_to_golden(row, g, ranks, {1 << 20});
      hold_to_golden(row, g, ranks, {5, 1, 17, 3});
    }
}

TEST_CASE("the same run gives the same bits again") {
  const Golden g = program::load_golden(std::filesystem::path(TESSERA_GOLDEN) / "qwen3-uneven");
  for (const Combination& row : program::shipped_combinations()) {
    INFO(row.sharding << ", " << row.softmax << ", " << row.backend);
    std::vector<float> first;
    for (int repeat = 0; repeat < 3; ++repeat) {
      std::vector<float> last;
      InProcess::run(3, [&](Communicator comm) {
        const auto model = row.make(comm, g.config, g.weights, {.limits = program::limits_of(g), .threads = 2});
        const Outcome outcome = program::run_golden(*model, g, {7});
        if (comm.rank() == 0) last = outcome.last_logits;
      });
      if (repeat == 0) first = last;
      CHECK(last == first);
    }
  }
}
