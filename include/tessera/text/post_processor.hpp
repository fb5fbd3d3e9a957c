#pragma once
// What an encoding gets around it: the special tokens of a template.

#include <string>
#include <string_view>
#include <vector>

#include <tessera/core/types.hpp>
#include <tessera/text/json_reader.hpp>
#include <tessera/text/normalizer.hpp>

namespace tessera::text {

/// The ids before and after a text.
class PostProcessor {
 public:
  PostProcessor() = default;
  PostProcessor(std::vector<token_t> before, std::vector<token_t> after)
      : before_(std::move(before)), after_(std::move(after)) {}

  /// Reads the field: TemplateProcessing (`single`), ByteLevel (which changes offsets only), or a Sequence of them.
  /// `is_token(id)` says whether a token has the id; other components are refused by name.
  template <class IsToken>
  PostProcessor(const JsonReader& json, const IsToken& is_token) {
    append(json, is_token, 0);
  }

  [[nodiscard]] const std::vector<token_t>& before() const { return before_; }
  [[nodiscard]] const std::vector<token_t>& after() const { return after_; }

 private:
  template <class IsToken>
  void append(const JsonReader& json, const IsToken& is_token, int depth) {
    require(depth < max_nesting, json.where(), ": expected at most ", max_nesting, " nested sequences, found more");
    const std::string& type = json.at("type").string();
    if (type == "Sequence") {
      const JsonReader steps = json.at("processors");
      for (std::size_t i = 0; i < steps.array().size(); ++i) append(steps.element(i), is_token, depth + 1);
    } else if (type == "TemplateProcessing") {
      append_template(json, is_token);
    } else if (type != "ByteLevel") {
      json.at("type").wrong("a post_processor of TemplateProcessing, ByteLevel, Sequence");
    }
  }

  template <class IsToken>
  void append_template(const JsonReader& json, const IsToken& is_token) {
    std::vector<token_t> before, after;
    bool seen_text = false;
    const JsonReader single = json.at("single");
    for (std::size_t i = 0; i < single.array().size(); ++i) {
      const JsonReader part = single.element(i);
      if (part.find("Sequence")) {
        require(!seen_text, part.where(), ": expected the text once in a template, found it twice");
        seen_text = true;
      } else {
        append_special(json, part.at("SpecialToken"), is_token, seen_text ? after : before);
      }
    }
    require(seen_text, single.where(), ": expected the text ($A) in a template, found none");
    before_.insert(before_.begin(), before.begin(), before.end());  // a later template stands around an earlier one
    after_.insert(after_.end(), after.begin(), after.end());
  }

  template <class IsToken>
  void append_special(const JsonReader& json, const JsonReader& part, const IsToken& is_token,
                      std::vector<token_t>& out) {
    const std::string& name = part.at("id").string();
    const JsonReader ids = json.at("special_tokens").at(name).at("ids");
    for (std::size_t i = 0; i < ids.array().size(); ++i) {
      const auto id = static_cast<token_t>(ids.element(i).integer_below(std::int64_t{1} << 31));
      require(is_token(id), ids.element(i).where(), ": expected the id of a token, found ", id);
      out.push_back(id);
    }
  }

  std::vector<token_t> before_;
  std::vector<token_t> after_;
};

}  // namespace tessera::text
