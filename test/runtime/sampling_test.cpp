// From logits to a token on one rank: transformers' processors are the reference, and so are published random numbers.

#include "catch.hpp"

#include <filesystem>

#include <tessera/core/open_file.hpp>
#include <tessera/io/json.hpp>
#include <tessera/runtime/philox.hpp>
#include <tessera/runtime/sampling.hpp>

using namespace tessera;

namespace {

struct Case {
  std::vector<float> scores;
  std::vector<token_t> tokens;
  Sampling sampling;
  std::vector<token_t> kept;
  std::vector<double> probabilities;
};

std::vector<Case> cases() {
  const auto path = std::filesystem::path(TESSERA_GOLDEN) / "sampling" / "cases.json";
  std::vector<Case> all;
  for (const Json& json : parse_json(read_text(path, 1 << 20), path.string())) {
    Case c{json["scores"], json["tokens"], {}, json["kept"], json["probabilities"]};
    c.sampling = {.temperature = json["temperature"],
                  .top_k = json["top_k"],
                  .top_p = json["top_p"],
                  .min_p = json["min_p"],
                  .repetition_penalty = json["repetition_penalty"]};
    all.push_back(std::move(c));
  }
  return all;
}

std::vector<Candidate> sorted_candidates(const std::vector<float>& scores) {
  std::vector<Candidate> all;
  for (const float score : scores) all.push_back({score, static_cast<token_t>(all.size())});
  std::sort(all.begin(), all.end());
  return all;
}

}  // namespace

TEST_CASE("a draw has the candidates and the probabilities that transformers gives them") {
  REQUIRE(cases().size() > 50);
  for (const Case& c : cases()) {
    std::vector<float> scores = c.scores;
    std::vector<bool> seen;
    const Range all{0, static_cast<index_t>(scores.size())};
    penalize_repetition(scores, all, c.tokens, c.sampling.repetition_penalty, seen);
    const std::vector<Candidate> sorted = sorted_candidates(scores);
    const auto left = keep_top_k(c.sampling, sorted);
    double mass = 0;
    for (const Candidate& each : left) mass += relative_weight(c.sampling, each.logit, left.front().logit);
    const auto drawn = [&](double u) { return draw(c.sampling, left, mass, u); };
    // The inverse of the cumulated distribution, just inside both ends of every token's interval.
    double begin = 0;
    for (std::size_t i = 0; i < c.kept.size(); ++i) {
      const double end = begin + c.probabilities[i];
      const double inset = std::min(1e-6, c.probabilities[i] / 4);
      INFO("temperature " << c.sampling.temperature << ", top-k " << c.sampling.top_k << ", top-p " << c.sampling.top_p
                          << ", min-p " << c.sampling.min_p << ", candidate " << i << " of " << c.kept.size());
      if (c.probabilities[i] < 1e-5) break;
      CHECK(drawn(begin + inset) == c.kept[i]);
      CHECK(drawn(end - inset) == c.kept[i]);
      begin = end;
    }
  }
}

TEST_CASE("a number close to 1 draws the last candidate that is kept") {
  const std::vector<Candidate> sorted = sorted_candidates({0.1F, 0.7F, 0.3F, -9.0F});
  const double mass = 1 + std::exp(-0.4) + std::exp(-0.6) + std::exp(-9.7);
  CHECK(draw({}, sorted, mass * (1 + 1e-12), 1 - 0x1p-53) == 3);
  CHECK(draw({.top_p = 0.5}, sorted, mass, 1 - 0x1p-53) == 2);
  CHECK(draw({.min_p = 0.6}, sorted, mass, 1 - 0x1p-53) == 2);
}

TEST_CASE("equal logits are counted by id, and top-k keeps all that equal its last") {
  const std::vector<Candidate> sorted = sorted_candidates({1, 2, 1, 2, 1});
  std::vector<token_t> ids;
  for (const Candidate& each : sorted) ids.push_back(each.id);
  CHECK(ids == std::vector<token_t>{1, 3, 0, 2, 4});
  CHECK(keep_top_k({.top_k = 3}, sorted).size() == 5);
  CHECK(keep_top_k({.top_k = 1}, sorted).size() == 2);
}

TEST_CASE("a parameter out of its range is refused by name") {
  CHECK_THROWS_WITH(check({.temperature = -1}), Catch::Contains("temperature"));
  CHECK_THROWS_WITH(check({.temperature = NAN}), Catch::Contains("temperature"));
  CHECK_THROWS_WITH(check({.top_k = -1}), Catch::Contains("top-k"));
  CHECK_THROWS_WITH(check({.top_p = 1.5}), Catch::Contains("top-p"));
  CHECK_THROWS_WITH(check({.min_p = -0.1}), Catch::Contains("min-p"));
  CHECK_THROWS_WITH(check({.repetition_penalty = 0}), Catch::Contains("repetition-penalty"));
  CHECK_THROWS_WITH(check({.repetition_penalty = 1e-300}), Catch::Contains("expected 0.001 to 1000"));
  CHECK_NOTHROW(check({.repetition_penalty = 1e-3}));
}

TEST_CASE("the generator gives the numbers that its authors publish") {
  // kat_vectors of Random123, philox4x32 with 10 rounds.
  using Four = std::array<std::uint32_t, 4>;
  CHECK(philox({0, 0, 0, 0}, {0, 0}) == Four{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
  constexpr std::uint32_t ones = 0xffffffff;
  CHECK(philox({ones, ones, ones, ones}, {ones, ones}) == Four{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
  CHECK(philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}) ==
        Four{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
}

TEST_CASE("seed, sequence and position each give other numbers, which fill [0, 1) evenly") {
  CHECK(uniform(1, 2, 3) == uniform(1, 2, 3));
  CHECK(uniform(1, 2, 3) != uniform(2, 2, 3));
  CHECK(uniform(1, 2, 3) != uniform(1, 3, 3));
  CHECK(uniform(1, 2, 3) != uniform(1, 2, 4));
  CHECK(uniform(std::uint64_t{1} << 40, 0, 0) != uniform(0, 0, 0));
  std::vector<int> bins(16);
  constexpr int draws = 16000;
  for (std::uint64_t i = 0; i < draws; ++i) ++bins[static_cast<std::size_t>(16 * uniform(7, 0, i))];
  double chi_square = 0;
  for (const int found : bins) chi_square += (found - 1000.0) * (found - 1000.0) / 1000.0;
  CHECK(chi_square < 37.7);  // 15 degrees of freedom: exceeded once in a thousand seeds
}
