// Every tokenizer in test/golden/tokenizers, held to what the tokenizers library gave.
#include "catch.hpp"

#include <tessera/text/tokenizer.hpp>

#include "golden.hpp"

using namespace tessera;

namespace {

std::vector<std::filesystem::path> tokenizer_folders() {
  std::vector<std::filesystem::path> folders;
  for (const auto& entry : std::filesystem::directory_iterator(golden::folder("tokenizers")))
    if (entry.is_directory()) folders.push_back(entry.path());
  std::sort(folders.begin(), folders.end());
  return folders;
}

}  // namespace

TEST_CASE("every golden text encodes and decodes as the tokenizers library does it") {
  std::size_t checked = 0;
  for (const auto& folder : tokenizer_folders()) {
    const Tokenizer tokenizer = Tokenizer::load(folder);
    for (const golden::Case& c : golden::cases(folder)) {
      INFO(folder.filename().string() << ": " << c.text);
      CHECK(tokenizer.encode(c.text) == c.ids);
      CHECK(tokenizer.encode(c.text, false) == c.ids_no_special);
      CHECK(tokenizer.decode(c.ids_no_special) == c.decoded);
      ++checked;
    }
  }
  REQUIRE(checked >= 4 * 130);
}

TEST_CASE("decoding as ids come gives the same text as decoding at once, in whole characters") {
  for (const auto& folder : tokenizer_folders()) {
    const Tokenizer tokenizer = Tokenizer::load(folder);
    StreamDecoder stream = tokenizer.stream_decoder();
    for (const golden::Case& c : golden::cases(folder)) {
      INFO(folder.filename().string() << ": " << c.text);
      std::string joined;
      for (const token_t id : c.ids_no_special) {
        const std::string piece = stream.push(id);
        CHECK(text::find_invalid_utf8(piece) == std::string::npos);
        joined += piece;
      }
      joined += stream.flush();
      CHECK(joined == c.decoded);
    }
  }
}

TEST_CASE("random ids decode as the tokenizers library does it, at once and as they come") {
  std::size_t checked = 0;
  for (const auto& folder : tokenizer_folders()) {
    if (!std::filesystem::exists(folder / "decodes.json")) continue;
    const Tokenizer tokenizer = Tokenizer::load(folder);
    for (const auto& row : golden::read_json(folder / "decodes.json")) {
      INFO(folder.filename().string() << ": " << row.dump());
      const std::vector<token_t> ids = row.at("ids");
      const bool skip_special = row.at("skip_special");
      const std::string decoded = row.at("decoded");
      CHECK(tokenizer.decode(ids, skip_special) == decoded);
      StreamDecoder stream = tokenizer.stream_decoder(skip_special);
      std::string joined;
      for (const token_t id : ids) joined += stream.push(id);
      CHECK(joined + stream.flush() == decoded);
      ++checked;
    }
  }
  REQUIRE(checked > 300);
}
