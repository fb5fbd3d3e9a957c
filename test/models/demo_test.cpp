// The demo model knows its words by heart: every answer is exact, under every policy and number of ranks.

#include "catch.hpp"

#include <fstream>

#include <tessera/comm/in_process.hpp>
#include <tessera/io/hf_config.hpp>
#include <tessera/runtime/generate.hpp>
#include <tessera/runtime/load_weights.hpp>
#include <tessera/text/tokenizer.hpp>

#include "program/combinations.hpp"

using namespace tessera;

namespace {

struct Demo {
  std::filesystem::path folder = TESSERA_DEMO_MODEL;
  ModelConfig config = read_config(folder);
  ModelWeights weights = load_weights(Checkpoint::open(folder), config);
  Tokenizer tokenizer = Tokenizer::load(folder);
  std::vector<std::pair<std::string, std::string>> words;

  Demo() {
    std::ifstream file(folder / "words.tsv");
    for (std::string line; std::getline(file, line);) {
      const auto tab = line.find('\t');
      words.emplace_back(line.substr(0, tab), line.substr(tab + 1));
    }
  }
  [[nodiscard]] std::vector<token_t> question(const std::string& word) const {
    return tokenizer.encode("<|im_start|>user\n" + word + "<|im_end|>\n<|im_start|>assistant\n");
  }
};

using Words = std::span<const std::pair<std::string, std::string>>;

/// Words that get another answer than they should: all of `words` at once, as the sequences of one batch.
std::vector<std::string> wrong_in_batch(AnyModel& model, const Demo& demo, Words words) {
  std::vector<std::vector<token_t>> next(words.size());
  std::vector<std::vector<token_t>> answers(words.size());
  std::vector<std::size_t> open(words.size());
  for (std::size_t i = 0; i < words.size(); ++i) next[i] = demo.question(words[i].first), open[i] = i;
  Argmax argmax;
  while (!open.empty()) {
    std::vector<Chunk> chunks;
    for (const std::size_t i : open) chunks.push_back({static_cast<index_t>(i), next[i], Wanted::last});
    std::vector<token_t> ids(open.size());
    argmax(model.comm(), model.step(chunks), ids);
    std::vector<std::size_t> still_open;
    for (std::size_t k = 0; k < open.size(); ++k) {
      const std::size_t i = open[k];
      if (ids[k] == demo.config.eos_token_ids.at(0) || answers[i].size() == 100) continue;
      answers[i].push_back(ids[k]);
      next[i] = {ids[k]};
      still_open.push_back(i);
    }
    open = still_open;
  }
  std::vector<std::string> wrong;
  for (std::size_t i = 0; i < words.size(); ++i) {
    model.truncate(static_cast<index_t>(i), 0);
    if (demo.tokenizer.decode(answers[i], true) != words[i].second) wrong.push_back(words[i].first);
  }
  return wrong;
}

constexpr std::size_t batch = 64;

/// Wrong answers of any rank to `words`, in batches.
std::vector<std::string> wrong_words(const Demo& demo, const Combination& row, int ranks, Words words) {
  std::vector<std::vector<std::string>> wrong(static_cast<std::size_t>(ranks));
  InProcess::run(ranks, [&](Communicator comm) {
    const auto model = row.make(comm, demo.config, demo.weights,
                                {.limits = {.max_tokens = 2048, .max_positions = 160, .max_sequences = batch},
                                 .inner = row.is_hybrid() && ranks % 2 == 0 ? 2 : 1});
    for (std::size_t i = 0; i < words.size(); i += batch) {
      const auto some = wrong_in_batch(*model, demo, words.subspan(i, std::min(batch, words.size() - i)));
      auto& mine = wrong[static_cast<std::size_t>(comm.rank())];
      mine.insert(mine.end(), some.begin(), some.end());
    }
  });
  std::vector<std::string> all;
  for (const auto& some : wrong) all.insert(all.end(), some.begin(), some.end());
  return all;
}

/// Every combination on every number of ranks, a section each; `words_of(n)` are the words of its n-th run.
template <class WordsOf>
void ask_under_every_policy(WordsOf&& words_of) {
  static const Demo demo;
  std::size_t n = 0;
  for (const Combination& row : program::shipped_combinations())
    for (const int ranks : {1, 2, 3, 4, 6, 8}) {
      const Words words = words_of(demo, n++);
      DYNAMIC_SECTION(row.sharding << ", decode " << row.decode << ", " << row.softmax << ", " << row.backend << ", "
                                   << ranks << " ranks") {
        CHECK(wrong_words(demo, row, ranks, words).empty());
      }
    }
}

}  // namespace

TEST_CASE("every word of the demo model gets its exact answer") {
  const Demo demo;
  REQUIRE(demo.words.size() == 2005);
  CHECK(wrong_words(demo, program::shipped_combinations().front(), 1, demo.words).empty());
}

TEST_CASE("words get their exact answers under every combination and number of ranks", "[words]") {
  ask_under_every_policy([](const Demo& demo, std::size_t n) { return Words(demo.words).subspan(n * 6, 6); });
}

TEST_CASE("all words under every combination and number of ranks", "[.long]") {
  ask_under_every_policy([](const Demo& demo, std::size_t) { return Words(demo.words); });
}
