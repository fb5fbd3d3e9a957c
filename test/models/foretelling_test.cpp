// What fewer bits cost: the demo model on its own text, held to the bars of docs/quantisation.md.
#include "catch.hpp"

#include <array>
#include <cmath>
#include <fstream>

#include <tessera/comm/in_process.hpp>
#include <tessera/comm/loopback.hpp>
#include <tessera/io/hf_config.hpp>
#include <tessera/runtime/footprint.hpp>
#include <tessera/runtime/load_weights.hpp>
#include <tessera/tessera.hpp>
#include <tessera/text/tokenizer.hpp>

#include "program/combinations.hpp"
#include "program/text_score.hpp"

using namespace tessera;
using program::TextScore;

namespace {

const std::filesystem::path demo_checkpoint = TESSERA_DEMO_MODEL;

/// Every `step`-th of the demo model's conversations.
std::vector<std::vector<token_t>> conversations(std::size_t step) {
  const Tokenizer tokenizer = Tokenizer::load(demo_checkpoint);
  std::vector<std::vector<token_t>> documents;
  std::ifstream file(demo_checkpoint / "words.tsv");
  std::size_t n = 0;
  for (std::string line; std::getline(file, line); ++n) {
    if (n % step != 0) continue;
    const auto tab = line.find('\t');
    documents.push_back(tokenizer.encode("<|im_start|>user\n" + line.substr(0, tab) +
                                         "<|im_end|>\n<|im_start|>assistant\n" + line.substr(tab + 1) +
                                         "<|im_end|>\n"));
  }
  return documents;
}

TextScore score_of(const WeightFormats& formats, const std::vector<std::vector<token_t>>& documents, int ranks = 1,
                   CacheType cache = CacheType::f32) {
  const ModelConfig config = read_config(demo_checkpoint);
  const ModelWeights stored = load_weights(Checkpoint::open(demo_checkpoint), config);
  const ModelWeights weights = load_weights(Checkpoint::open(demo_checkpoint), config, formats, 2);
  const Combination& row = program::shipped_combinations().front();
  TextScore score;
  InProcess::run(ranks, [&](Communicator comm) {
    TransformerOptions options{.limits = {.max_tokens = 64, .max_positions = 256, .max_sequences = 1}};
    const auto reference = row.make(comm, config, stored, options);
    options.limits.cache = cache;
    const auto model = row.make(comm, config, weights, options);
    TextScore mine;
    for (const auto& ids : documents) program::add_document(mine, *model, reference.get(), ids);
    if (comm.rank() == 0) score = mine;
  });
  return score;
}

}  // namespace

TEST_CASE("8 bits cost the demo model less than 0.5 % of perplexity, and 4 bits less than 6 %") {
  const auto documents = conversations(20);
  const double stored = score_of({}, documents).perplexity();
  const auto hold = [&](const WeightFormats& formats, double most, double divergence, double agreement) {
    const TextScore score = score_of(formats, documents);
    INFO(formats.layers << ": " << stored << " became " << score.perplexity() << ", KL " << score.mean_divergence()
                        << ", agreement " << score.agreement());
    CHECK(std::abs(score.perplexity() / stored - 1) <= most);
    CHECK(score.mean_divergence() <= divergence);
    CHECK(score.mean_divergence() > 0);
    CHECK(score.agreement() >= agreement);
  };
  hold({"int8", "", Arithmetic::int8}, 0.005, 0.001, 0.99);
  hold({"int8", "", Arithmetic::f32}, 0.005, 0.001, 0.99);
  hold({"int4", "", Arithmetic::int8}, 0.06, 0.06, 0.9);
  hold({"int4", "", Arithmetic::f32}, 0.06, 0.06, 0.9);
}

TEST_CASE("a cache of 8 bits costs the demo model less than 0.2 % of perplexity, and one of bf16 less than 0.05 %") {
  const auto documents = conversations(100);
  const double exact = score_of({}, documents).perplexity();
  const auto hold = [&](CacheType cache, double most, double divergence, double agreement) {
    const TextScore score = score_of({}, documents, 1, cache);
    INFO(name_of(cache) << ": " << exact << " became " << score.perplexity() << ", KL " << score.mean_divergence()
                        << ", agreement " << score.agreement());
    CHECK(std::abs(score.perplexity() / exact - 1) <= most);
    CHECK(score.mean_divergence() <= divergence);
    CHECK(score.mean_divergence() > 0);
    CHECK(score.agreement() >= agreement);
  };
  hold(CacheType::bf16, 0.0005, 0.0001, 0.995);
  hold(CacheType::int8, 0.002, 0.0005, 0.99);
}

TEST_CASE("a score does not depend on the ranks, and one of a model against itself is none") {
  const auto documents = conversations(500);
  const TextScore one = score_of({}, documents), three = score_of({}, documents, 3);
  CHECK(one.tokens == three.tokens);
  CHECK(one.perplexity() == Approx(three.perplexity()).epsilon(1e-5));
  CHECK(one.divergence == 0);
  CHECK(one.agreed == one.tokens);
}

