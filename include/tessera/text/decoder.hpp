#pragma once
// From tokens back to text, one token at a time: a chain of stages.
//
// Law: the pieces that come out, joined, are what the whole sequence at once would give.

#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include <tessera/text/decoder_stages.hpp>
#include <tessera/text/json_reader.hpp>

namespace tessera::text {

/// The decoder of tokenizer.json, as a value with state: a copy of a fresh one begins a new text.
class Decoder {
 public:
  Decoder() { stages_.emplace_back(SpacesStage{}); }

  /// Reads the field; components that are not built in are refused by name.
  explicit Decoder(const JsonReader& json) { append(json, 0); }

  /// Takes the next token and gives the text that is decided by now: whole characters.
  [[nodiscard]] std::string push(std::string_view token) {
    TokenParts parts;
    parts.push_back({std::string(token), true});
    return run(std::move(parts), false);
  }

  /// The rest, at the end of the tokens.
  [[nodiscard]] std::string finish() { return run({}, true); }

 private:
  using Stage =
      std::variant<ReplaceStage, ByteFallbackStage, FuseStage, StripStage, ByteLevelStage, MetaspaceStage, SpacesStage>;

  std::string run(TokenParts parts, bool last) {
    for (Stage& stage : stages_) {
      TokenParts next;
      std::visit(
          [&](auto& s) {
            for (TokenPart& part : parts) s.push(std::move(part), next);
            if (last) s.finish(next);
          },
          stage);
      parts = std::move(next);
    }
    std::string text;
    for (const TokenPart& part : parts) text += part.text;
    return text;
  }

  void append(const JsonReader& json, int depth) {
    require(depth < max_nesting, json.where(), ": expected at most ", max_nesting, " nested sequences, found more");
    const std::string& type = json.at("type").string();
    if (type == "Sequence") {
      const JsonReader steps = json.at("decoders");
      for (std::size_t i = 0; i < steps.array().size(); ++i) append(steps.element(i), depth + 1);
    } else if (type == "Replace") {
      stages_.emplace_back(ReplaceStage(ReplaceMatches{read_pattern(json), json.at("content").string()}));
    } else if (type == "ByteFallback") {
      stages_.emplace_back(ByteFallbackStage{});
    } else if (type == "Fuse") {
      stages_.emplace_back(FuseStage{});
    } else if (type == "Strip") {
      const std::string& content = json.at("content").string();
      if (content.empty() || utf8_step(content, 0).length != content.size()) json.at("content").wrong("one character");
      const auto count = [&](std::string_view key) {
        return static_cast<std::size_t>(json.at(key).integer_below(std::int64_t{1} << 31));
      };
      stages_.emplace_back(StripStage(content, count("start"), count("stop")));
    } else if (type == "ByteLevel") {
      stages_.emplace_back(ByteLevelStage{});
    } else if (type == "Metaspace") {
      stages_.emplace_back(MetaspaceStage(read_metaspace(json)));
    } else {
      json.at("type").wrong("a decoder of ByteLevel, Replace, ByteFallback, Fuse, Strip, Metaspace, Sequence");
    }
  }

  std::vector<Stage> stages_;
};

}  // namespace tessera::text
