#pragma once
// JSON from files that nobody vouches for: every fault is an Error that names the file, the field and what was found.

#include <cmath>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include <tessera/core/types.hpp>
#include <tessera/io/excerpt.hpp>

namespace tessera {

/// A parsed JSON value.
using Json = nlohmann::json;

/// Parses one JSON text. `where` names it in errors. Throws Error on bad syntax, a key that an object has twice, and
/// nesting deeper than 64.
[[nodiscard]] inline Json parse_json(std::string_view text, std::string_view where) {
  constexpr int deepest = 64;
  // The parser takes a zero byte for the end of the text, and would not look at what follows.
  const std::size_t zero = text.find('\0');
  require(zero == std::string_view::npos, where, ": not valid JSON at byte ", zero + 1, " of ", text.size());
  std::vector<std::set<std::string>> open_objects;
  const auto watch = [&](int depth, Json::parse_event_t event, Json& value) {
    switch (event) {
      case Json::parse_event_t::object_start: open_objects.emplace_back(); [[fallthrough]];
      case Json::parse_event_t::array_start:
        require(depth < deepest, where, ": expected at most ", deepest, " levels of nesting, found more");
        break;
      case Json::parse_event_t::object_end: open_objects.pop_back(); break;
      case Json::parse_event_t::key: {
        const auto& key = value.get_ref<const std::string&>();
        require(open_objects.back().insert(key).second, where, ": \"", excerpt(key), "\" appears twice");
        break;
      }
      default: break;
    }
    return true;
  };
  try {
    return Json::parse(text.begin(), text.end(), watch);
  } catch (const Json::parse_error& error) {
    fail(where, ": not valid JSON at byte ", error.byte, " of ", text.size());
  } catch (const Json::exception&) {  // a number beyond the range of a double
    fail(where, ": not valid JSON: a number is too large");
  }
}

/// A JSON object whose fields are asked for by name and type. A field that is null counts as absent, as transformers
/// has it. The object must outlive this view of it.
class JsonObject {
 public:
  /// Throws Error unless `json` is an object; `where` is the file, and the field if it is not the whole file.
  JsonObject(const Json& json, std::string where) : json_(&json), where_(std::move(where)) {
    require(json.is_object(), where_, ": expected a JSON object, found ", describe(json));
  }

  [[nodiscard]] const std::string& where() const { return where_; }

  /// Whether the field is there, if only as null: for the few fields where that makes a difference.
  [[nodiscard]] bool has(std::string_view key) const { return json_->find(key) != json_->end(); }

  /// The field, or null where it is absent.
  [[nodiscard]] const Json* find(std::string_view key) const {
    const auto field = json_->find(key);
    return field == json_->end() || field->is_null() ? nullptr : &*field;
  }

  /// The whole number in [least, most] that the field holds; nothing where it is absent.
  [[nodiscard]] std::optional<index_t> find_integer(std::string_view key, index_t least, index_t most) const {
    const Json* field = find(key);
    if (field == nullptr) return std::nullopt;
    return as_integer(*field, concat(where_, ": ", key), least, most);
  }

  /// The finite number that the field holds; nothing where it is absent.
  [[nodiscard]] std::optional<double> find_number(std::string_view key) const {
    const Json* field = find(key);
    if (field == nullptr) return std::nullopt;
    require(field->is_number() && std::isfinite(field->get<double>()), where_, ": ", key, ": expected a number, found ",
            describe(*field));
    return field->get<double>();
  }

  [[nodiscard]] std::optional<bool> find_flag(std::string_view key) const {
    const Json* field = find(key);
    if (field == nullptr) return std::nullopt;
    require(field->is_boolean(), where_, ": ", key, ": expected true or false, found ", describe(*field));
    return field->get<bool>();
  }

  [[nodiscard]] std::optional<std::string> find_text(std::string_view key) const {
    const Json* field = find(key);
    if (field == nullptr) return std::nullopt;
    require(field->is_string(), where_, ": ", key, ": expected a string, found ", describe(*field));
    return field->get<std::string>();
  }

  // As above, and Error where the field is absent.
  [[nodiscard]] const Json& at(std::string_view key) const {
    const Json* field = find(key);
    require(field != nullptr, where_, ": ", key, " is missing");
    return *field;
  }
  [[nodiscard]] index_t integer(std::string_view key, index_t least, index_t most) const {
    return present(find_integer(key, least, most), key);
  }
  [[nodiscard]] double number(std::string_view key) const { return present(find_number(key), key); }
  [[nodiscard]] std::string text(std::string_view key) const { return present(find_text(key), key); }
  [[nodiscard]] JsonObject object(std::string_view key) const { return {at(key), concat(where_, ": ", key)}; }

  /// `value` as a whole number in [least, most]. Throws Error otherwise; a number with a fraction part is not one.
  [[nodiscard]] static index_t as_integer(const Json& value, std::string_view where, index_t least, index_t most) {
    // An integer above INT64_MAX is held unsigned, and one above UINT64_MAX as a double: neither passes.
    const bool fits =
        value.is_number_integer() && (!value.is_number_unsigned() || value.get<std::uint64_t>() <= INT64_MAX);
    const index_t number = fits ? value.get<index_t>() : 0;
    require(fits && number >= least && number <= most, where, ": expected a whole number from ", least, " to ", most,
            ", found ", describe(value));
    return number;
  }

  /// What a value is, for an error message.
  [[nodiscard]] static std::string describe(const Json& value) {
    if (value.is_object()) return "an object";
    if (value.is_array()) return concat("an array of ", value.size());
    if (value.is_string()) return concat('"', excerpt(value.get_ref<const std::string&>(), 60), '"');
    // Not by dump(), which takes a second to compile.
    if (value.is_boolean()) return value.get<bool>() ? "true" : "false";
    if (value.is_number_unsigned()) return concat(value.get<std::uint64_t>());
    if (value.is_number_integer()) return concat(value.get<std::int64_t>());
    if (value.is_number()) return concat(value.get<double>());
    return "null";
  }

 private:
  template <class T>
  [[nodiscard]] T present(std::optional<T> field, std::string_view key) const {
    require(field.has_value(), where_, ": ", key, " is missing");
    return *std::move(field);
  }

  const Json* json_;
  std::string where_;
};

}  // namespace tessera
