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

std::string answer(AnyModel& model, const Demo& demo, const std::string& word) {
  std::vector<token_t> ids;
  generate_greedily(model, 0, demo.question(word), 100, [&](token_t id) {
    if (id == demo.config.eos_token_ids.at(0)) return false;
    ids.push_back(id);
    return true;
  });
  model.truncate(0, 0);
  return demo.tokenizer.decode(ids, true);
}

/// Words that got another answer than words.tsv has, of every `stride`-th word from `first` on.
std::vector<std::string> wrong_words(const Demo& demo, const Combination& row, int ranks, std::size_t first,
                                     std::size_t stride) {
  std::vector<std::vector<std::string>> wrong(static_cast<std::size_t>(ranks));
  InProcess::run(ranks, [&](Communicator comm) {
    const auto model = row.make(comm, demo.config, demo.weights,
                                {.limits = {.max_tokens = 64, .max_positions = 256, .max_sequences = 1}});
    for (std::size_t i = first; i < demo.words.size(); i += stride) {
      const std::string text = answer(*model, demo, demo.words[i].first);
      if (text != demo.words[i].second) wrong[static_cast<std::size_t>(comm.rank())].push_back(demo.words[i].first);
    }
  });
  std::vector<std::string> all;
  for (const auto& words : wrong) all.insert(all.end(), words.begin(), words.end());
  return all;
}

}  // namespace

TEST_CASE("every word of the demo model gets its exact answer") {
  const Demo demo;
  REQUIRE(demo.words.size() == 2005);
  const auto& table = program::shipped_combinations();
  CHECK(wrong_words(demo, table.front(), 1, 0, 1).empty());
}

TEST_CASE("words get their exact answers under every combination and number of ranks") {
  const Demo demo;
  std::size_t first = 0;
  for (const Combination& row : program::shipped_combinations())
    for (const int ranks : {1, 2, 3, 4, 6, 8}) {
      INFO(row.sharding << ", " << row.softmax << ", " << row.backend << ", " << ranks << " ranks");
      CHECK(wrong_words(demo, row, ranks, first++ % 401, 401).empty());
    }
}

TEST_CASE("all words under every combination and number of ranks", "[.long]") {
  const Demo demo;
  for (const Combination& row : program::shipped_combinations())
    for (const int ranks : {1, 2, 3, 4, 6, 8}) {
      INFO(row.sharding << ", " << row.softmax << ", " << row.backend << ", " << ranks << " ranks");
      CHECK(wrong_words(demo, row, ranks, 0, 1).empty());
    }
}
