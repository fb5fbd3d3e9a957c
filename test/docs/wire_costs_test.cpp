// The table of wire costs in docs/design.md, line by line, against what a recording communicator counts.

#include "catch.hpp"

#include <numeric>

#include <tessera/comm/in_process.hpp>
#include <tessera/comm/recording.hpp>

#include "program/combinations.hpp"
#include "program/golden.hpp"

using namespace tessera;

namespace {

/// The letters of the table: N ranks split tokens and M features, of P = N M; T rows of the step, n positions cached
/// before it; the model's sizes; and whether the softmax merges.
struct Sizes {
  index_t N, M, T, n, H, Hq, Hkv, D;
  bool merges;

  [[nodiscard]] index_t P() const { return N * M; }
};

/// Floats that the ranks together send in one layer.
using Floats = index_t (*)(const Sizes&);

/// An allreduce over `ranks`: of a few everybody sends all to everybody, of more pairwise.
index_t allreduce(index_t ranks, index_t floats) {
  return 4 * floats <= 32 << 10 && 4 * floats * (ranks - 1) * (ranks - 2) <= ranks * (32 << 10)
             ? ranks * (ranks - 1) * floats
             : 2 * (ranks - 1) * floats;
}
index_t two_sums(const Sizes& s) { return 2 * s.N * allreduce(s.M, s.T / s.N * s.H); }
index_t scattered(const Sizes& s) { return 4 * (s.M - 1) * s.T * s.H; }
index_t keys_and_values(const Sizes& s) { return (s.N - 1) * (s.n + s.T) * 2 * s.Hkv * s.D; }
index_t keys_or_queries(const Sizes& s) {
  const bool queries = s.merges && s.T * s.Hq * (2 * s.D + 2) < s.n * 2 * s.Hkv * s.D;
  if (!queries) return keys_and_values(s);
  return (s.N - 1) * s.T * ((s.Hq + 2 * s.Hkv) * s.D + s.Hq * (s.D + 2));
}
index_t to_stripes(const Sizes& s) { return (s.P() - 1) * (s.n + s.T) * 2 * s.Hkv * s.D / s.P(); }
index_t to_heads_and_back(const Sizes& s) { return (s.N - 1) * s.T * (2 * s.Hq + 2 * s.Hkv) * s.D / s.N; }

index_t headwise_decode(const Sizes& s) { return 2 * allreduce(s.P(), s.T * s.H); }
index_t helix_decode(const Sizes& s) {
  const index_t attended = s.merges ? s.D + 2 : s.D + s.n + 1;
  return (s.N - 1) * ((s.Hq + 2 * s.Hkv) * s.D + s.Hq * attended) + headwise_decode(s);
}

struct Row {
  std::string_view sharding;
  std::string_view decode;
  bool tokens, features;  ///< what the ranks of prefill split
  Floats prefill;
};
constexpr Row table[] = {
    {"headwise", "headwise", false, true, two_sums},
    {"headwise", "helix", false, true, [](const Sizes& s) { return two_sums(s) + to_stripes(s); }},
    {"headwise_scattered", "headwise", false, true, scattered},
    {"headwise_scattered", "helix", false, true, [](const Sizes& s) { return scattered(s) + to_stripes(s); }},
    {"sequence", "helix", true, false, keys_or_queries},
    {"sequence", "headwise", true, false, keys_and_values},
    {"sequence_ring", "helix", true, false, keys_or_queries},
    {"ulysses", "headwise", true, false, to_heads_and_back},
    {"ulysses", "helix", true, false, [](const Sizes& s) { return to_heads_and_back(s) + to_stripes(s); }},
    {"sequence x headwise", "helix", true, true, [](const Sizes& s) { return keys_or_queries(s) + two_sums(s); }},
    {"sequence x headwise_scattered", "helix", true, true,
     [](const Sizes& s) { return keys_or_queries(s) + scattered(s); }},
    {"sequence_ring x headwise", "helix", true, true, [](const Sizes& s) { return keys_or_queries(s) + two_sums(s); }},
};

/// Floats that all ranks together send in a layer, in steps of so many rows of one sequence.
std::vector<index_t> count_floats(const Combination& combination, const program::Golden& g, int ranks, index_t inner,
                                  const std::vector<index_t>& steps) {
  std::vector<index_t> floats(steps.size(), 0);
  const auto ledgers = InProcess::run(ranks, [&](Communicator world) {
    auto [comm, ledger] = record(world);
    const auto model = combination.make(
        comm, g.config, g.weights, {.limits = {.max_tokens = steps.front(), .max_positions = 512}, .inner = inner});
    std::vector<token_t> ids(static_cast<std::size_t>(steps.front()));
    std::iota(ids.begin(), ids.end(), 0);
    std::vector<index_t> bytes;
    for (const index_t count : steps) {
      ledger->clear();
      const Chunk chunk{0, std::span<const token_t>(ids).first(static_cast<std::size_t>(count)), Wanted::none};
      model->step({&chunk, 1});
      bytes.push_back(ledger->total().wire_bytes);
    }
    return bytes;
  });
  for (const auto& bytes : ledgers)
    for (std::size_t i = 0; i < steps.size(); ++i) floats[i] += bytes[i] / 4 / g.config.layers;
  return floats;
}

/// The same as the policy's own arithmetic has it.
std::vector<index_t> planned_floats(const Combination& combination, const ModelConfig& config, index_t ranks,
                                    index_t inner, const std::vector<index_t>& steps) {
  std::vector<index_t> floats;
  index_t position = 0;
  for (const index_t count : steps) {
    const Segment segment{0, position, 0, count};
    floats.push_back(0);
    for (index_t r = 0; r < ranks; ++r)
      floats.back() +=
          combination.arithmetic.traffic(config, {r, ranks, {}, inner}, {{&segment, 1}, count, {}}).wire.bytes / 4;
    position += count;
  }
  return floats;
}

}  // namespace

