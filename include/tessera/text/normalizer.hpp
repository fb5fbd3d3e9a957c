#pragma once
// What tokenizer.json does to a text before it is cut: Unicode normal forms, Prepend, Replace, and sequences of them.

#include <utf8proc.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include <tessera/text/json_reader.hpp>
#include <tessera/text/regex.hpp>

namespace tessera::text {

/// Components nest in Sequences; deeper than this is refused.
inline constexpr int max_nesting = 16;

/// A Unicode normal form. Source: UAX #15; utf8proc does the work.
class UnicodeForm {
 public:
  enum class Form { nfc, nfd, nfkc, nfkd };
  explicit UnicodeForm(Form form) : form_(form) {}

  [[nodiscard]] std::string operator()(std::string_view text) const {
    const auto ascii = [](char c) { return static_cast<std::uint8_t>(c) < 0x80; };
    if (std::all_of(text.begin(), text.end(), ascii)) return std::string(text);
    unsigned options = UTF8PROC_STABLE;
    options |= form_ == Form::nfc || form_ == Form::nfkc ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE;
    if (form_ == Form::nfkc || form_ == Form::nfkd) options |= UTF8PROC_COMPAT;
    utf8proc_uint8_t* result = nullptr;
    const utf8proc_ssize_t length =
        utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()), static_cast<utf8proc_ssize_t>(text.size()),
                     &result, static_cast<utf8proc_option_t>(options));
    const std::unique_ptr<utf8proc_uint8_t, void (*)(void*)> owner(result, std::free);
    require(length >= 0, "normalizer: a text of ", text.size(), " bytes: ", utf8proc_errmsg(length));
    return {reinterpret_cast<const char*>(result), static_cast<std::size_t>(length)};
  }

 private:
  Form form_;
};

/// Puts a text before every piece that is not empty.
struct PrependText {
  std::string prefix;
  [[nodiscard]] std::string operator()(std::string_view text) const {
    return text.empty() ? std::string() : concat(prefix, text);
  }
};

/// Puts `content` in the place of every match.
struct ReplaceMatches {
  Regex pattern;
  std::string content;
  [[nodiscard]] std::string operator()(std::string_view text) const {
    std::string out;
    for (const Span& span : pattern.tile(text)) {
      if (span.matches) {
        out += content;
      } else {
        out += text.substr(span.begin, span.end - span.begin);
      }
    }
    return out;
  }
};

/// The pattern of a Split or Replace: {"String": literal} or {"Regex": expression}.
[[nodiscard]] inline Regex read_pattern(const JsonReader& json) {
  const JsonReader pattern = json.at("pattern");
  if (const auto literal = pattern.find("String")) {
    require(!literal->string().empty(), literal->where(), ": expected a text to look for, found an empty one");
    return Regex::of_literal(literal->string(), literal->where());
  }
  if (const auto expression = pattern.find("Regex")) return Regex(expression->string(), expression->where());
  pattern.wrong("a pattern {\"String\": ...} or {\"Regex\": ...}");
}

/// The normalizer of tokenizer.json: its steps in order, sequences flattened.
class Normalizer {
 public:
  Normalizer() = default;

  /// Reads the field; components that are not built in are refused by name.
  explicit Normalizer(const JsonReader& json) { append(json, 0); }

  [[nodiscard]] bool empty() const { return steps_.empty(); }

  /// `text` is UTF-8, and so is the result.
  [[nodiscard]] std::string operator()(std::string_view text) const {
    std::string out(text);
    for (const Step& step : steps_) out = std::visit([&](const auto& s) { return s(out); }, step);
    return out;
  }

 private:
  using Step = std::variant<UnicodeForm, PrependText, ReplaceMatches>;

  void append(const JsonReader& json, int depth) {
    require(depth < max_nesting, json.where(), ": expected at most ", max_nesting, " nested sequences, found more");
    const std::string& type = json.at("type").string();
    using Form = UnicodeForm::Form;
    if (type == "Sequence") {
      const JsonReader steps = json.at("normalizers");
      for (std::size_t i = 0; i < steps.array().size(); ++i) append(steps.element(i), depth + 1);
    } else if (type == "NFC") {
      steps_.emplace_back(UnicodeForm(Form::nfc));
    } else if (type == "NFD") {
      steps_.emplace_back(UnicodeForm(Form::nfd));
    } else if (type == "NFKC") {
      steps_.emplace_back(UnicodeForm(Form::nfkc));
    } else if (type == "NFKD") {
      steps_.emplace_back(UnicodeForm(Form::nfkd));
    } else if (type == "Prepend") {
      steps_.emplace_back(PrependText{json.at("prepend").string()});
    } else if (type == "Replace") {
      steps_.emplace_back(ReplaceMatches{read_pattern(json), json.at("content").string()});
    } else {
      json.at("type").wrong("a normalizer of NFC, NFD, NFKC, NFKD, Prepend, Replace, Sequence");
    }
  }

  std::vector<Step> steps_;
};

}  // namespace tessera::text
