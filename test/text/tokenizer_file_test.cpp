// What tokenizer.json and tokenizer_config.json may say, and what is refused: with what, expected, found and where.
#include <sys/stat.h>

#include <random>

#include <tessera/text/chat_template.hpp>
#include <tessera/text/tokenizer.hpp>

#include "catch.hpp"
#include "golden.hpp"
#include "io/temp_folder.hpp"

using namespace tessera;
using text::Json;

namespace {

namespace fs = std::filesystem;

/// A tokenizer of five letters and two merges.
Json small() {
  return Json::parse(R"({
    "added_tokens": [{"id": 8, "content": "<s>", "special": true}, {"id": 9, "content": "</s>", "special": true}],
    "normalizer": null, "pre_tokenizer": null, "post_processor": null, "decoder": {"type": "Fuse"},
    "model": {"type": "BPE", "dropout": null, "unk_token": "?",
              "vocab": {"?": 0, "a": 1, "b": 2, "c": 3, "d": 4, "e": 5, "ab": 6, "abc": 7},
              "merges": [["a", "b"], ["ab", "c"]]}})");
}

/// Why a tokenizer.json is refused; empty if it is not.
std::string file_refusal(const std::string& tokenizer_json, const std::string& config = "{}") {
  try {
    const Tokenizer tokenizer(tokenizer_json, "tokenizer.json", config);
  } catch (const Error& error) {
    return error.what();
  }
  return {};
}

/// The same after one change, at a JSON pointer.
std::string file_refusal_with(const std::string& pointer, const Json& value) {
  Json json = small();
  json[Json::json_pointer(pointer)] = value;
  return file_refusal(json.dump());
}

}  // namespace

TEST_CASE("a small tokenizer loads, merges and names its tokens") {
  const Tokenizer tokenizer(small().dump());
  CHECK(tokenizer.encode("abcab<s>xd") == std::vector<token_t>{7, 6, 8, 0, 4});
  CHECK(tokenizer.vocab_size() == 10);
  CHECK(tokenizer.token_to_id("abc") == 7);
  CHECK(tokenizer.token_to_id("</s>") == 9);
  CHECK(tokenizer.token_to_id("nothing") == -1);
  CHECK(tokenizer.id_to_token(7) == "abc");
  CHECK(tokenizer.id_to_token(8) == "<s>");
  CHECK(tokenizer.id_to_token(-1).empty());
  CHECK(tokenizer.id_to_token(10).empty());
  CHECK(tokenizer.is_special(8));
  CHECK_FALSE(tokenizer.is_special(7));
  CHECK(tokenizer.decode(std::vector<token_t>{7, 8, 12345, -3, 5}) == "abc<s>e");
  CHECK(tokenizer.decode(std::vector<token_t>{7, 8, 5}, true) == "abce");
}

TEST_CASE("components that are not built in are refused by name") {
  CHECK_THAT(file_refusal_with("/model/type", "WordPiece"),
             Catch::Contains("model.type: expected BPE, found \"WordPiece\""));
  CHECK_THAT(file_refusal_with("/model/dropout", 0.1),
             Catch::Contains("model.dropout: expected null") && Catch::Contains("0.1"));
  CHECK_THAT(file_refusal_with("/model/continuing_subword_prefix", "##"), Catch::Contains("found \"##\""));
  CHECK_THAT(file_refusal_with("/model/end_of_word_suffix", "</w>"), Catch::Contains("found \"</w>\""));
  CHECK_THAT(file_refusal_with("/normalizer", {{"type", "BertNormalizer"}}), Catch::Contains("\"BertNormalizer\""));
  CHECK_THAT(file_refusal_with("/pre_tokenizer", {{"type", "Punctuation"}}), Catch::Contains("\"Punctuation\""));
  CHECK_THAT(file_refusal_with("/decoder", {{"type", "WordPiece"}}),
             Catch::Contains("decoder.type") && Catch::Contains("\"WordPiece\""));
  CHECK_THAT(file_refusal_with("/post_processor", {{"type", "BertProcessing"}}), Catch::Contains("\"BertProcessing\""));
  CHECK(file_refusal_with("/model/dropout", 0.0).empty());
  CHECK(file_refusal_with("/model/continuing_subword_prefix", "").empty());
}

