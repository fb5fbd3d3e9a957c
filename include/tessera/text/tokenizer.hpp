#pragma once
// The tokenizer of a Hugging Face folder: text to ids and back, equal to what the tokenizers library gives.

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include <tessera/core/open_file.hpp>
#include <tessera/text/added_tokens.hpp>
#include <tessera/text/bpe_model.hpp>
#include <tessera/text/decoder.hpp>
#include <tessera/text/normalizer.hpp>
#include <tessera/text/post_processor.hpp>
#include <tessera/text/pre_tokenizer.hpp>
#include <tessera/text/sentencepiece_model.hpp>

namespace tessera {

class StreamDecoder;

/// Encodes and decodes; const use from several threads is safe.
///
/// The order of encoding: added tokens are found in the raw text; what lies between is normalised; the normalized added
/// tokens are found in that; the rest is cut by the pre-tokenizer, and each piece goes through BPE.
class Tokenizer {
 public:
  /// Reads `tokenizer.json`, or `tokenizer.model` where only that is there; and `tokenizer_config.json` where there is
  /// one. A component that is not built in is refused by name; Error says which file and field. Throws Error for what
  /// is no regular file, or larger than any that is published.
  [[nodiscard]] static Tokenizer load(const std::filesystem::path& folder) {
    const auto json = folder / "tokenizer.json";
    const auto sentencepiece = folder / "tokenizer.model";
    const auto config = folder / "tokenizer_config.json";
    const std::string config_text = std::filesystem::exists(config) ? read_text(config, text::largest_settings) : "{}";
    if (!std::filesystem::exists(json) && std::filesystem::exists(sentencepiece))
      return Tokenizer(
          text::SentencePieceModel(read_text(sentencepiece, text::largest_tokenizer), sentencepiece.string()),
          config_text, config.string());
    return Tokenizer(read_text(json, text::largest_tokenizer), json.string(), config_text, config.string());
  }

  /// Reads the texts of both files; the names are for messages.
  explicit Tokenizer(std::string_view tokenizer_json, const std::string& name = "tokenizer.json",
                     std::string_view config_json = "{}", const std::string& config_name = "tokenizer_config.json") {
    const text::Json json = text::parse_json(tokenizer_json, name);
    const text::JsonReader root(json, name + ": ");
    // An entry takes some bytes of the file, so honest ids are below its size: a table over them stays in proportion.
    const std::int64_t id_limit =
        std::clamp<std::int64_t>(static_cast<std::int64_t>(tokenizer_json.size()), 1 << 20, std::int64_t{1} << 31);
    model_ = text::BpeModel(root.at("model"), id_limit);
    if (const auto field = root.find("normalizer")) normalizer_ = text::Normalizer(*field);
    if (const auto field = root.find("pre_tokenizer")) pre_tokenizer_ = text::PreTokenizer(*field);
    if (const auto field = root.find("decoder")) decoder_ = text::Decoder(*field);
    if (const auto field = root.find("added_tokens")) {
      for (std::size_t i = 0; i < field->array().size(); ++i) {
        const text::JsonReader entry = field->element(i);
        const auto id = static_cast<token_t>(entry.at("id").integer_below(id_limit));
        added_.add(text::read_added_token(entry), id, vocabulary(), entry.where());
      }
    }
    const text::Json config = text::parse_json(config_json, config_name);
    const text::JsonReader config_root(config, config_name + ": ");
    add_tokens_of_config(config_root, id_limit);
    added_.prepare(normalizer_, root.where() + "added_tokens");
    if (const auto field = root.find("post_processor")) {
      post_processor_ = text::PostProcessor(*field, [&](token_t id) { return contains(id); });
    }
    override_post_processor(config_root);
  }

