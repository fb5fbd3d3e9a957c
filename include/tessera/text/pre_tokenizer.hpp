#pragma once
// How tokenizer.json cuts a text into the pieces that BPE sees: Split, ByteLevel, Metaspace, Digits, and sequences.

#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include <tessera/text/byte_level.hpp>
#include <tessera/text/json_reader.hpp>
#include <tessera/text/normalizer.hpp>
#include <tessera/text/regex.hpp>

namespace tessera::text {

/// Pieces of a text: parts of one buffer, in order, none empty.
struct Pieces {
  /// Bytes [begin, end) of the buffer.
  struct Piece {
    std::size_t begin = 0;
    std::size_t end = 0;
    bool at_start = false;  ///< begins where the whole input begins: Metaspace "first" asks
  };
  std::string buffer;
  std::vector<Piece> pieces;

  Pieces() = default;
  Pieces(std::string text, bool at_start) : buffer(std::move(text)) {
    if (!buffer.empty()) pieces.push_back({0, buffer.size(), at_start});
  }

  [[nodiscard]] std::string_view text(const Piece& piece) const {
    return std::string_view(buffer).substr(piece.begin, piece.end - piece.begin);
  }
};

/// What becomes of the matches of a Split.
enum class SplitBehavior { removed, isolated, merged_with_previous, merged_with_next, contiguous };

/// Joins and drops the spans of a tiling as the behaviour says; what is left are the pieces, in order.
[[nodiscard]] inline std::vector<Span> arrange(const std::vector<Span>& tiling, SplitBehavior behavior) {
  std::vector<Span> out;
  bool previous = false;
  // A delimiter joins its neighbour only if that is not a delimiter itself, so runs are walked in the joining
  // direction.
  if (behavior == SplitBehavior::merged_with_next) {
    for (std::size_t i = tiling.size(); i-- > 0;) {
      if (tiling[i].matches && !previous && !out.empty()) {
        out.back().begin = tiling[i].begin;
      } else {
        out.push_back(tiling[i]);
      }
      previous = tiling[i].matches;
    }
    return {out.rbegin(), out.rend()};
  }
  for (const Span& span : tiling) {
    const bool joins = behavior == SplitBehavior::merged_with_previous ? span.matches && !previous
                       : behavior == SplitBehavior::contiguous         ? span.matches == previous
                                                                       : false;
    previous = span.matches;
    if (behavior == SplitBehavior::removed && span.matches) continue;
    if (joins && !out.empty()) {
      out.back().end = span.end;
    } else {
      out.push_back(span);
    }
  }
  return out;
}

/// Cuts every piece along a pattern.
struct Splitter {
  Regex pattern;
  SplitBehavior behavior = SplitBehavior::isolated;
  bool invert = false;  ///< what lies between the matches counts as the match

  [[nodiscard]] Pieces operator()(Pieces in) const {
    Pieces out;
    for (const Pieces::Piece& piece : in.pieces) {
      std::vector<Span> tiling = pattern.tile(in.text(piece));
      if (invert)
        for (Span& span : tiling) span.matches = !span.matches;
      for (const Span& span : arrange(tiling, behavior)) {
        if (span.begin == span.end) continue;
        out.pieces.push_back({piece.begin + span.begin, piece.begin + span.end, piece.at_start && span.begin == 0});
      }
    }
    out.buffer = std::move(in.buffer);
    return out;
  }
};

/// Rewrites every piece with f(text, at_start, out), which appends to `out`.
template <class F>
[[nodiscard]] Pieces rewrite(const Pieces& in, F&& f) {
  Pieces out;
  out.buffer.reserve(in.buffer.size() + in.buffer.size() / 4);
  for (const Pieces::Piece& piece : in.pieces) {
    const std::size_t begin = out.buffer.size();
    f(in.text(piece), piece.at_start, out.buffer);
    if (out.buffer.size() != begin) out.pieces.push_back({begin, out.buffer.size(), piece.at_start});
  }
  return out;
}

/// Puts a space before each piece that has none.
struct SpacePrefix {
  [[nodiscard]] Pieces operator()(const Pieces& in) const {
    return rewrite(in, [](std::string_view text, bool, std::string& out) {
      if (!text.starts_with(' ')) out += ' ';
      out += text;
    });
  }
};

/// Spells every byte with its character of the byte alphabet.
struct ByteEncoder {
  [[nodiscard]] Pieces operator()(const Pieces& in) const {
    return rewrite(in, [](std::string_view text, bool, std::string& out) { byte_alphabet.append_encoded(out, text); });
  }
};

/// Writes a visible character for the space and may put one at the beginning. Source: SentencePiece.
struct Metaspace {
  enum class Prepend { always, first, never };
  std::string replacement;  ///< one code point
  Prepend prepend = Prepend::always;

