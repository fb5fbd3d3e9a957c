// Every sharding x softmax x backend x number of ranks against transformers' logits and greedy continuation.

#include "catch.hpp"

#include <tessera/comm/in_process.hpp>
#include <tessera/runtime/load_weights.hpp>

#include "program/combinations.hpp"
#include "program/golden.hpp"
#include "program/one_rank.hpp"

using namespace tessera;
using program::Golden;
using program::Outcome;

namespace {

/// The inner sizes to try: a hybrid's meshes that have two dimensions, or one.
std::vector<index_t> inner_sizes(const Combination& row, index_t ranks) {
  if (!row.is_hybrid()) return {1};
  std::vector<index_t> sizes;
  for (index_t inner = 1; inner <= ranks; ++inner)
    if (ranks % inner == 0) sizes.push_back(inner);
  return sizes;
}

/// Whether the sharding takes so many ranks; nothing but their number may be a reason that it does not.
bool can_use(const Combination& row, const ModelConfig& config, const Ranks& ranks) {
  try {
    row.arithmetic.check(config, ranks);
    return true;
  } catch (const Error&) {
    CHECK((ranks.size > config.heads || ranks.size % ranks.inner != 0));
    return false;
  }
}

void hold_to_golden(const Combination& row, const Golden& g, const Ranks& ranks, const std::vector<index_t>& chunks) {
  INFO(g.name << ": " << row.sharding << ", decode " << row.decode << ", " << row.softmax << ", " << row.backend << ", "
              << ranks.size << " ranks, " << ranks.inner << " inner, first chunk " << chunks.front());
  const std::vector<double> shares(ranks.shares.begin(), ranks.shares.end());
  std::vector<Outcome> outcomes(static_cast<std::size_t>(ranks.size));
  InProcess::run(static_cast<int>(ranks.size), [&](Communicator comm) {
    const auto model =
        row.make(comm, g.config, g.weights, {.limits = program::limits_of(g), .shares = shares, .inner = ranks.inner});
    outcomes[static_cast<std::size_t>(comm.rank())] = program::run_golden(*model, g, chunks);
  });
  for (const Outcome& outcome : outcomes) {
    CHECK(outcome.worst <= program::tolerance_of(g.cache, row.backend));
    CHECK(outcome.greedy == g.greedy);
    CHECK(outcome.last_logits == outcomes.front().last_logits);  // the same bits on every rank
  }
}

/// Every combination that can take the model, on 1 to 8 ranks: prompts whole and in uneven chunks.
void hold_all_to_golden(const Golden& g) {
  for (const Combination& row : program::shipped_combinations())
    for (const index_t size : {1, 2, 3, 4, 6, 8})
      for (const index_t inner : inner_sizes(row, size)) {
        const Ranks ranks{0, size, {}, inner};
        if (!can_use(row, g.config, ranks)) continue;
        hold_to_golden(row, g, ranks, {1 << 20});
        hold_to_golden(row, g, ranks, {5, 1, 17, 3});
      }
}

}  // namespace

TEST_CASE("logits and greedy ids of every combination equal those of transformers", "[golden]") {
  const auto folders = program::golden_folders(TESSERA_GOLDEN);
  CHECK(folders.size() == TESSERA_GOLDENS);  // each is a test of its own: see test/meson.build
  for (const auto& folder : folders) SECTION(folder.filename().string()) {
      hold_all_to_golden(program::load_golden(folder));
    }
}

/// The golden with a cache of another format: what one rank makes of it in plain loops.
Golden with_cache(const std::filesystem::path& folder, CacheType cache) {
  Golden g = program::load_golden(folder);
  g.cache = cache;
  const std::vector<float> exact = g.logits;
  program::expect_one_rank(g, g.weights);
  const auto rows = static_cast<index_t>(g.prompt.size());
  CHECK(program::worst_error(g.logits.data(), exact.data(), rows, g.config.vocab) > 1e-4);  // it does round
  return g;
}

/// qwen2-tiny with what test/golden/make_formats.py found for one of its formats.
Golden with_format(const std::string& format) {
  const std::filesystem::path folder = std::filesystem::path(TESSERA_GOLDEN) / "qwen2-tiny";
  Golden g = program::load_golden(folder);
  const Safetensors formats(folder / "formats.safetensors");
  g.logits = formats.at("logits." + format).values<float>();
  g.greedy.clear();
  for (const std::int64_t id : formats.at("greedy." + format).values<std::int64_t>())
    g.greedy.push_back(static_cast<token_t>(id));
  return g;
}

TEST_CASE("a cache of 8 or 16 bits gives the logits and ids of transformers with rounded keys and values") {
  for (const CacheType cache : {CacheType::bf16, CacheType::int8}) {
    Golden g = with_format(concat("cache_", name_of(cache)));
    g.cache = cache;
    for (const Combination& row : program::shipped_combinations()) {
      if (row.backend == "scalar" && row.sharding != "headwise") continue;
      for (const index_t size : {1, 2, 3})
        hold_to_golden(row, g, {0, size, {}, row.is_hybrid() && size == 2 ? 2 : 1}, {5, 1, 17, 3});
    }
  }
}

TEST_CASE("weights in blocks give the logits and ids of transformers with the same weights widened") {
  for (const char* const format : {"int8", "int4"}) {
    Golden g = with_format(concat("weights_", format));
    g.weights = load_weights(Checkpoint::open(std::filesystem::path(TESSERA_GOLDEN) / g.name), g.config, {format, ""});
    for (const Combination& row : program::shipped_combinations())
      if (row.sharding == "headwise" || row.sharding == "sequence")
        hold_to_golden(row, g, {0, 2, {}, 1}, {5, 1, 17, 3});
  }
}

TEST_CASE("caches of 8 and 16 bits in full", "[.][caches]") {
  for (const auto& folder : program::golden_folders(TESSERA_GOLDEN))
    for (const CacheType cache : {CacheType::bf16, CacheType::int8}) hold_all_to_golden(with_cache(folder, cache));
}

TEST_CASE("unequal shares of the work give the same logits and ids") {
  const Golden g = program::load_golden(std::filesystem::path(TESSERA_GOLDEN) / "qwen3-tiny");
  const std::vector<double> three = {3, 1, 2}, with_nothing = {1, 0, 4, 2};
  for (const Combination& row : program::shipped_combinations()) {
    if (row.is_hybrid()) continue;
    for (const std::span<const double> shares : {std::span(three), std::span(with_nothing)}) {
      const Ranks ranks{0, static_cast<index_t>(shares.size()), shares};
      hold_to_golden(row, g, ranks, {1 << 20});
      hold_to_golden(row, g, ranks, {5, 1, 17, 3});
    }
  }
}

TEST_CASE("the same run gives the same bits again") {
  const Golden g = program::load_golden(std::filesystem::path(TESSERA_GOLDEN) / "qwen3-uneven");
  for (const Combination& row : program::shipped_combinations()) {
    INFO(row.sharding << ", " << row.softmax << ", " << row.backend);
    std::vector<float> first;
    for (int repeat = 0; repeat < 3; ++repeat) {
      std::vector<float> last;
      InProcess::run(4, [&](Communicator comm) {
        const auto model = row.make(comm, g.config, g.weights,
                                    {.limits = program::limits_of(g), .threads = 2, .inner = row.is_hybrid() ? 2 : 1});
        const Outcome outcome = program::run_golden(*model, g, {7});
        if (comm.rank() == 0) last = outcome.last_logits;
      });
      if (repeat == 0) first = last;
      CHECK(last == first);
    }
  }
}