  /// A SentencePiece model as transformers' LlamaTokenizer runs it: the control pieces are added tokens, BOS comes
  /// first unless the config says otherwise, and with "legacy": false only the beginning of a text gets a space before
  /// it.
  explicit Tokenizer(text::SentencePieceModel model, std::string_view config_json = "{}",
                     const std::string& config_name = "tokenizer_config.json") {
    const text::Json config = text::parse_json(config_json, config_name);
    const text::JsonReader config_root(config, config_name + ": ");
    const token_t bos = model.bos(), eos = model.eos();
    each_part_begins_ = config_root.boolean_or("legacy", true);
    const text::Json steps = text::parse_json(
        concat(R"([{"type": "Replace", "pattern": {"String": "▁"}, "content": " "}, {"type": "ByteFallback"})",
               R"(, {"type": "Fuse"})",
               model.adds_space() ? R"(, {"type": "Strip", "content": " ", "start": 1, "stop": 0})" : "", "]"),
        "decoder");
    const text::Json decoder = {{"type", "Sequence"}, {"decoders", steps}};
    decoder_ = text::Decoder(text::JsonReader(decoder, "decoder"));
    for (const token_t id : model.special())
      added_.add({.content = std::string(model.vocabulary().token(id)), .normalized = false, .special = true}, id,
                 model.vocabulary(), "tokenizer.model");
    model_ = std::move(model);
    add_tokens_of_config(config_root, std::int64_t{1} << 31);
    added_.prepare(normalizer_, config_name);
    const auto around = [&](std::string_view flag, bool absent, std::string_view name, token_t of_model) {
      std::vector<token_t> ids;
      if (config_root.boolean_or(flag, absent)) ids = {config_root.find(name) ? token_of(config_root, name) : of_model};
      if (ids == std::vector<token_t>{-1}) ids.clear();
      return ids;
    };
    post_processor_ = text::PostProcessor(around("add_bos_token", true, "bos_token", bos),
                                          around("add_eos_token", false, "eos_token", eos));
  }

  /// The ids of `text`, which is UTF-8 (else Error). With `add_special` the template's tokens stand around it (BOS for
  /// Llama); a rendered chat is encoded without, since it has its own.
  [[nodiscard]] std::vector<token_t> encode(std::string_view text, bool add_special = true) const {
    text::require_utf8(text, "text to encode");
    std::vector<token_t> ids;
    if (add_special) ids = post_processor_.before();
    for (const text::Segment& segment : added_.cut_raw(text)) {
      if (segment.id >= 0) {
        ids.push_back(segment.id);
      } else {
        encode_raw(text.substr(segment.begin, segment.end - segment.begin), segment.begin == 0, ids);
      }
    }
    if (add_special) ids.insert(ids.end(), post_processor_.after().begin(), post_processor_.after().end());
    return ids;
  }

  /// The text of `ids`, as UTF-8. Ids without a token (a model's vocabulary is often padded) give nothing.
  [[nodiscard]] std::string decode(std::span<const token_t> ids, bool skip_special = false) const {
    text::Decoder decoder = decoder_;
    std::string out;
    for (const token_t id : ids)
      if (decodes(id, skip_special)) out += decoder.push(decoder_text(id));
    return out += decoder.finish();
  }

  /// Decodes ids as they come; the tokenizer must outlive it.
  [[nodiscard]] StreamDecoder stream_decoder(bool skip_special = false) const;

  /// The id of a token's text, as the vocabulary spells it, or -1.
  [[nodiscard]] token_t token_to_id(std::string_view token) const {
    const token_t added = added_.texts().id(token);
    return added >= 0 ? added : vocabulary().id(token);
  }

  /// The text of an id as the vocabulary spells it; empty where there is none.
  [[nodiscard]] std::string_view id_to_token(token_t id) const {
    return added_.texts().contains(id) ? added_.texts().token(id) : vocabulary().token(id);
  }

  [[nodiscard]] bool contains(token_t id) const { return added_.texts().contains(id) || vocabulary().contains(id); }

  /// Whether decoding may skip the id.
  [[nodiscard]] bool is_special(token_t id) const {
    const text::AddedToken* token = added_.find(id);
    return token != nullptr && token->special;
  }

  /// One more than the largest id. A model may have more rows than that.
  [[nodiscard]] index_t vocab_size() const { return std::max(vocabulary().id_end(), added_.texts().id_end()); }

 private:
  friend class StreamDecoder;

  [[nodiscard]] const text::Vocabulary& vocabulary() const {
    return std::visit([](const auto& model) -> const text::Vocabulary& { return model.vocabulary(); }, model_);
  }

  /// One piece; `begins` says that it is the beginning of the text.
  void encode_piece(std::string_view piece, bool begins, std::vector<token_t>& ids) const {
    if (const auto* bpe = std::get_if<text::BpeModel>(&model_)) return bpe->encode(piece, ids);
    std::get<text::SentencePieceModel>(model_).encode(piece, begins || each_part_begins_, ids);
  }