TEST_CASE("a damaged tokenizer.json is refused with the place") {
  CHECK_THAT(file_refusal("{"), Catch::Contains("tokenizer.json: expected JSON, found a parse error"));
  CHECK_THAT(file_refusal("[]"),
             Catch::Contains("tokenizer.json: expected an object, found []") || Catch::Contains("found array"));
  CHECK_THAT(file_refusal("{}"), Catch::Contains("expected a field 'model'"));
  CHECK_THAT(file_refusal_with("/model/vocab", Json::array()), Catch::Contains("model.vocab: expected an object"));
  CHECK_THAT(file_refusal_with("/model/vocab/a", -1),
             Catch::Contains("model.vocab['a']") && Catch::Contains("found -1"));
  CHECK_THAT(file_refusal_with("/model/vocab/a", 1.5), Catch::Contains("found 1.5"));
  CHECK_THAT(file_refusal_with("/model/vocab/a", "1"), Catch::Contains("found \"1\""));
  CHECK_THAT(file_refusal_with("/model/vocab/a", 4000000000U), Catch::Contains("below 1048576, found 4000000000"));
  CHECK_THAT(file_refusal_with("/model/vocab/a", 2), Catch::Contains("expected an id of its own, found 2"));
  CHECK_THAT(file_refusal_with("/model/merges/0", {"a", "z"}),
             Catch::Contains("model.merges[0]: expected tokens of the vocabulary, found 'z'"));
  CHECK_THAT(file_refusal_with("/model/merges/0", {"d", "e"}), Catch::Contains("found 'de'"));
  CHECK_THAT(file_refusal_with("/model/merges/1", {"ab", "c", "d"}),
             Catch::Contains("model.merges[1]: expected two tokens"));
  CHECK_THAT(file_refusal_with("/model/merges/1", "ab"), Catch::Contains("expected two tokens with one space between"));
  CHECK_THAT(file_refusal_with("/model/merges/1", 3), Catch::Contains("model.merges[1]: expected two tokens"));
  CHECK_THAT(file_refusal_with("/model/unk_token", "<unk>"), Catch::Contains("found '<unk>'"));
  CHECK_THAT(file_refusal_with("/added_tokens/0/id", 7),
             Catch::Contains("added_tokens[0]") && Catch::Contains("'abc' in model.vocab"));
  CHECK_THAT(file_refusal_with("/added_tokens/0/id", 9),
             Catch::Contains("added_tokens[1]") && Catch::Contains("which is '<s>'"));
  CHECK_THAT(file_refusal_with("/added_tokens/0/content", ""), Catch::Contains("expected a text, found an empty one"));
  CHECK_THAT(file_refusal_with("/added_tokens/0/content", "a"),
             Catch::Contains("expected id 1 as in model.vocab, found 8"));
  CHECK_THAT(file_refusal_with("/added_tokens/0/lstrip", 1),
             Catch::Contains("added_tokens[0].lstrip: expected true or false, found 1"));
}

TEST_CASE("a pattern that cannot be compiled, or takes without end, is refused") {
  const auto split = [](const std::string& pattern) {
    return Json{{"type", "Split"}, {"pattern", {{"Regex", pattern}}}, {"behavior", "Isolated"}, {"invert", false}};
  };
  CHECK_THAT(file_refusal_with("/pre_tokenizer", split("(a")),
             Catch::Contains("pre_tokenizer.pattern.Regex") && Catch::Contains("'(a'"));
  CHECK_FALSE(file_refusal_with("/pre_tokenizer", split(std::string(200000, '('))).empty());
  CHECK_THAT(file_refusal_with("/pre_tokenizer", split("\\C")), Catch::Contains("PCRE2"));
  CHECK_THAT(file_refusal_with("/normalizer", {{"type", "Replace"}, {"pattern", {{"String", ""}}}, {"content", "x"}}),
             Catch::Contains("found an empty one"));
  Json json = small();
  json["pre_tokenizer"] = split("(?:a|aa|aaa)+$(?<=b)|(a+a+)+b");
  const Tokenizer tokenizer(json.dump());
  CHECK_THROWS_WITH(tokenizer.encode(std::string(200, 'a')), Catch::Contains("expected a match within its limits"));
}

TEST_CASE("nesting is bounded: a deep file is refused, not followed") {
  Json nested = {{"type", "NFC"}};
  for (int depth = 0; depth < 15; ++depth) nested = {{"type", "Sequence"}, {"normalizers", {nested}}};
  CHECK(file_refusal_with("/normalizer", nested).empty());
  for (int depth = 0; depth < 5; ++depth) nested = {{"type", "Sequence"}, {"normalizers", {nested}}};
  CHECK_THAT(file_refusal_with("/normalizer", nested), Catch::Contains("nested sequences"));
  CHECK_FALSE(file_refusal(std::string(1 << 20, '[')).empty());
  CHECK_FALSE(file_refusal(std::string(1 << 20, '[') + std::string(1 << 20, ']')).empty());
}

TEST_CASE("a file cut short or with changed bytes is refused or loads, and never more") {
  std::mt19937 random(3);
  for (const char* name : {"odd", "mix_001", "mix_024"}) {
    const std::string whole = test::read_file(golden::folder("tokenizers") / name / "tokenizer.json");
    for (int round = 0; round < 60; ++round) {
      std::string bytes = whole;
      if (round % 3 == 0) bytes.resize(random() % bytes.size());
      for (std::size_t n = round % 3 == 0 ? 0 : 1 + random() % 3; n > 0; --n)
        bytes[random() % bytes.size()] = "0123456789\"{}[]:,x\x80"[random() % 19];
      try {
        const Tokenizer tokenizer(bytes);
        (void)tokenizer.decode(tokenizer.encode("the word <a>b 😀  x"));
      } catch (const Error&) {
      }
    }
  }
}

