// tokenizer.model where there is no tokenizer.json: held to the cases of the tokenizers library, and to
// libsentencepiece.
#include <cstring>
#include <unordered_map>

#include <tessera/text/tokenizer.hpp>

#include "catch.hpp"
#include "golden.hpp"
#include "io/temp_folder.hpp"

#ifdef TESSERA_SENTENCEPIECE
#include <sentencepiece_trainer.h>
#endif

using namespace tessera;

namespace {

/// A SentencePiece model file, written field by field. Source: sentencepiece_model.proto.
class ModelFile {
 public:
  enum Type { normal = 1, unknown = 2, control = 3, byte = 6 };

  void add_piece(const std::string& text, float score, Type type) {
    std::string piece = field(1, text) + '\x15';  // field 2, 32 bits
    char bytes[sizeof score];
    std::memcpy(bytes, &score, sizeof score);
    piece.append(bytes, sizeof bytes) += field(3, type);
    bytes_ += field(1, piece);
  }

  /// Byte-pair encoding with byte fallback, and a space before each text but no other change, as Llama 2 has it.
  [[nodiscard]] std::string finish() const {
    const std::string trainer = field(3, 2) + field(35, 1),
                      normalizer = field(1, "identity") + field(3, 1) + field(4, 0);
    return bytes_ + field(2, trainer) + field(3, normalizer);
  }

 private:
  static std::string number(unsigned n) {
    std::string bytes;
    for (; n >= 0x80; n >>= 7) bytes += static_cast<char>(n | 0x80);
    return bytes += static_cast<char>(n);
  }
  static std::string field(unsigned n, int value) { return number(n << 3) + number(static_cast<unsigned>(value)); }
  static std::string field(unsigned n, const std::string& bytes) {
    return number(n << 3 | 2) + number(static_cast<unsigned>(bytes.size())) + bytes;
  }

  std::string bytes_;
};

/// The golden Llama 2 vocabulary as a tokenizer.model: what merges earlier scores higher.
std::string llama2_model() {
  const auto json = golden::read_json(golden::folder("tokenizers/llama2") / "tokenizer.json");
  std::vector<std::string> pieces(json["model"]["vocab"].size());
  for (const auto& [text, id] : json["model"]["vocab"].items()) pieces[id.get<std::size_t>()] = text;
  std::unordered_map<std::string, float> scores;
  for (const auto& merge : json["model"]["merges"])
    scores[merge[0].get<std::string>() + merge[1].get<std::string>()] = -static_cast<float>(scores.size());
  ModelFile file;
  for (const std::string& piece : pieces) {
    const bool is_byte = piece.size() == 6 && piece.starts_with("<0x");
    const bool is_control = piece == "<s>" || piece == "</s>";
    const ModelFile::Type type = piece == "<unk>" ? ModelFile::unknown
                                 : is_control     ? ModelFile::control
                                 : is_byte        ? ModelFile::byte
                                                  : ModelFile::normal;
    file.add_piece(piece, scores.contains(piece) ? scores[piece] : -1e6F, type);
  }
  return file.finish();
}

std::string model_file_refusal(const test::TempFolder& folder) {
  try {
    (void)Tokenizer::load(folder.path());
  } catch (const Error& error) {
    return error.what();
  }
  return {};
}

}  // namespace

#ifdef TESSERA_SENTENCEPIECE

/// A corpus as the trainer reads it.
class Sentences final : public sentencepiece::SentenceIterator {
 public:
  explicit Sentences(const std::vector<std::string>& all) : all_(all) {}
  [[nodiscard]] bool done() const override { return at_ == all_.size(); }
  void Next() override { ++at_; }
  [[nodiscard]] const std::string& value() const override { return all_[at_]; }
  [[nodiscard]] sentencepiece::util::Status status() const override { return {}; }

 private:
  const std::vector<std::string>& all_;
  std::size_t at_ = 0;
};

TEST_CASE("the Llama 2 cases hold for a tokenizer.model alone") {
  const test::TempFolder folder;
  test::write_file(folder / "tokenizer.model", llama2_model());
  const Tokenizer tokenizer = Tokenizer::load(folder.path());
  std::size_t checked = 0;
  for (const golden::Case& c : golden::cases(golden::folder("tokenizers/llama2"))) {
    INFO(c.text);
    CHECK(tokenizer.encode(c.text) == c.ids);
    CHECK(tokenizer.encode(c.text, false) == c.ids_no_special);
    CHECK(tokenizer.decode(c.ids_no_special) == c.decoded);
    ++checked;
  }
  REQUIRE(checked >= 130);
  CHECK(tokenizer.is_special(1));
  CHECK(tokenizer.vocab_size() == 2600);
}