  [[nodiscard]] Pieces operator()(const Pieces& in) const {
    return rewrite(in, [&](std::string_view text, bool at_start, std::string& out) {
      const bool marked = text.starts_with(replacement) || text.starts_with(' ');
      if (!marked && (prepend == Prepend::always || (prepend == Prepend::first && at_start))) out += replacement;
      for (const char c : text) {
        if (c == ' ') {
          out += replacement;
        } else {
          out += c;
        }
      }
    });
  }
};

/// The fields that Metaspace has as a pre-tokenizer and as a decoder; the older add_prefix_space: false means never.
[[nodiscard]] inline Metaspace read_metaspace(const JsonReader& json) {
  Metaspace metaspace;
  const JsonReader replacement = json.at("replacement");
  metaspace.replacement = replacement.string();
  const bool one_character =
      !metaspace.replacement.empty() && utf8_step(metaspace.replacement, 0).length == metaspace.replacement.size();
  if (!one_character) replacement.wrong("one character");
  const bool prefix_space = json.boolean_or("add_prefix_space", true);
  const auto scheme = json.find("prepend_scheme");
  const std::string name = scheme ? scheme->string() : prefix_space ? "always" : "never";
  if (name == "always") {
    metaspace.prepend = Metaspace::Prepend::always;
  } else if (name == "first") {
    metaspace.prepend = Metaspace::Prepend::first;
  } else if (name == "never") {
    metaspace.prepend = Metaspace::Prepend::never;
  } else {
    scheme->wrong("always, first or never");
  }
  require(prefix_space || name == "never", json.where(),
          ": expected prepend_scheme never beside add_prefix_space false, found ", name);
  return metaspace;
}

/// The pre-tokenizer of tokenizer.json: its steps in order, sequences flattened.
class PreTokenizer {
 public:
  PreTokenizer() = default;

  /// Reads the field; components that are not built in are refused by name.
  explicit PreTokenizer(const JsonReader& json) { append(json, 0); }

  /// Cuts a normalised text (UTF-8) into pieces.
  [[nodiscard]] Pieces operator()(Pieces pieces) const {
    for (const Step& step : steps_) pieces = std::visit([&](const auto& s) { return s(std::move(pieces)); }, step);
    return pieces;
  }

 private:
  using Step = std::variant<Splitter, SpacePrefix, ByteEncoder, Metaspace>;

  void append(const JsonReader& json, int depth) {
    require(depth < max_nesting, json.where(), ": expected at most ", max_nesting, " nested sequences, found more");
    const std::string& type = json.at("type").string();
    if (type == "Sequence") {
      const JsonReader steps = json.at("pretokenizers");
      for (std::size_t i = 0; i < steps.array().size(); ++i) append(steps.element(i), depth + 1);
    } else if (type == "Split") {
      steps_.emplace_back(
          Splitter{read_pattern(json), read_behavior(json.at("behavior")), json.boolean_or("invert", false)});
    } else if (type == "ByteLevel") {
      // Source of the pattern: GPT-2's encoder.
      constexpr std::string_view gpt2 = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
      if (json.boolean_or("add_prefix_space", true)) steps_.emplace_back(SpacePrefix{});
      if (json.boolean_or("use_regex", true)) steps_.emplace_back(Splitter{Regex(gpt2, json.where())});
      steps_.emplace_back(ByteEncoder{});
    } else if (type == "Metaspace") {
      const Metaspace metaspace = read_metaspace(json);
      steps_.emplace_back(metaspace);
      if (json.boolean_or("split", true)) {
        steps_.emplace_back(
            Splitter{Regex::of_literal(metaspace.replacement, json.where()), SplitBehavior::merged_with_next});
      }
    } else if (type == "Digits") {
      const bool each = json.boolean_or("individual_digits", false);
      steps_.emplace_back(
          Splitter{Regex("\\p{N}", json.where()), each ? SplitBehavior::isolated : SplitBehavior::contiguous});
    } else {
      json.at("type").wrong("a pre_tokenizer of Split, ByteLevel, Metaspace, Digits, Sequence");
    }
  }

  static SplitBehavior read_behavior(const JsonReader& json) {
    const std::string& name = json.string();
    if (name == "Removed") return SplitBehavior::removed;
    if (name == "Isolated") return SplitBehavior::isolated;
    if (name == "MergedWithPrevious") return SplitBehavior::merged_with_previous;
    if (name == "MergedWithNext") return SplitBehavior::merged_with_next;
    if (name == "Contiguous") return SplitBehavior::contiguous;
    json.wrong("Removed, Isolated, MergedWithPrevious, MergedWithNext or Contiguous");
  }

  std::vector<Step> steps_;
};

}  // namespace tessera::text