namespace {

/// The score of rows of three logits, the first two of which are rank 0's and the last is rank 1's; or one rank's.
TextScore score_of_rows(const std::vector<std::array<float, 3>>& rows, const std::vector<token_t>& next, int ranks,
                        const std::vector<std::array<float, 3>>& reference = {}) {
  const auto scores = InProcess::run(ranks, [&](Communicator comm) {
    const Range vocab = ranks == 1 ? Range{0, 3} : comm.rank() == 0 ? Range{0, 2} : Range{2, 3};
    const auto part_of = [&](const std::vector<std::array<float, 3>>& of) {
      std::vector<float> part;
      for (const auto& row : of) part.insert(part.end(), row.begin() + vocab.begin, row.begin() + vocab.end);
      return part;
    };
    const std::vector<float> mine = part_of(rows), mine_of_reference = part_of(reference);
    const auto logits_of = [&](const std::vector<float>& part) {
      return Logits{{part.data(), std::ssize(next), vocab.size()}, vocab};
    };
    const Logits of_reference = logits_of(mine_of_reference);
    TextScore score;
    program::add_rows(score, comm, logits_of(mine), reference.empty() ? nullptr : &of_reference, next);
    return score;
  });
  for (const TextScore& score : scores) {
    CHECK(score.surprise == scores[0].surprise);
    CHECK(score.divergence == scores[0].divergence);
    CHECK(score.agreed == scores[0].agreed);
  }
  return scores.back();
}

}  // namespace

TEST_CASE("surprise and divergence of known distributions") {
  // Logits of probabilities 1/2, 1/4, 1/4 and of 1/4, 1/4, 1/2.
  const std::array<float, 3> p{std::log(2.0F), 0, 0}, q{0, 0, std::log(2.0F)};
  for (const int ranks : {1, 2}) {
    CHECK(score_of_rows({p, p}, {0, 2}, ranks).perplexity() == Approx(std::sqrt(8.0)));
    const TextScore apart = score_of_rows({q}, {0}, ranks, {p});
    CHECK(apart.divergence == Approx(0.25 * std::log(2.0)));
    CHECK(apart.agreed == 0);
    CHECK(score_of_rows({q}, {2}, ranks, {q}).divergence == 0);
    CHECK(score_of_rows({{-INFINITY, 0, 0}}, {2}, ranks).perplexity() == Approx(2));
  }
  CHECK(program::documents_of("xaxbx", "x") == std::vector<std::string>{"xa", "xb", "x"});
  CHECK(program::documents_of("ab", "").size() == 1);
}

TEST_CASE("a score of rows that are not numbers is an error, on every rank") {
  for (const int ranks : {1, 2})
    for (const float what : {NAN, INFINITY})
      for (std::size_t at = 0; at < 3; ++at) {
        std::vector<std::array<float, 3>> rows(2, {0, 1, 2});
        rows[1][at] = what;
        CHECK_THROWS_WITH(score_of_rows(rows, {0, 1}, ranks),
                          Catch::Contains("logits of row 1 are not numbers: the weights are damaged or overflow f32"));
      }
}

TEST_CASE("the plan counts the logits of all rows where somebody wants them") {
  const ModelConfig config = read_config(demo_checkpoint);
  const Ranks ranks{1, 2};
  const auto activations = [&](index_t max_wanted) {
    const Limits limits{.max_tokens = 64, .max_positions = 256, .max_wanted = max_wanted};
    return footprint(arithmetic_of<HeadWise>, config, ranks, limits, {}).activations;
  };
  const index_t row = config.hidden + vocab_part(config.vocab, ranks).size();
  CHECK(activations(64) - activations(0) ==
        static_cast<index_t>(sizeof(float)) * (63 * row + 2 * whole_rows * config.vocab));
}

TEST_CASE("rows that are made whole, some at a time, are those of all ranks side by side") {
  constexpr index_t vocab = 320, rows = 2 * whole_rows + 6;
  const auto at = [](index_t row, index_t id) { return static_cast<float>(row * 1000 + id); };
  for (const int ranks : {1, 2, 3}) {
    const auto wrong = InProcess::run(ranks, [&](Communicator comm) {
      const Ranks here{comm.rank(), comm.size()};
      const Range part = vocab_part(vocab, here);
      std::vector<float> mine;
      for (index_t r = 0; r < rows; ++r)
        for (index_t id = part.begin; id < part.end; ++id) mine.push_back(at(r, id));
      const Buffer<float> whole = gather_logits(comm, {{mine.data(), rows, part.size()}, part}, here, vocab);
      index_t differ = 0;
      for (index_t r = 0; r < rows; ++r)
        for (index_t id = 0; id < vocab; ++id) differ += whole.data()[r * vocab + id] == at(r, id) ? 0 : 1;
      return differ;
    });
    CHECK(wrong == std::vector<index_t>(static_cast<std::size_t>(ranks), 0));
  }
}