  void encode_raw(std::string_view raw, bool at_start, std::vector<token_t>& ids) const {
    const std::string normal = normalizer_(raw);
    for (const text::Segment& segment : added_.cut_normalized(normal)) {
      if (segment.id >= 0) {
        ids.push_back(segment.id);
        continue;
      }
      const bool begins = at_start && segment.begin == 0;
      const text::Pieces pieces = pre_tokenizer_({normal.substr(segment.begin, segment.end - segment.begin), begins});
      for (const text::Pieces::Piece& piece : pieces.pieces) encode_piece(pieces.text(piece), begins, ids);
    }
  }

  [[nodiscard]] bool decodes(token_t id, bool skip_special) const {
    return contains(id) && !(skip_special && is_special(id));
  }

  [[nodiscard]] std::string_view decoder_text(token_t id) const {
    return added_.texts().contains(id) ? added_.decoder_text(id) : vocabulary().token(id);
  }

  /// `added_tokens_decoder` adds tokens, or gives those of tokenizer.json other flags.
  void add_tokens_of_config(const text::JsonReader& config, std::int64_t id_limit) {
    const auto field = config.find("added_tokens_decoder");
    if (!field) return;
    for (const auto& [key, value] : field->object()) {
      const text::JsonReader entry(value, concat(field->where(), "['", key, "']"));
      std::int64_t id = -1;
      const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), id);
      const bool is_id = error == std::errc() && end == key.data() + key.size() && id >= 0 && id < id_limit;
      require(is_id, entry.where(), ": expected an id below ", id_limit, " as its key");
      added_.add(text::read_added_token(entry), static_cast<token_t>(id), vocabulary(), entry.where());
    }
  }

  /// The id of the token that a field of tokenizer_config.json spells, as a string or as an object.
  [[nodiscard]] token_t token_of(const text::JsonReader& config, std::string_view name) const {
    const text::JsonReader token = config.at(name);
    const std::string& spelled = token.value().is_object() ? token.at("content").string() : token.string();
    const token_t id = token_to_id(spelled);
    require(id >= 0, token.where(), ": expected a token of the vocabulary, found '", spelled, "'");
    return id;
  }

  /// `add_bos_token` and `add_eos_token` take the place of the template, as in transformers: once one of them is
  /// given, an absent one means false.
  void override_post_processor(const text::JsonReader& config) {
    if (!config.find("add_bos_token") && !config.find("add_eos_token")) return;
    const auto around = [&](std::string_view flag, std::string_view name) -> std::vector<token_t> {
      if (!config.boolean_or(flag, false) || !config.find(name)) return {};
      return {token_of(config, name)};
    };
    post_processor_ = text::PostProcessor(around("add_bos_token", "bos_token"), around("add_eos_token", "eos_token"));
  }

  std::variant<text::BpeModel, text::SentencePieceModel> model_;
  bool each_part_begins_ = true;  // of a SentencePiece model: also between added tokens
  text::Normalizer normalizer_;
  text::PreTokenizer pre_tokenizer_;
  text::Decoder decoder_;
  text::AddedTokens added_;
  text::PostProcessor post_processor_;
};

/// Turns ids into text as they come: push() gives the text that is decided by then, in whole characters, flush() the
/// rest. Joined they are what Tokenizer::decode gives.
class StreamDecoder {
 public:
  StreamDecoder(const Tokenizer& tokenizer, bool skip_special)
      : tokenizer_(&tokenizer), skip_special_(skip_special), decoder_(tokenizer.decoder_) {}

  [[nodiscard]] std::string push(token_t id) {
    return tokenizer_->decodes(id, skip_special_) ? decoder_.push(tokenizer_->decoder_text(id)) : std::string();
  }

  /// Ends the text and begins a new one.
  [[nodiscard]] std::string flush() {
    text::Decoder ended = std::exchange(decoder_, tokenizer_->decoder_);
    return ended.finish();
  }

 private:
  const Tokenizer* tokenizer_;
  bool skip_special_;
  text::Decoder decoder_;
};

inline StreamDecoder Tokenizer::stream_decoder(bool skip_special) const { return {*this, skip_special}; }

}  // namespace tessera
