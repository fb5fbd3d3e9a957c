// What travels hides behind what is computed, and nothing else changes.

#include "catch.hpp"

#include <cmath>
#include <numeric>

#include <tessera/comm/in_process.hpp>
#include <tessera/comm/recording.hpp>
#include <tessera/models/micro_batches.hpp>

#include "program/combinations.hpp"
#include "program/golden.hpp"

using namespace tessera;

namespace {

struct Run {
  std::vector<std::vector<float>> logits;  ///< this rank's columns, step by step
  std::vector<Ledger> ledgers;
};

/// In standard deviations of all logits.
double largest_difference(const std::vector<float>& a, const std::vector<float>& b) {
  if (a.size() != b.size()) return INFINITY;
  double most = 0, sum = 0, squares = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    most = std::max(most, std::abs(static_cast<double>(a[i]) - b[i]));
    sum += b[i], squares += static_cast<double>(b[i]) * b[i];
  }
  const auto n = static_cast<double>(std::max<std::size_t>(b.size(), 1));
  return most / std::sqrt(std::max(squares / n - sum / n * sum / n, 1e-30));
}

/// A long chunk, two sequences in a ragged batch, a short chunk, and decode; all logits.
Run run_steps(const Combination& row, const program::Golden& g, const Communicator& world, index_t inner,
              bool overlap) {
  const auto [comm, ledger] = record(world);
  const auto model = row.make(
      comm, g.config, g.weights,
      {.limits = {.max_tokens = 130, .max_positions = 256, .max_sequences = 2}, .overlap = overlap, .inner = inner});
  std::vector<token_t> ids(130);
  std::iota(ids.begin(), ids.end(), 3);
  const std::vector<std::vector<std::pair<index_t, index_t>>> steps = {
      {{0, 130}}, {{0, 31}, {1, 60}}, {{1, 70}}, {{0, 20}}, {{0, 1}, {1, 1}}};  // (sequence, tokens)
  Run run;
  for (const auto& sizes : steps) {
    std::vector<Chunk> chunks;
    for (const auto& [sequence, count] : sizes)
      chunks.push_back({sequence, std::span<const token_t>(ids).first(static_cast<std::size_t>(count)), Wanted::all});
    ledger->clear();
    const Logits logits = model->step(chunks);
    run.logits.emplace_back(logits.local.data, logits.local.data + logits.local.rows * logits.local.cols);
    run.ledgers.push_back(*ledger);
  }
  return run;
}

}  // namespace

TEST_CASE("what hides its sums and transfers gives the same logits and sends the same bytes") {
  const program::Golden g = program::load_golden(std::filesystem::path(TESSERA_GOLDEN) / "qwen3-tiny");
  for (const Combination& row : program::shipped_combinations()) {
    if (row.backend != "native" || row.softmax != "online_softmax") continue;
    for (const int ranks : {2, 3}) {
      const index_t inner = row.is_hybrid() && ranks % 2 == 0 ? 2 : 1;
      const auto runs = [&](bool overlap) {
        return InProcess::run(ranks, [&](Communicator comm) { return run_steps(row, g, comm, inner, overlap); });
      };
      const auto shown = runs(false), hidden = runs(true);
      const bool cuts = row.decode == "headwise" && row.sharding.starts_with("headwise");
      for (std::size_t r = 0; r < shown.size(); ++r)
        for (std::size_t s = 0; s < shown[r].logits.size(); ++s) {
          INFO(row.sharding << ", decode " << row.decode << ", rank " << r << " of " << ranks << ", step " << s);
          // A product or an attention kernel may group its sums by the number of rows: no bits are promised.
          CHECK(largest_difference(hidden[r].logits[s], shown[r].logits[s]) <= 2e-5);
          const bool cut = cuts && s < 3;  // the last two steps are too short
          const Tally one = shown[r].ledgers[s].total(), two = hidden[r].ledgers[s].total();
          CHECK(two.payload_bytes == one.payload_bytes);
          CHECK(two.calls == (cut ? 2 : 1) * one.calls);
        }
    }
  }
}

TEST_CASE("the parts of a step are its rows in order, each a step of its own") {
  for (index_t first = 1; first < 120; first += 7)
    for (index_t second = 1; second < 120; second += 11) {
      const std::vector<Segment> segments{{0, 5, 0, first}, {1, 0, first, second}};
      const index_t rows = first + second;
      std::vector<index_t> wanted(static_cast<std::size_t>(rows));
      std::iota(wanted.begin(), wanted.end(), 0);
      MicroBatches batches(2, rows);
      INFO(first << " and " << second << " rows");
      const bool is_cut = batches.cut({segments, rows, wanted});
      CHECK(is_cut == (rows >= 2 * MicroBatches::smallest_part));
      if (!is_cut) continue;
      std::vector<Segment> joined;
      index_t begin = 0;
      for (const std::size_t i : {0, 1}) {
        const Step part = batches[i];
        CHECK(part.is_micro_batch);
        CHECK(part.wanted.size() == static_cast<std::size_t>(part.rows));
        index_t row = 0;
        for (const Segment& s : part.segments) {
          CHECK(s.row == row);
          row += s.count;
          if (joined.empty() || joined.back().sequence != s.sequence) {
            joined.push_back({s.sequence, s.position, s.row + begin, s.count});
          } else {
            CHECK(s.position == joined.back().position + joined.back().count);
            joined.back().count += s.count;
          }
        }
        CHECK(row == part.rows);
        begin += part.rows;
      }
      REQUIRE(joined.size() == 2);
      for (const std::size_t i : {0, 1}) {
        CHECK(joined[i].position == segments[i].position);
        CHECK(joined[i].row == segments[i].row);
        CHECK(joined[i].count == segments[i].count);
      }
    }
}

TEST_CASE("a step is not cut where a part would be a step of decode") {
  std::vector<Segment> segments;
  for (index_t s = 0; s < 50; ++s) segments.push_back({s, 9, s, 1});
  segments.push_back({50, 0, 50, 20});
  MicroBatches batches(51, 70);
  CHECK_FALSE(batches.cut({segments, 70, {}}));
}
