#pragma once
// The stages of a decoder: each takes tokens one at a time and holds back what is not yet decided.

#include <charconv>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <tessera/text/byte_level.hpp>
#include <tessera/text/normalizer.hpp>
#include <tessera/text/pre_tokenizer.hpp>

namespace tessera::text {

/// A part of a token on its way through the stages. `ends`: the token is complete with it.
struct TokenPart {
  std::string text;
  bool ends = true;
};
/// What a token is made of, in order.
using TokenParts = std::vector<TokenPart>;

/// Gives stages that need whole tokens whole tokens.
class WholeToken {
 public:
  /// The token that ends with `part`, or false.
  bool complete(TokenPart& part) {
    if (!part.ends || !held_.empty()) {
      held_ += part.text;
      if (part.ends) part.text = std::exchange(held_, {});
    }
    return part.ends;
  }
  /// What a token that never ended has left.
  [[nodiscard]] std::string take() { return std::exchange(held_, {}); }

 private:
  std::string held_;
};

/// Replaces every match in each token.
class ReplaceStage {
 public:
  explicit ReplaceStage(ReplaceMatches replace) : replace_(std::move(replace)) {}
  void push(TokenPart part, TokenParts& out) {
    if (token_.complete(part)) out.push_back({replace_(part.text), true});
  }
  void finish(TokenParts&) {}

 private:
  ReplaceMatches replace_;
  WholeToken token_;
};

/// Tokens <0x00> to <0xFF> are bytes. A run of them becomes its text if it is UTF-8, else one U+FFFD for each byte: so
/// a run is held back until another token ends it.
class ByteFallbackStage {
 public:
  void push(TokenPart part, TokenParts& out) {
    if (!token_.complete(part)) return;
    if (const int byte = byte_of(part.text); byte >= 0) {
      run_ += static_cast<char>(static_cast<std::uint8_t>(byte));
      return;
    }
    finish(out);
    out.push_back(std::move(part));
  }
  void finish(TokenParts& out) {
    if (run_.empty()) return;
    if (find_invalid_utf8(run_) == std::string_view::npos) {
      out.push_back({std::move(run_), true});
    } else {
      for (std::size_t i = 0; i < run_.size(); ++i) out.push_back({std::string(replacement_character), true});
    }
    run_.clear();
  }

 private:
  static int byte_of(std::string_view token) {
    if (token.size() != 6 || !token.starts_with("<0x") || token.back() != '>') return -1;
    int value = 0;
    const auto [end, error] = std::from_chars(token.data() + 3, token.data() + 5, value, 16);
    return error == std::errc() && end == token.data() + 5 && value >= 0 ? value : -1;
  }

  std::string run_;
  WholeToken token_;
};

/// Joins all tokens into one.
class FuseStage {
 public:
  void push(TokenPart part, TokenParts& out) { out.push_back({std::move(part.text), false}); }
  void finish(TokenParts& out) { out.push_back({{}, true}); }
};

/// Takes up to `start` characters `content` off the beginning of each token, and up to `stop` off its end.
class StripStage {
 public:
  StripStage(std::string content, std::size_t start, std::size_t stop)
      : content_(std::move(content)), start_(start), stop_(stop) {}

  void push(const TokenPart& part, TokenParts& out) {
    std::string_view text = part.text;
    // An incomplete token comes in whole code points, so a match of `content` is never cut.
    while (stripping_ && taken_ < start_ && text.starts_with(content_)) text.remove_prefix(content_.size()), ++taken_;
    if (!text.empty() || taken_ == start_) stripping_ = false;
    std::string whole = std::exchange(tail_, {}).append(text);
    // The last characters wait: they may be the ones that the end of the token strips.
    std::size_t keep = whole.size();
    std::size_t matched = 0;
    while (matched < stop_ && std::string_view(whole).substr(0, keep).ends_with(content_))
      keep -= content_.size(), ++matched;
    if (!part.ends) tail_ = whole.substr(keep);
    out.push_back({whole.substr(0, keep), part.ends});
    if (part.ends) stripping_ = true, taken_ = 0;
  }
  void finish(TokenParts&) {}

 private:
  std::string content_;
  std::size_t start_;
  std::size_t stop_;
  std::size_t taken_ = 0;
  bool stripping_ = true;
  std::string tail_;
};

/// Reads the byte alphabet back; all tokens become one text, and what is not UTF-8 in it becomes U+FFFD.
class ByteLevelStage {
 public:
  void push(TokenPart part, TokenParts& out) {
    if (!token_.complete(part)) return;
    byte_alphabet.append_decoded(bytes_, part.text);
    out.push_back({take_utf8(bytes_, false), false});
  }
  void finish(TokenParts& out) { out.push_back({take_utf8(bytes_, true), true}); }

 private:
  std::string bytes_;
  WholeToken token_;
};

/// Writes the visible space as a space; the first token loses it where encoding had put it there.
class MetaspaceStage {
 public:
  explicit MetaspaceStage(const Metaspace& metaspace)
      : replacement_(metaspace.replacement), drop_(metaspace.prepend != Metaspace::Prepend::never) {}

  void push(const TokenPart& part, TokenParts& out) {
    std::string text;
    for (std::size_t at = 0; at < part.text.size();) {
      const bool marked = std::string_view(part.text).substr(at).starts_with(replacement_);
      const std::size_t length = marked ? replacement_.size() : utf8_step(part.text, at).length;
      if (!marked) text.append(part.text, at, length);
      if (marked && !(first_ && drop_)) text += ' ';
      at += length;
    }
    if (part.ends) first_ = false;
    out.push_back({std::move(text), part.ends});
  }
  void finish(TokenParts&) {}

 private:
  std::string replacement_;
  bool drop_;
  bool first_ = true;
};

/// Puts a space between tokens: what decoding does where tokenizer.json has no decoder.
class SpacesStage {
 public:
  void push(TokenPart part, TokenParts& out) {
    if (between_) part.text.insert(0, 1, ' ');
    between_ = part.ends;
    out.push_back(std::move(part));
  }
  void finish(TokenParts&) {}

 private:
  bool between_ = false;
};

}  // namespace tessera::text
