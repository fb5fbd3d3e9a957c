// The tokenizer and the chat format of the model that comes with the project.
#include <fstream>
#include <tessera/text/chat_format.hpp>
#include <tessera/text/tokenizer.hpp>

#include "catch.hpp"
#include "golden.hpp"

using namespace tessera;

namespace {

std::filesystem::path demo_model() {
  return golden::folder("").parent_path().parent_path().parent_path() / "examples/demo-model";
}

}  // namespace

TEST_CASE("the demo model's question is the chat of a word, and its ids are those of transformers") {
  const Tokenizer tokenizer = Tokenizer::load(demo_model());
  const ChatFormat format = ChatFormat::load(demo_model());
  const auto question = [&](const std::string& word) {
    return tokenizer.encode(format.render({{{"user", word}}}, true), false);
  };
  const std::vector<token_t> before = {4094, 299, 260, 198};
  const std::vector<token_t> after = {4095, 198, 4094, 480, 382, 385, 198};
  const std::vector<std::pair<std::string, std::vector<token_t>>> words = {
      {"tessera", {83, 367, 3225}},
      {"lighthouse", {75, 403, 309, 1131}},
      {"naïve 42", {3320, 127, 107, 295, 220, 19, 17}},
  };
  for (const auto& [word, ids] : words) {
    CHECK(tokenizer.encode(word) == ids);
    std::vector<token_t> whole = before;
    whole.insert(whole.end(), ids.begin(), ids.end());
    whole.insert(whole.end(), after.begin(), after.end());
    CHECK(question(word) == whole);
  }
  CHECK(tokenizer.vocab_size() == 4096);
  CHECK(tokenizer.id_to_token(4095) == "<|im_end|>");
  CHECK(tokenizer.token_to_id("<|im_start|>") == 4094);
}

TEST_CASE("every word and every answer of the demo model comes back from its ids") {
  const Tokenizer tokenizer = Tokenizer::load(demo_model());
  std::ifstream words(demo_model() / "words.tsv");
  int lines = 0;
  for (std::string line; std::getline(words, line); ++lines) {
    INFO(line);
    CHECK(tokenizer.decode(tokenizer.encode(line)) == line);
  }
  CHECK(lines == 2005);
}
