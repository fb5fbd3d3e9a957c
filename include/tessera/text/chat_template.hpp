#pragma once
// The chat template of a model folder, as text: where it is found, and a form of it in which spelling does not matter.

#include <algorithm>
#include <filesystem>
#include <string>
#include <string_view>

#include <tessera/core/open_file.hpp>
#include <tessera/text/json_reader.hpp>

namespace tessera::text {

/// The template's text and the tokens that it may write.
struct ChatTemplate {
  std::string source;  ///< empty: the folder has none
  std::string bos_token;
  std::string eos_token;
};

/// The text of a special token in tokenizer_config.json: a string, or an object with `content`. Empty if absent.
[[nodiscard]] inline std::string special_token_text(const JsonReader& config, std::string_view name) {
  const auto token = config.find(name);
  if (!token) return {};
  return token->value().is_object() ? token->at("content").string() : token->string();
}

/// Reads `chat_template.jinja`, or else `chat_template` of `tokenizer_config.json`: a text, or a list of named texts of
/// which the one named default is taken.
[[nodiscard]] inline ChatTemplate read_chat_template(const std::filesystem::path& folder) {
  ChatTemplate result;
  const auto config_path = folder / "tokenizer_config.json";
  if (std::filesystem::exists(config_path)) {
    const Json json = parse_json(read_text(config_path, largest_settings), config_path.string());
    const JsonReader config(json, config_path.string() + ": ");
    result.bos_token = special_token_text(config, "bos_token");
    result.eos_token = special_token_text(config, "eos_token");
    const auto field = config.find("chat_template");
    if (field && field->value().is_array()) {
      std::string names;
      for (std::size_t i = 0; i < field->array().size(); ++i) {
        const JsonReader entry = field->element(i);
        const std::string& name = entry.at("name").string();
        if (name == "default") result.source = entry.at("template").string();
        names += concat(names.empty() ? "" : ", ", name);
      }
      require(!result.source.empty(), field->where(), ": expected a template named default, found ", names);
    } else if (field) {
      result.source = field->string();
    }
  }
  const auto jinja = folder / "chat_template.jinja";
  if (std::filesystem::exists(jinja)) result.source = read_text(jinja, largest_settings);
  return result;
}

/// A template's text so that equal templates of different spelling look the same: white space outside of literals is
/// left out, and so are the marks that trim it; literals have one kind of quotes (`quote`), their escapes are resolved
/// and sums of them are one; x['key'] is x.key. It is for finding known parts, not for running.
class CanonicalTemplate {
 public:
  static constexpr char quote = '\x01';

  explicit CanonicalTemplate(std::string_view source) : text_(canonical(source, false)) {}

  /// Whether `part`, a piece of a template in any spelling that begins inside a block, occurs. Its literals are
  /// complete.
  [[nodiscard]] bool has(std::string_view part) const { return text_.find(canonical(part, true)) != std::string::npos; }

  /// The first complete literal that begins and ends so, without these; false if there is none.
  [[nodiscard]] bool find_literal(std::string_view begin, std::string_view end, std::string& inner) const {
    for (std::size_t at = text_.find(quote); at != std::string::npos;) {
      const std::size_t close = text_.find(quote, at + 1);
      if (close == std::string::npos) return false;
      const std::string_view literal = std::string_view(text_).substr(at + 1, close - at - 1);
      if (literal.size() >= begin.size() + end.size() && literal.starts_with(begin) && literal.ends_with(end)) {
        inner = literal.substr(begin.size(), literal.size() - begin.size() - end.size());
        return true;
      }
      at = text_.find(quote, close + 1);
    }
    return false;
  }

 private:
  static void replace_all(std::string& text, std::string_view from, std::string_view to) {
    for (std::size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size())
      text.replace(at, from.size(), to);
  }

  /// `inside`: the source begins within a block, {{ }} or {% %}; only there are quotes quotes.
  static std::string canonical(std::string_view source, bool inside) {
    std::string out;
    char open = 0;  // the quote that the literal around began with
    for (std::size_t i = 0; i < source.size(); ++i) {
      const char c = source[i];
      const std::string_view rest = source.substr(i);
      if (open != 0) {
        if (c == open) {
          open = 0;
          out += quote;
        } else if (c == '\\' && i + 1 < source.size()) {
          const char escaped = source[++i];
          out += escaped == 'n' ? '\n' : escaped == 't' ? '\t' : escaped;
        } else {
          out += c;
        }
      } else if (!inside && rest.starts_with("{#")) {
        i = std::min(source.find("#}", i), source.size() - 2) + 1;
      } else if (rest.starts_with("{{") || rest.starts_with("{%") || rest.starts_with("}}") || rest.starts_with("%}")) {
        inside = c == '{';
        out += rest.substr(0, 2);
        ++i;
        if (inside && i + 1 < source.size() && source[i + 1] == '-') ++i;
      } else if (inside && (c == '\'' || c == '"')) {
        open = c;
        out += quote;
      } else if (inside && (rest.starts_with("-}}") || rest.starts_with("-%}"))) {
        continue;
      } else if (c != ' ' && c != '\n' && c != '\t' && c != '\r') {
        out += c;
      }
    }
    const std::string q(1, quote);
    replace_all(out, concat(q, '+', q), "");
    for (const std::string_view key : {"role", "content"})
      replace_all(out, concat("[", q, key, q, "]"), concat(".", key));
    return out;
  }

  std::string text_;
};

}  // namespace tessera::text