TEST_CASE("what is no file, or larger than any that is published, is refused before it is read") {
  const auto both = [](const fs::path& folder) {
    (void)text::read_chat_template(folder);
    (void)Tokenizer::load(folder);
  };
  for (const auto& [name, limit] : {std::pair("tokenizer.json", index_t{256} << 20),
                                    {"tokenizer_config.json", index_t{16} << 20},
                                    {"chat_template.jinja", index_t{16} << 20}}) {
    const test::TempFolder folder;
    test::write_file(folder / "tokenizer.json", small().dump());
    REQUIRE(test::error_of([&] { both(folder.path()); }).empty());
    fs::remove(folder / name);
    const auto refusal = [&] { return test::error_of([&] { both(folder.path()); }); };
    const std::string file = (folder / name).string();
    fs::create_directory(file);
    CHECK(refusal() == file + ": expected a file, found a directory");
    fs::remove(file);
    REQUIRE(::mkfifo(file.c_str(), 0600) == 0);
    CHECK(refusal() == file + ": expected a regular file, found a device, pipe or socket");  // nobody writes to it
    fs::remove(file);
    test::write_file(file, "");
    fs::resize_file(file, std::uintmax_t{1} << 36);
    CHECK(refusal() == concat(file, ": expected at most ", limit, " bytes, found ", index_t{1} << 36));
  }
}

TEST_CASE("add_bos_token and add_eos_token of the configuration take the place of the template") {
  Json json = small();
  json["post_processor"] = Json::parse(R"({"type": "TemplateProcessing",
    "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
    "pair": [], "special_tokens": {"<s>": {"id": "<s>", "ids": [8], "tokens": ["<s>"]}}})");
  const auto ids = [&](const std::string& config) {
    const Tokenizer tokenizer(json.dump(), "tokenizer.json", config);
    CHECK(tokenizer.encode("a", false) == std::vector<token_t>{1});
    return tokenizer.encode("a");
  };
  const std::string tokens = R"("bos_token": {"__type": "AddedToken", "content": "<s>"}, "eos_token": "</s>")";
  CHECK(ids("{}") == std::vector<token_t>{8, 1});
  CHECK(ids("{" + tokens + "}") == std::vector<token_t>{8, 1});
  CHECK(ids("{" + tokens + R"(, "add_bos_token": false})") == std::vector<token_t>{1});
  CHECK(ids("{" + tokens + R"(, "add_bos_token": true, "add_eos_token": true})") == std::vector<token_t>{8, 1, 9});
  CHECK(ids("{" + tokens + R"(, "add_eos_token": true})") == std::vector<token_t>{1, 9});
  CHECK(ids(R"({"bos_token": null, "add_bos_token": true})") == std::vector<token_t>{1});
  CHECK_THAT(file_refusal(json.dump(), R"({"bos_token": "<b>", "add_bos_token": true})"),
             Catch::Contains("found '<b>'"));
  CHECK_THAT(file_refusal(json.dump(), R"({"add_bos_token": "yes"})"), Catch::Contains("expected true or false"));
  CHECK_THAT(file_refusal(json.dump(), "[1]"), Catch::Contains("tokenizer_config.json"));
  json["post_processor"]["special_tokens"]["<s>"]["ids"][0] = 77;
  CHECK_THAT(file_refusal(json.dump()), Catch::Contains("expected the id of a token, found 77"));
}

TEST_CASE("the configuration's added_tokens_decoder adds tokens and changes flags") {
  const Tokenizer tokenizer(small().dump(), "tokenizer.json", R"({"added_tokens_decoder": {
    "9": {"content": "</s>", "special": false}, "10": {"content": "<new>", "lstrip": true, "special": true}}})");
  CHECK(tokenizer.encode("a  <new>") == std::vector<token_t>{1, 10});
  CHECK_FALSE(tokenizer.is_special(9));
  CHECK(tokenizer.is_special(10));
  CHECK_THAT(file_refusal(small().dump(), R"({"added_tokens_decoder": {"x": {"content": "y"}}})"),
             Catch::Contains("['x']"));
  CHECK_THAT(file_refusal(small().dump(), R"({"added_tokens_decoder": {"3": {"content": "y"}}})"),
             Catch::Contains("'c' in model.vocab"));
}

TEST_CASE("a folder without tokenizer.json is refused with the path") {
  const test::TempFolder folder;
  CHECK_THROWS_WITH(Tokenizer::load(folder.path()), Catch::Contains((folder / "tokenizer.json").string()));
  test::write_file(folder / "tokenizer.model", "");
  CHECK_THROWS_WITH(Tokenizer::load(folder.path()), Catch::Contains((folder / "tokenizer.model").string()));
  test::write_file(folder / "tokenizer.json", small().dump());
  CHECK(Tokenizer::load(folder.path()).vocab_size() == 10);
  test::write_file(folder / "tokenizer_config.json", "{");
  CHECK_THROWS_WITH(Tokenizer::load(folder.path()), Catch::Contains("tokenizer_config.json: expected JSON"));
}
