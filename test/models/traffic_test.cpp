// What a policy asks of its communicators, counted while it runs, is what its arithmetic says: not one call more.

#include "catch.hpp"

#include <tessera/comm/in_process.hpp>
#include <tessera/comm/recording.hpp>

#include "program/combinations.hpp"
#include "program/golden.hpp"

using namespace tessera;

namespace {

struct Asked {
  Traffic counted;
  Traffic expected;
};

Traffic traffic_of(const Ledger& ledger) {
  Traffic traffic;
  for (int k = 0; k < collective_kinds; ++k) {
    const Tally& tally = ledger.tallies[static_cast<std::size_t>(k)];
    traffic.rows[static_cast<std::size_t>(k)] = {tally.calls, tally.payload_bytes};
  }
  return traffic;
}

/// Steps of prefill, a later chunk, a mixed batch and decode on one rank; counted and computed, step by step.
std::vector<Asked> run_steps(const Combination& row, const program::Golden& g, const Communicator& comm,
                             index_t inner) {
  const Recorded recorded = record(comm);
  const auto model = row.make(recorded.communicator, g.config, g.weights,
                              {.limits = {.max_tokens = 64, .max_positions = 128, .max_sequences = 2}, .inner = inner});
  const std::vector<std::vector<std::pair<index_t, index_t>>> steps = {
      {{0, 23}}, {{0, 18}}, {{0, 1}, {1, 30}}, {{0, 1}, {1, 1}}, {{1, 1}}, {{0, 5}, {1, 2}}};  // (sequence, tokens)
  std::vector<Asked> asked;
  for (const auto& sizes : steps) {
    std::vector<Chunk> chunks;
    std::vector<Segment> segments;
    std::vector<index_t> wanted;
    index_t rows = 0;
    for (const auto& [sequence, count] : sizes) {
      chunks.push_back({sequence, std::span(g.prompt).first(static_cast<std::size_t>(count)), Wanted::last});
      segments.push_back({sequence, model->length(sequence), rows, count});
      rows += count;
      wanted.push_back(rows - 1);
    }
    const Step step{segments, rows, wanted};
    Asked here;
    for (index_t l = 0; l < g.config.layers; ++l)
      here.expected += row.arithmetic.traffic(g.config, model->ranks(), step);
    here.expected += row.arithmetic.selection_traffic(g.config, model->ranks(), step);
    recorded.ledger->clear();
    model->step(chunks);
    here.counted = traffic_of(*recorded.ledger);
    asked.push_back(here);
  }
  return asked;
}

}  // namespace

TEST_CASE("every policy asks its communicators for what its formula says, and for nothing else") {
  const program::Golden g = program::load_golden(std::filesystem::path(TESSERA_GOLDEN) / "qwen3-uneven");
  for (const Combination& row : program::shipped_combinations()) {
    if (row.softmax != "online_softmax" || row.backend != "native") continue;
    for (const int ranks : {1, 2, 3, 4, 6}) {
      const index_t inner = row.is_hybrid() && ranks % 2 == 0 ? 2 : 1;
      std::vector<std::vector<Asked>> asked(static_cast<std::size_t>(ranks));
      InProcess::run(ranks, [&](Communicator comm) {
        asked[static_cast<std::size_t>(comm.rank())] = run_steps(row, g, comm, inner);
      });
      for (std::size_t r = 0; r < asked.size(); ++r)
        for (std::size_t s = 0; s < asked[r].size(); ++s)
          for (int k = 0; k < collective_kinds; ++k) {
            INFO(row.sharding << ", decode " << row.decode << ", rank " << r << " of " << ranks << ", step " << s
                              << ": " << name_of(static_cast<Collective>(k)));
            const auto kind = static_cast<Collective>(k);
            CHECK(asked[r][s].counted[kind].calls == asked[r][s].expected[kind].calls);
            CHECK(asked[r][s].counted[kind].bytes == asked[r][s].expected[kind].bytes);
          }
    }
  }
}

TEST_CASE("HeadWise sums twice in a layer, after o_proj and after down_proj, and asks for nothing else") {
  const program::Golden g = program::load_golden(std::filesystem::path(TESSERA_GOLDEN) / "qwen3-tiny");
  Traffic asked;
  InProcess::run(4, [&](Communicator comm) {
    const Recorded recorded = record(comm);
    const auto model = program::shipped_combinations().front().make(
        recorded.communicator, g.config, g.weights,
        {.limits = {.max_tokens = 64, .max_positions = 64, .max_sequences = 1}});
    recorded.ledger->clear();
    const Chunk chunk{0, g.prompt, Wanted::last};
    model->step({&chunk, 1});
    if (comm.rank() == 0) asked = traffic_of(*recorded.ledger);
  });
  const auto rows = static_cast<index_t>(g.prompt.size());
  Traffic expected;
  expected.add(Collective::allreduce, 2 * g.config.layers, 2 * g.config.layers * rows * g.config.hidden, 4);
  CHECK(asked.rows == expected.rows);
}