TEST_CASE("tokenizer_config.json says what stands around a text of a tokenizer.model, and where a space begins it") {
  const test::TempFolder folder;
  test::write_file(folder / "tokenizer.model", llama2_model());
  const auto encoded = [&](const char* config, std::string_view text) {
    test::write_file(folder / "tokenizer_config.json", config);
    return Tokenizer::load(folder.path()).encode(text);
  };
  const std::vector<token_t> a = encoded(R"({"add_bos_token": false})", "a");
  REQUIRE(a.size() == 1);
  CHECK(encoded("{}", "a") == std::vector<token_t>{1, a[0]});
  CHECK(encoded(R"({"add_eos_token": true})", "a") == std::vector<token_t>{1, a[0], 2});
  CHECK(encoded(R"({"bos_token": {"content": "</s>"}})", "a") == std::vector<token_t>{2, a[0]});
  CHECK_THROWS_WITH(encoded(R"({"bos_token": "none"})", "a"),
                    Catch::Contains("bos_token: expected a token of the vocab"));
  // Behind an added token comes a space of its own, unless the file says that this is a thing of the past.
  CHECK(encoded("{}", "a</s>a") == std::vector<token_t>{1, a[0], 2, a[0]});
  const std::vector<token_t> later = encoded(R"({"legacy": false})", "a</s>a");
  REQUIRE(later.size() == 4);
  CHECK(later[3] != a[0]);
  CHECK(Tokenizer::load(folder.path()).decode(later) == "<s> a</s>a");
  // A space that is there stays: one less than where another is put before it.
  CHECK(encoded(R"({"legacy": false})", "</s> \n日") == encoded("{}", "</s>\n日"));
}

TEST_CASE("models that SentencePiece trains encode and decode as SentencePiece does it") {
  std::vector<std::string> sentences;
  for (const golden::Case& c : golden::cases(golden::folder("tokenizers/llama2"))) sentences.push_back(c.text);
  for (const std::string kind : {"unigram", "bpe"}) {
    std::string model;
    const std::string options = " --vocab_size=420 --byte_fallback=true --minloglevel=2 --character_coverage=1";
    Sentences iterator(sentences);
    const auto status = sentencepiece::SentencePieceTrainer::Train("--model_type=" + kind + options, &iterator, &model);
    REQUIRE(status.ok());
    sentencepiece::SentencePieceProcessor reference;
    REQUIRE(reference.LoadFromSerializedProto(model).ok());
    const Tokenizer tokenizer(text::SentencePieceModel(model, "tokenizer.model"), R"({"add_bos_token": false})");
    for (const std::string& sentence : sentences) {
      if (sentence.find('<') != std::string::npos) continue;  // may hold added tokens, which are not the model's
      INFO(kind << ": " << sentence);
      std::vector<int> ids;
      REQUIRE(reference.Encode(sentence, &ids).ok());
      CHECK(tokenizer.encode(sentence) == std::vector<token_t>(ids.begin(), ids.end()));
      std::string decoded;
      REQUIRE(reference.Decode(ids, &decoded).ok());
      CHECK(tokenizer.decode(std::vector<token_t>(ids.begin(), ids.end())) == decoded);
    }
  }
}

TEST_CASE("a tokenizer.model that is none is refused") {
  const test::TempFolder folder;
  for (const std::string& bytes : {std::string(), std::string("no model"), llama2_model().substr(0, 1000)}) {
    test::write_file(folder / "tokenizer.model", bytes);
    CHECK(model_file_refusal(folder).find("tokenizer.model: expected a SentencePiece model") != std::string::npos);
  }
}

#else

TEST_CASE("a build without libsentencepiece says what to do with a tokenizer.model") {
  const test::TempFolder folder;
  test::write_file(folder / "tokenizer.model", llama2_model());
  CHECK(model_file_refusal(folder).find("install libsentencepiece-dev") != std::string::npos);
}

#endif
