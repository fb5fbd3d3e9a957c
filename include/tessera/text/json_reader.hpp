#pragma once
// Reading JSON that somebody else wrote: every access checks, and a failure says what, expected, found, where.

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>

#include <tessera/core/types.hpp>

namespace tessera::text {

/// A parsed JSON value.
using Json = nlohmann::json;

/// The bytes that tokenizer.json or tokenizer.model may have; published ones have up to some 35 million.
inline constexpr index_t largest_tokenizer = index_t{256} << 20;
/// The same of the files beside it, which say how to use it; published ones have up to some million.
inline constexpr index_t largest_settings = index_t{16} << 20;

/// Parses the text of a file; throws Error that names `where`.
[[nodiscard]] inline Json parse_json(std::string_view bytes, std::string_view where) {
  try {
    return Json::parse(bytes);
  } catch (const Json::exception& error) {
    const std::string_view message = error.what();  // "[json.exception...] parse error at line ..."
    fail(where, ": expected JSON, found a ", message.substr(std::min(message.size(), message.find("] ") + 2)));
  }
}

/// A value of a document together with its place in it, for messages.
class JsonReader {
 public:
  JsonReader(const Json& value, std::string where) : value_(&value), where_(std::move(where)) {}

  [[nodiscard]] const Json& value() const { return *value_; }
  [[nodiscard]] const std::string& where() const { return where_; }

  /// The member `key`, if it is there and not null.
  [[nodiscard]] std::optional<JsonReader> find(std::string_view key) const {
    if (!value_->is_object()) wrong("an object");
    const auto member = value_->find(std::string(key));
    if (member == value_->end() || member->is_null()) return std::nullopt;
    return JsonReader(*member, concat(where_, where_.ends_with(": ") ? "" : ".", key));
  }

  [[nodiscard]] JsonReader at(std::string_view key) const {
    auto member = find(key);
    require(member.has_value(), where_, ": expected a field '", key, "', found none");
    return *std::move(member);
  }

  [[nodiscard]] const std::string& string() const {
    if (!value_->is_string()) wrong("a string");
    return value_->get_ref<const std::string&>();
  }
  [[nodiscard]] bool boolean() const {
    if (!value_->is_boolean()) wrong("true or false");
    return value_->get<bool>();
  }
  /// An integer of [0, limit).
  [[nodiscard]] std::int64_t integer_below(std::int64_t limit) const {
    const bool fits = value_->is_number_unsigned() && value_->get<std::uint64_t>() < static_cast<std::uint64_t>(limit);
    if (!fits) wrong(concat("an integer from 0 to below ", limit));
    return value_->get<std::int64_t>();
  }
  [[nodiscard]] const Json::array_t& array() const {
    if (!value_->is_array()) wrong("an array");
    return value_->get_ref<const Json::array_t&>();
  }
  [[nodiscard]] const Json::object_t& object() const {
    if (!value_->is_object()) wrong("an object");
    return value_->get_ref<const Json::object_t&>();
  }
  /// Element `i` of an array.
  [[nodiscard]] JsonReader element(std::size_t i) const { return {array().at(i), concat(where_, '[', i, ']')}; }

  [[nodiscard]] bool boolean_or(std::string_view key, bool absent) const {
    const auto member = find(key);
    return member ? member->boolean() : absent;
  }
  [[nodiscard]] std::string string_or(std::string_view key, std::string_view absent) const {
    const auto member = find(key);
    return member ? member->string() : std::string(absent);
  }

  [[noreturn]] void wrong(std::string_view expected) const {
    std::string found = value_->type_name();
    if (value_->is_primitive() && !value_->is_binary()) {
      std::string text = value_->dump(-1, ' ', false, Json::error_handler_t::replace);
      if (text.size() > 60) text.replace(60, std::string::npos, "...");
      found = value_->is_null() ? "null" : text;
    }
    fail(where_, ": expected ", expected, ", found ", found);
  }

 private:
  const Json* value_;
  std::string where_;
};

}  // namespace tessera::text
