// What fewer bits cost: the demo model on its own text, held to the bars of docs/quantisation.md.
#include "catch.hpp"

#include <fstream>

#include <tessera/comm/in_process.hpp>
#include <tessera/comm/loopback.hpp>
#include <tessera/io/hf_config.hpp>
#include <tessera/runtime/load_weights.hpp>
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

TEST_CASE("surprise and divergence of known distributions") {
  // Logits of probabilities 1/2, 1/4, 1/4 and of 1/4, 1/4, 1/2.
  const std::vector<float> p{std::log(2.0F), 0, 0}, q{0, 0, std::log(2.0F)};
  TextScore score;
  program::add_surprise(score, p, 0);
  program::add_surprise(score, p, 2);
  CHECK(score.perplexity() == Approx(std::sqrt(8.0)));
  program::add_divergence(score, q, p);
  CHECK(score.divergence == Approx(0.25 * std::log(2.0)));
  CHECK(score.agreed == 0);
  CHECK(program::documents_of("xaxbx", "x") == std::vector<std::string>{"xa", "xb", "x"});
  CHECK(program::documents_of("ab", "").size() == 1);
}
