// Copies of the weights that decode reads: the same bits as from the mapped file, and no more memory than the slice.
#include "catch.hpp"

#include <tessera/comm/in_process.hpp>
#include <tessera/runtime/footprint.hpp>
#include <tessera/runtime/load_weights.hpp>

#include "program/combinations.hpp"
#include "program/golden.hpp"

using namespace tessera;

namespace {

struct CopyRun {
  std::vector<float> last_logits;
  std::vector<token_t> greedy;
  std::size_t copied_bytes = 0;
};

std::vector<CopyRun> run_with_copies(const Combination& row, const program::Golden& g, int ranks, bool copies) {
  return InProcess::run(ranks, [&](Communicator comm) {
    const auto model = row.make(std::move(comm), g.config, g.weights,
                                {.limits = program::limits_of(g),
                                 .threads = ranks == 1 ? 2 : 1,
                                 .inner = row.is_hybrid() && ranks == 3 ? 3 : 1,
                                 .copies_weights = copies});
    const program::Outcome outcome = program::run_golden(*model, g, {5, 1, 17, 3});
    return CopyRun{outcome.last_logits, outcome.greedy, model->copied_bytes()};
  });
}

}  // namespace

TEST_CASE("copies of weights give the same bits under every sharding, and take what their slice does") {
  const std::filesystem::path folder = std::filesystem::path(TESSERA_GOLDEN) / "qwen3-uneven";
  for (const char* const format : {"stored", "int8", "int4"}) {
    program::Golden g = program::load_golden(folder);
    g.weights = load_weights(Checkpoint::open(folder), g.config, {format, ""});
    for (const Combination& row : program::shipped_combinations()) {
      if (row.backend != "native" || row.softmax != "online_softmax") continue;
      if (std::string_view(format) != "stored" && row.sharding != "headwise")
        continue;  // columns of blocks are cut alike
      for (const int ranks : {1, 3}) {
        INFO(format << ", " << row.sharding << ", decode " << row.decode << ", " << ranks << " ranks");
        const std::vector<CopyRun> mapped = run_with_copies(row, g, ranks, false),
                                   copied = run_with_copies(row, g, ranks, true);
        for (std::size_t r = 0; r < mapped.size(); ++r) {
          CHECK(copied[r].last_logits == mapped[r].last_logits);
          CHECK(copied[r].greedy == mapped[r].greedy);
          CHECK(mapped[r].copied_bytes == 0);
          if (std::string_view(format) != "stored" || row.is_hybrid()) continue;
          const WeightSlice slice =
              row.arithmetic.plan(g.config, {static_cast<index_t>(r), ranks, {}, 1}, PlannedStep(1, 0, 1).step()).slice;
          const index_t numbers =
              g.config.layers * layer_weights(g.config, slice) + slice.vocab.size() * g.config.hidden;
          CHECK(static_cast<index_t>(copied[r].copied_bytes) >= 2 * numbers);
          CHECK(static_cast<index_t>(copied[r].copied_bytes) < 2 * numbers + 64 * 8 * g.config.layers);
        }
      }
    }
  }
}