TEST_CASE("what travels in a layer is what the table of wire costs says") {
  const program::Golden g = program::load_golden(std::filesystem::path(TESSERA_GOLDEN) / "qwen3-tiny");
  const ModelConfig& c = g.config;
  const std::vector<index_t> steps = {256, 160, 24, 1};  // sums of 256 rows are large, one of 1 row is small
  for (const Combination& combination : program::shipped_combinations()) {
    if (combination.backend != "native") continue;
    INFO(combination.sharding << ", decode " << combination.decode << ", " << combination.softmax);
    const auto* const row = std::find_if(std::begin(table), std::end(table), [&](const Row& r) {
      return r.sharding == combination.sharding && r.decode == combination.decode;
    });
    REQUIRE(row != std::end(table));  // a sharding has a line in docs/design.md, and here
    for (const index_t ranks : {1, 2, 4}) {
      const index_t inner = row->tokens && row->features ? ceil_div(ranks, 2) : 1;
      const std::vector<index_t> counted = count_floats(combination, g, static_cast<int>(ranks), inner, steps);
      const std::vector<index_t> planned = planned_floats(combination, c, ranks, inner, steps);
      Sizes s{ranks, 1, 0, 0, c.hidden, c.heads, c.kv_heads, c.head_dim, combination.softmax == "online_softmax"};
      for (std::size_t i = 0; i < steps.size(); ++i) {
        s.T = steps[i];
        const bool decode = s.T == 1;
        s.M = row->features && !row->tokens && !(decode && row->decode == "helix") ? ranks : inner;
        s.N = ranks / s.M;
        INFO(s.N << " x " << s.M << " ranks, " << s.T << " rows after " << s.n);
        const Floats expected = !decode ? row->prefill : row->decode == "helix" ? helix_decode : headwise_decode;
        CHECK(counted[i] == expected(s));
        if (s.merges) CHECK(counted[i] == planned[i]);
        s.n += s.T;
      }
    }
  }
}
