// Sampling from a vocabulary that is split over ranks: one rank with all of it is the reference.

#include "catch.hpp"

#include <map>
#include <random>
#include <set>

#include <tessera/comm/recording.hpp>
#include <tessera/runtime/sampler.hpp>
#include <tessera/tessera.hpp>

using namespace tessera;

namespace {

constexpr index_t vocab = 301;  // does not divide
constexpr index_t rows = 3;

std::vector<float> some_logits(unsigned seed, float deviation) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, deviation);
  std::vector<float> logits(static_cast<std::size_t>(rows * vocab));
  for (float& logit : logits) logit = normal(random);
  return logits;
}

/// The columns of `logits` that rank `rank` of `size` holds.
struct Slice {
  Slice(const std::vector<float>& logits, Ranks ranks) : part(ranks.part(vocab)) {
    for (index_t i = 0; i < rows; ++i)
      mine.insert(mine.end(), logits.begin() + i * vocab + part.begin, logits.begin() + i * vocab + part.end);
  }
  [[nodiscard]] Logits view() const { return {{mine.data(), rows, part.size()}, part}; }

  Range part;
  std::vector<float> mine;
};

using Ids = std::vector<token_t>;

/// Ids that `size` ranks draw in `steps` steps; all ranks' answers, one after another.
Ids drawn_by(int size, const Sampling& sampling, const std::vector<float>& logits, index_t steps) {
  const std::vector<Ids> of_ranks = InProcess::run(size, [&](Communicator comm) {
    const Slice slice(logits, {comm.rank(), comm.size()});
    Sampler sampler(sampling);
    std::vector<Ids> tokens(rows, {5, 7, 5, 300});
    Ids all;
    for (index_t step = 0; step < steps; ++step) {
      std::vector<Draw> draws;
      for (index_t i = 0; i < rows; ++i) draws.push_back({i, tokens[static_cast<std::size_t>(i)]});
      Ids ids(rows);
      sampler(comm, slice.view(), draws, ids);
      for (std::size_t i = 0; i < ids.size(); ++i) tokens[i].push_back(ids[i]);
      all.insert(all.end(), ids.begin(), ids.end());
    }
    return all;
  });
  for (const Ids& ids : of_ranks) REQUIRE(ids == of_ranks.front());
  return of_ranks.front();
}

/// The same, on the whole rows and without a sampler: the law that sampler.hpp has to keep.
Ids drawn_by_law(const Sampling& sampling, const std::vector<float>& logits, index_t steps) {
  std::vector<Ids> tokens(rows, {5, 7, 5, 300});
  Ids all;
  std::vector<bool> seen;
  for (index_t step = 0; step < steps; ++step)
    for (index_t i = 0; i < rows; ++i) {
      Ids& sequence = tokens[static_cast<std::size_t>(i)];
      std::vector<float> row(logits.begin() + i * vocab, logits.begin() + (i + 1) * vocab);
      penalize_repetition(row, {0, vocab}, sequence, sampling.repetition_penalty, seen);
      std::vector<Candidate> sorted;
      for (const float score : row) sorted.push_back({score, static_cast<token_t>(sorted.size())});
      std::sort(sorted.begin(), sorted.end());
      const auto kept = keep_top_k(sampling, sorted);
      double mass = 0;
      for (const Candidate& each : kept) mass += relative_weight(sampling, each.logit, kept.front().logit);
      const double u = uniform(sampling.seed, static_cast<std::uint64_t>(i), sequence.size());
      sequence.push_back(sampling.greedy() ? sorted.front().id : draw(sampling, kept, mass, u));
      all.push_back(sequence.back());
    }
  return all;
}

const std::vector<std::pair<std::string, Sampling>> settings = {
    {"greedy", {.temperature = 0}},
    {"greedy with penalty", {.temperature = 0, .repetition_penalty = 1.5}},
    {"open", {.seed = 1}},
    {"hot", {.temperature = 3, .seed = 2}},
    {"cold", {.temperature = 1e-4, .seed = 2}},
    {"top-k", {.top_k = 20, .seed = 3}},
    {"top-k beyond the vocabulary", {.top_k = 1000, .seed = 3}},
    {"top-p", {.top_p = 0.9, .seed = 4}},
    {"top-p of nothing", {.top_p = 0, .seed = 4}},
    {"min-p", {.min_p = 0.02, .seed = 5}},
    {"all", {.temperature = 0.7, .top_k = 40, .top_p = 0.95, .min_p = 0.01, .repetition_penalty = 1.1, .seed = 6}}};

}  // namespace

TEST_CASE("any number of ranks draws what the whole row gives") {
  for (const float deviation : {0.05F, 2.0F})  // nearly flat: offers go far beyond the first 64
    for (const auto& [name, sampling] : settings) {
      const std::vector<float> logits = some_logits(11, deviation);
      const Ids expected = drawn_by_law(sampling, logits, 20);
      for (const int size : {1, 2, 3, 4, 7}) {
        INFO(name << ", deviation " << deviation << ", " << size << " ranks");
        CHECK(drawn_by(size, sampling, logits, 20) == expected);
      }
    }
}

TEST_CASE("equal logits on different ranks are all kept by top-k") {
  const std::vector<float> logits(static_cast<std::size_t>(rows * vocab), 0.25F);
  const Sampling sampling{.top_k = 2, .seed = 9};
  const Ids expected = drawn_by_law(sampling, logits, 50);
  CHECK(std::set<token_t>(expected.begin(), expected.end()).size() > 20);
  for (const int size : {1, 3}) CHECK(drawn_by(size, sampling, logits, 50) == expected);
}

