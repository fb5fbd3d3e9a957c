// Random texts of all of Unicode, and random bytes: what comes back, and what is refused.
#include <random>
#include <tessera/text/tokenizer.hpp>

#include "catch.hpp"
#include "golden.hpp"

using namespace tessera;

namespace {

/// Any code points: half of them ASCII, surrogates never.
std::string random_text(std::mt19937& random) {
  std::string out;
  for (std::size_t n = random() % 60; n > 0; --n) {
    const std::uint32_t limit = random() % 2 == 0 ? 0x80 : random() % 2 == 0 ? 0x3000 : 0x110000;
    const std::uint32_t c = random() % limit;
    if (c < 0xD800 || c > 0xDFFF) text::append_utf8(out, c);
  }
  return out;
}

}  // namespace

TEST_CASE("byte-level BPE gives every text back, normalised as the tokenizer has it") {
  std::mt19937 random(11);
  for (const char* name : {"qwen", "llama3"}) {
    const Tokenizer tokenizer = Tokenizer::load(golden::folder("tokenizers") / name);
    const text::UnicodeForm nfc(text::UnicodeForm::Form::nfc);
    for (int round = 0; round < 2000; ++round) {
      const std::string text = random_text(random);
      INFO(name << " " << text);
      const std::string expected = std::string(name) == "qwen" ? nfc(text) : text;
      REQUIRE(tokenizer.decode(tokenizer.encode(text), true) == expected);
    }
  }
}

TEST_CASE("byte-fallback BPE gives every text back") {
  std::mt19937 random(12);
  const Tokenizer tokenizer = Tokenizer::load(golden::folder("tokenizers") / "llama2");
  for (int round = 0; round < 2000; ++round) {
    std::string text = random_text(random);
    // U+2581 is how this tokenizer writes a space: it comes back as one.
    while (text.find("\u2581") != std::string::npos) text.replace(text.find("\u2581"), 3, " ");
    INFO(text);
    REQUIRE(tokenizer.decode(tokenizer.encode(text), true) == text);
  }
}

TEST_CASE("streaming random ids gives whole characters, and together the decoded text") {
  std::mt19937 random(13);
  for (const char* name : {"qwen", "llama3", "llama2", "odd"}) {
    const Tokenizer tokenizer = Tokenizer::load(golden::folder("tokenizers") / name);
    for (int round = 0; round < 500; ++round) {
      const bool skip_special = round % 2 == 0;
      StreamDecoder stream = tokenizer.stream_decoder(skip_special);
      std::vector<token_t> ids;
      std::string joined;
      for (int i = 0; i < 40; ++i) {
        ids.push_back(static_cast<token_t>(random() % static_cast<std::uint64_t>(tokenizer.vocab_size() + 3)));
        const std::string piece = stream.push(ids.back());
        REQUIRE(text::find_invalid_utf8(piece) == std::string::npos);
        joined += piece;
      }
      joined += stream.flush();
      REQUIRE(joined == tokenizer.decode(ids, skip_special));
    }
  }
}

TEST_CASE("a stream shows a character as soon as its last byte is there") {
  const Tokenizer tokenizer = Tokenizer::load(golden::folder("tokenizers") / "qwen");
  const std::string text = "a😀b";
  StreamDecoder stream = tokenizer.stream_decoder();
  std::string joined;
  std::size_t silent = 0;
  const std::vector<token_t> ids = tokenizer.encode(text);
  for (const token_t id : ids) {
    const std::string piece = stream.push(id);
    if (piece.empty()) ++silent;
    joined += piece;
  }
  CHECK(joined == text);  // nothing is left for flush
  CHECK(silent == ids.size() - 3);
  CHECK(stream.flush().empty());
}

TEST_CASE("a text that is not UTF-8 is refused with the place of its first wrong byte") {
  const Tokenizer tokenizer = Tokenizer::load(golden::folder("tokenizers") / "qwen");
  for (const std::string& bad : {std::string("ab\xFF"), std::string("ab\xC0\x80"), std::string("ab\xED\xA0\x80"),
                                 std::string("ab\xE4\xB8"), std::string("ab\xF5\x80\x80\x80")}) {
    CHECK_THROWS_WITH(tokenizer.encode(bad), Catch::Contains("expected UTF-8") && Catch::Contains("offset 2"));
  }
  std::mt19937 random(14);
  for (int round = 0; round < 2000; ++round) {
    std::string bytes;
    for (std::size_t n = random() % 20; n > 0; --n) bytes += static_cast<char>(random());
    if (text::find_invalid_utf8(bytes) == std::string::npos) {
      CHECK(tokenizer.encode(bytes).size() <= 4 * bytes.size());
    } else {
      CHECK_THROWS_AS(tokenizer.encode(bytes), Error);
    }
  }
}
