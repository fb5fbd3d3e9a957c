// Products in bf16: what it costs in the logits of the golden checkpoints, and that ranks agree.

#include "catch.hpp"

#include <tessera/comm/in_process.hpp>
#include <tessera/runtime/load_weights.hpp>

#include "program/combinations.hpp"
#include "program/golden.hpp"

using namespace tessera;

#if defined(__AVX512BF16__)
TEST_CASE("logits of products in bf16 stay within a fifth of a standard deviation") {
  const std::filesystem::path golden = TESSERA_GOLDEN;
  for (const auto* const name : {"qwen3-tiny", "qwen2-tiny", "llama3-tiny", "llama-tiny"}) {
    program::Golden g = program::load_golden(golden / name);
    WeightFormats formats;
    formats.stored = Arithmetic::bf16;
    g.weights = load_weights(Checkpoint::open(golden / name), g.config, formats);
    for (const Combination& row : program::shipped_combinations()) {
      if (row.backend != "native" || row.softmax != "online_softmax" || row.is_hybrid()) continue;
      for (const int ranks : {1, 2, 3}) {
        INFO(name << ": " << row.sharding << ", " << ranks << " ranks");
        std::vector<program::Outcome> outcomes(static_cast<std::size_t>(ranks));
        InProcess::run(ranks, [&](Communicator comm) {
          const auto model = row.make(comm, g.config, g.weights, {.limits = program::limits_of(g)});
          outcomes[static_cast<std::size_t>(comm.rank())] = program::run_golden(*model, g, {1 << 20});
        });
        CHECK(outcomes[0].worst > 1e-4);  // f32 would be closer: bf16 was used
        CHECK(outcomes[0].worst < 0.2);
        for (const auto& outcome : outcomes) CHECK(outcome.last_logits == outcomes[0].last_logits);
      }
    }
  }
}
#endif