TEST_CASE("of equal logits on different ranks the lowest id is the greedy one") {
  const std::vector<float> logits(static_cast<std::size_t>(rows * vocab), 0.25F);
  const Sampling greedy{.temperature = 0};
  for (const int size : {1, 3}) CHECK(drawn_by(size, greedy, logits, 3) == drawn_by_law(greedy, logits, 3));
}

TEST_CASE("empty shares of the vocabulary take part") {
  const std::vector<float> logits = some_logits(13, 2);
  const auto draw_one = [&](Communicator comm, Range part) {
    Sampler sampler({.top_p = 0.9, .seed = 4});
    const Ids tokens = {1};
    const Draw draw{0, tokens};
    token_t id = -1;
    sampler(comm, {{logits.data() + part.begin, 1, part.size()}, part}, {&draw, 1}, {&id, 1});
    return id;
  };
  const token_t expected = draw_one(Loopback{}, {0, vocab});
  const std::array<Range, 3> parts = {Range{0, 100}, Range{100, 100}, Range{100, vocab}};
  const auto ids = InProcess::run(
      3, [&](Communicator comm) { return draw_one(comm, parts[static_cast<std::size_t>(comm.rank())]); });
  CHECK(ids == Ids(3, expected));
}

TEST_CASE("draws follow the distribution") {
  // Ten tokens of known probabilities over three ranks, 20000 positions.
  constexpr int draws = 20000;
  const std::vector<float> logits = {0.0F, 1.0F, -1.0F, 0.5F, 2.0F, -0.5F, 0.25F, 1.5F, -2.0F, 0.75F};
  for (const Sampling sampling : {Sampling{.seed = 21}, Sampling{.temperature = 0.5, .top_k = 7, .seed = 22}}) {
    const std::vector<std::map<token_t, int>> counted = InProcess::run(3, [&](Communicator comm) {
      const Range part = Ranks{comm.rank(), comm.size()}.part(10);
      const Logits view{{logits.data() + part.begin, 1, part.size()}, part};
      Sampler sampler(sampling);
      std::map<token_t, int> counts;
      const Ids tokens = {0};
      for (index_t n = 0; n < draws; ++n) {
        const Draw draw{n, tokens};
        token_t id = -1;
        sampler(comm, view, {&draw, 1}, {&id, 1});
        ++counts[id];
      }
      return counts;
    });
    std::vector<Candidate> sorted;
    for (const float logit : logits) sorted.push_back({logit, static_cast<token_t>(sorted.size())});
    std::sort(sorted.begin(), sorted.end());
    const auto kept = keep_top_k(sampling, sorted);
    double mass = 0, chi_square = 0;
    for (const Candidate& each : kept) mass += relative_weight(sampling, each.logit, kept.front().logit);
    for (const Candidate& each : kept) {
      const double expected = draws * relative_weight(sampling, each.logit, kept.front().logit) / mass;
      const double found = counted[0].count(each.id) == 0 ? 0 : counted[0].at(each.id);
      chi_square += (found - expected) * (found - expected) / expected;
    }
    CHECK(counted[0].size() == kept.size());
    CHECK(chi_square < 27.9);  // 9 degrees of freedom: exceeded once in a thousand seeds
  }
}

TEST_CASE("ranks exchange candidates, not logits") {
  const std::vector<float> logits = some_logits(17, 4);
  const auto bytes = [&](const Sampling& sampling) {
    return InProcess::run(2, [&](Communicator world) {
      auto [comm, ledger] = record(world);
      const Slice slice(logits, {comm.rank(), comm.size()});
      Sampler sampler(sampling);
      const Ids tokens = {0};
      const std::vector<Draw> draws(rows, Draw{0, tokens});
      Ids ids(rows);
      sampler(comm, slice.view(), draws, ids);
      return ledger->total().payload_bytes;
    })[0];
  };
  const index_t whole_rows = rows * vocab * static_cast<index_t>(sizeof(float));
  CHECK(bytes({.temperature = 0}) <= rows * 2 * 8);
  CHECK(bytes({.top_k = 5}) <= rows * 2 * (16 + 5 * 8) + rows * 4);
  const index_t histograms = rows * 2 * 2048;
  CHECK(bytes({.top_p = 0.5}) < histograms + whole_rows / 4);
}

TEST_CASE("a row that is no number is refused by every rank alike") {
  for (const float bad : {static_cast<float>(NAN), static_cast<float>(INFINITY)}) {
    std::vector<float> logits = some_logits(19, 1);
    logits[vocab + 250] = bad;  // on the last rank, in the second row
    for (const Sampling sampling : {Sampling{.top_k = 5}, Sampling{.top_p = 0.9}, Sampling{.temperature = 0}}) {
      const std::vector<std::string> texts = InProcess::run(3, [&](Communicator comm) -> std::string {
        const Slice slice(logits, {comm.rank(), comm.size()});
        Sampler sampler(sampling);
        const Ids tokens = {0};
        const std::vector<Draw> draws(rows, Draw{0, tokens});
        Ids ids(rows);
        try {
          sampler(comm, slice.view(), draws, ids);
        } catch (const Error& error) {
          return error.what();
        }
        return "";
      });
      for (const std::string& text : texts) CHECK_THAT(text, Catch::Contains("row 1 are not numbers"));
    }
  }
}
