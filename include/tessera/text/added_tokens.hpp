#pragma once
// Added tokens: texts that are tokens wherever they stand, taken out before BPE sees the rest.

#include <algorithm>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include <tessera/text/json_reader.hpp>
#include <tessera/text/normalizer.hpp>
#include <tessera/text/regex.hpp>
#include <tessera/text/token_matcher.hpp>
#include <tessera/text/vocabulary.hpp>

namespace tessera::text {

/// An entry of tokenizer.json's `added_tokens`. `special` is for decoding only: it has no part in matching.
struct AddedToken {
  std::string content;
  bool single_word = false;  ///< no word character may stand beside it
  bool lstrip = false;       ///< takes the white space before it
  bool rstrip = false;       ///< takes the white space after it
  bool normalized = true;    ///< is looked for in the normalised text, in its own normalised form
  bool special = false;      ///< is left out of a decoding that skips special tokens
};

/// Reads the flags of one entry, of tokenizer.json or of tokenizer_config.json.
[[nodiscard]] inline AddedToken read_added_token(const JsonReader& json) {
  AddedToken token;
  token.content = json.at("content").string();
  token.single_word = json.boolean_or("single_word", false);
  token.lstrip = json.boolean_or("lstrip", false);
  token.rstrip = json.boolean_or("rstrip", false);
  token.special = json.boolean_or("special", false);
  token.normalized = json.boolean_or("normalized", !token.special);
  return token;
}

/// A part of a text: an added token, or text between added tokens.
struct Segment {
  std::size_t begin = 0;
  std::size_t end = 0;
  token_t id = -1;  ///< -1: text
};

/// The added tokens of a tokenizer, and where they match.
class AddedTokens {
 public:
  /// Adds a token or gives one new flags. Its id must be the one that `vocabulary` has for its text, if it has it.
  void add(AddedToken token, token_t id, const Vocabulary& vocabulary, std::string_view where) {
    require(!token.content.empty(), where, ": expected a text, found an empty one");
    const token_t in_model = vocabulary.id(token.content);
    require(in_model < 0 || in_model == id, where, ": expected id ", in_model, " as in model.vocab, found ", id);
    require(in_model >= 0 || !vocabulary.contains(id), where, ": expected an id of its own, found ", id, ", which is '",
            vocabulary.token(id), "' in model.vocab");
    if (const token_t known = texts_.id(token.content); known >= 0) {
      require(known == id, where, ": expected id ", known, " as in the entry before, found ", id);
    } else {
      require(texts_.add(token.content, id), where, ": expected an id of its own, found ", id, ", which is '",
              texts_.token(id), "'");
    }
    tokens_[id] = std::move(token);
  }

  /// Builds the matchers; to be called once, after the last add.
  void prepare(const Normalizer& normalizer, std::string_view where) {
    for (auto& [id, token] : tokens_) {
      const std::string normal = token.normalized ? normalizer(token.content) : token.content;
      require(!normal.empty(), where, ": expected added tokens that normalization leaves a text, found '",
              token.content, "'");
      TokenMatcher& matcher = token.normalized ? in_normalized_ : in_raw_;
      require(matcher.add(normal, id), where, ": expected added tokens that differ when normalized, found '",
              token.content, "' like another");
      if (normal != token.content) normalized_forms_[id] = normal;
    }
  }

  [[nodiscard]] const AddedToken* find(token_t id) const {
    const auto found = tokens_.find(id);
    return found == tokens_.end() ? nullptr : &found->second;
  }

  /// The text of an added token as a decoder takes it: in its normalised form, which the decoder undoes.
  [[nodiscard]] std::string_view decoder_text(token_t id) const {
    const auto normal = normalized_forms_.find(id);
    return normal != normalized_forms_.end() ? std::string_view(normal->second) : texts_.token(id);
  }

  [[nodiscard]] const Vocabulary& texts() const { return texts_; }

  /// Cuts a raw text along the tokens that are not normalized. Text segments are not empty.
  [[nodiscard]] std::vector<Segment> cut_raw(std::string_view text) const { return cut(text, in_raw_); }

  /// Cuts a normalised text along the normalized tokens.
  [[nodiscard]] std::vector<Segment> cut_normalized(std::string_view text) const { return cut(text, in_normalized_); }

 private:
  [[nodiscard]] std::vector<Segment> cut(std::string_view text, const TokenMatcher& matcher) const {
    std::vector<Segment> segments;
    std::size_t done = 0;
    std::size_t from = 0;
    while (!matcher.empty()) {
      const auto match = matcher.find(text, from);
      if (!match) break;
      // The search goes on behind the bare match also where a token is refused, or takes white space after it: so the
      // reference does, and a token made of white space can then follow within that white space.
      from = match->end;
      const AddedToken& token = tokens_.at(match->id);
      if (token.single_word && (word_ends_at(text, match->begin) || word_begins_at(text, match->end))) continue;
      std::size_t begin = match->begin;
      std::size_t end = match->end;
      if (token.lstrip) begin = std::max(space_before(text, begin), done);
      if (token.rstrip) end = space_after(text, end);
      if (begin >= end) continue;  // all of it is white space that the token before has taken
      if (done < begin) segments.push_back({done, begin, -1});
      segments.push_back({begin, end, match->id});
      done = end;
    }
    if (done < text.size()) segments.push_back({done, text.size(), -1});
    return segments;
  }

  static std::size_t space_before(std::string_view text, std::size_t at) {
    while (at > 0) {
      const std::size_t previous = previous_code_point(text, at);
      if (!is_white_space(utf8_step(text, previous).code_point)) break;
      at = previous;
    }
    return at;
  }

  static std::size_t space_after(std::string_view text, std::size_t at) {
    while (at < text.size()) {
      const Utf8Step step = utf8_step(text, at);
      if (!is_white_space(step.code_point)) break;
      at += step.length;
    }
    return at;
  }

  /// A word character as UTS #18, annex C, has it.
  [[nodiscard]] bool word_begins_at(std::string_view text, std::size_t at) const {
    static const Regex word(R"([\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\x{200C}\x{200D}])", "word characters");
    return at < text.size() && word.matches_at(text, at);
  }
  [[nodiscard]] bool word_ends_at(std::string_view text, std::size_t at) const {
    return at > 0 && word_begins_at(text, previous_code_point(text, at));
  }

  std::unordered_map<token_t, AddedToken> tokens_;
  std::unordered_map<token_t, std::string> normalized_forms_;
  Vocabulary texts_;
  TokenMatcher in_raw_;
  TokenMatcher in_normalized_;
};

}  // namespace tessera::text
