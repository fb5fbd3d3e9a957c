#pragma once
// Byte-pair encoding: a piece of text becomes symbols, and the merge of lowest rank is applied until none is left.

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <tessera/core/types.hpp>
#include <tessera/text/json_reader.hpp>
#include <tessera/text/merge_table.hpp>
#include <tessera/text/unicode.hpp>
#include <tessera/text/vocabulary.hpp>

namespace tessera::text {

/// The model of tokenizer.json, type BPE. Const use from several threads is safe.
class BpeModel {
 public:
  BpeModel() = default;

  /// Reads the field `model`. `id_limit` bounds the ids (and so the memory) by what the file can hold. Dropout, subword
  /// prefixes and suffixes, and other model types are refused by name.
  BpeModel(const JsonReader& json, std::int64_t id_limit) {
    const std::string type = json.string_or("type", "BPE");
    if (type != "BPE") json.at("type").wrong("BPE");
    if (const auto dropout = json.find("dropout")) {
      const bool none = dropout->value().is_number() && dropout->value().get<double>() == 0;
      if (!none) dropout->wrong("null (dropout makes an encoding random)");
    }
    for (const std::string_view key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
      const auto affix = json.find(key);
      if (affix && !affix->string().empty()) affix->wrong("null (a vocabulary without prefixes and suffixes)");
    }
    ignore_merges_ = json.boolean_or("ignore_merges", false);
    byte_fallback_ = json.boolean_or("byte_fallback", false);
    fuse_unk_ = json.boolean_or("fuse_unk", false);
    read_vocabulary(json.at("vocab"), id_limit);
    read_merges(json.at("merges"));
    if (const auto unk = json.find("unk_token")) {
      unk_ = vocabulary_.id(unk->string());
      require(unk_ >= 0, unk->where(), ": expected a token of the vocabulary, found '", unk->string(), "'");
    }
    for (unsigned byte = 0; byte < 256; ++byte) byte_tokens_[byte] = vocabulary_.id(byte_token_name(byte));
    for (char32_t c = 0; c < direct_code_points; ++c) {
      std::string name;
      append_utf8(name, c);
      symbol_of_[c] = vocabulary_.id(name);
    }
  }

  [[nodiscard]] const Vocabulary& vocabulary() const { return vocabulary_; }

  /// Appends the ids of one piece (UTF-8, not empty). O(n log n) in its length.
  void encode(std::string_view piece, std::vector<token_t>& out) const {
    if (ignore_merges_) {
      if (const token_t whole = vocabulary_.id(piece); whole >= 0) {
        out.push_back(whole);
        return;
      }
    }
    const std::size_t first = out.size();
    append_symbols(piece, out);
    merges_.apply(out, first);
  }

 private:
  /// Code points below stand in a table: the byte alphabet, and so every symbol of a byte-level model, is among them.
  static constexpr char32_t direct_code_points = 0x180;

  static std::string byte_token_name(unsigned byte) {
    constexpr char digits[] = "0123456789ABCDEF";
    return concat("<0x", digits[byte >> 4], digits[byte & 0xF], '>');
  }

  void append_symbols(std::string_view piece, std::vector<token_t>& out) const {
    int pending_unk = 0;  // unknown characters are held back: neighbours may fuse
    const auto flush = [&] {
      for (; pending_unk > 0; --pending_unk) out.push_back(unk_);
    };
    for (std::size_t at = 0; at < piece.size();) {
      const Utf8Step step = utf8_step(piece, at);
      const std::string_view character = piece.substr(at, step.length);
      at += step.length;
      const token_t id = step.code_point < direct_code_points ? symbol_of_[step.code_point] : vocabulary_.id(character);
      if (id >= 0) {
        flush();
        out.push_back(id);
      } else if (byte_fallback_ && has_byte_tokens(character)) {
        // A held-back unknown stays held back here: in the reference, too, it then follows these bytes.
        for (const char byte : character) out.push_back(byte_tokens_[static_cast<std::uint8_t>(byte)]);
      } else if (unk_ >= 0) {
        if (!fuse_unk_) flush();
        pending_unk = 1;
      }
    }
    flush();
  }

  [[nodiscard]] bool has_byte_tokens(std::string_view character) const {
    for (const char byte : character)
      if (byte_tokens_[static_cast<std::uint8_t>(byte)] < 0) return false;
    return true;
  }

  // There are hundreds of thousands of entries: the names of their places are made for messages only.

  void read_vocabulary(const JsonReader& json, std::int64_t id_limit) {
    vocabulary_.reserve(json.object().size());
    for (const auto& [token, value] : json.object()) {
      const auto entry = [&, &key = token, &id = value] {
        return JsonReader(id, concat(json.where(), "['", key, "']"));
      };
      const bool fits = value.is_number_unsigned() && value.get<std::uint64_t>() < static_cast<std::uint64_t>(id_limit);
      if (!fits) entry().wrong(concat("an integer from 0 to below ", id_limit));
      const auto id = value.get<token_t>();
      if (!vocabulary_.add(token, id))
        fail(entry().where(), ": expected an id of its own, found ", id, ", which is '", vocabulary_.token(id), "'");
    }
  }

  void read_merges(const JsonReader& json) {
    merges_.reserve(json.array().size());
    std::string merged;
    std::int32_t rank = 0;
    for (const Json& merge : json.array()) {
      const auto place = [&] { return json.element(static_cast<std::size_t>(rank)); };
      std::string_view left, right;
      if (merge.is_string()) {  // the older spelling: "left right"
        const std::string_view both = merge.get_ref<const std::string&>();
        const std::size_t space = both.find(' ');
        if (space == std::string_view::npos || both.find(' ', space + 1) != std::string_view::npos)
          place().wrong("two tokens with one space between");
        left = both.substr(0, space), right = both.substr(space + 1);
      } else {
        if (!merge.is_array() || merge.size() != 2 || !merge[0].is_string() || !merge[1].is_string())
          place().wrong("two tokens, [\"left\", \"right\"] or \"left right\"");
        left = merge[0].get_ref<const std::string&>(), right = merge[1].get_ref<const std::string&>();
      }
      merged.assign(left).append(right);
      const auto known = [&](std::string_view token) {
        const token_t id = vocabulary_.id(token);
        if (id < 0) fail(place().where(), ": expected tokens of the vocabulary, found '", token, "'");
        return id;
      };
      const token_t left_id = known(left), right_id = known(right);
      merges_.add(left_id, right_id, {rank, known(merged)});
      ++rank;
    }
  }

  Vocabulary vocabulary_;
  MergeTable merges_;
  token_t unk_ = -1;
  bool ignore_merges_ = false;
  bool byte_fallback_ = false;
  bool fuse_unk_ = false;
  std::array<token_t, 256> byte_tokens_{};
  std::array<token_t, direct_code_points> symbol_of_{};
};

}  // namespace tessera::text
