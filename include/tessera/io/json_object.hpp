#pragma once
// Fields of a JSON object by name and type: every fault is an Error that names the file, the field and what was found.

#include <charconv>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include <tessera/core/types.hpp>
#include <tessera/io/json_value.hpp>

namespace tessera {

/// A JSON object whose fields are asked for by name and type. A field that is null counts as absent, as transformers
/// has it. The object must outlive this view of it.
class JsonObject {
 public:
  /// Throws Error unless `json` is an object; `where` is the file, and the field if it is not the whole file.
  JsonObject(const JsonValue& json, std::string where) : json_(&json), where_(std::move(where)) {
    require(json.object() != nullptr, where_, ": expected a JSON object, found ", json.describe());
  }

  [[nodiscard]] const std::string& where() const { return where_; }

  /// Whether the field is there, if only as null: for the few fields where that makes a difference.
  [[nodiscard]] bool has(std::string_view key) const { return json_->find(key) != nullptr; }

  /// The field, or null where it is absent.
  [[nodiscard]] const JsonValue* find(std::string_view key) const {
    const JsonValue* field = json_->find(key);
    return field == nullptr || field->is_null() ? nullptr : field;
  }

  /// The whole number in [least, most] that the field holds; nothing where it is absent.
  [[nodiscard]] std::optional<index_t> find_integer(std::string_view key, index_t least, index_t most) const {
    const JsonValue* field = find(key);
    if (field == nullptr) return std::nullopt;
    return as_integer(*field, concat(where_, ": ", key), least, most);
  }

  /// The finite number that the field holds; nothing where it is absent.
  [[nodiscard]] std::optional<double> find_number(std::string_view key) const {
    const JsonValue* field = find(key);
    if (field == nullptr) return std::nullopt;
    const JsonNumber* number = field->number();
    require(number != nullptr, where_, ": ", key, ": expected a number, found ", field->describe());
    double value = 0;  // the parser has seen that it fits
    std::from_chars(number->text.data(), number->text.data() + number->text.size(), value);
    return value;
  }

  [[nodiscard]] std::optional<bool> find_flag(std::string_view key) const {
    const JsonValue* field = find(key);
    if (field == nullptr) return std::nullopt;
    require(field->flag() != nullptr, where_, ": ", key, ": expected true or false, found ", field->describe());
    return *field->flag();
  }

  [[nodiscard]] std::optional<std::string> find_text(std::string_view key) const {
    const JsonValue* field = find(key);
    if (field == nullptr) return std::nullopt;
    require(field->string() != nullptr, where_, ": ", key, ": expected a string, found ", field->describe());
    return *field->string();
  }

  // As above, and Error where the field is absent.
  [[nodiscard]] const JsonValue& at(std::string_view key) const {
    const JsonValue* field = find(key);
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
  [[nodiscard]] static index_t as_integer(const JsonValue& value, std::string_view where, index_t least, index_t most) {
    index_t number = 0;
    bool fits = false;
    if (const JsonNumber* digits = value.number()) {
      const char* end = digits->text.data() + digits->text.size();
      const auto [rest, fault] = std::from_chars(digits->text.data(), end, number);
      fits = fault == std::errc() && rest == end;
    }
    require(fits && number >= least && number <= most, where, ": expected a whole number from ", least, " to ", most,
            ", found ", value.describe());
    return number;
  }

 private:
  template <class T>
  [[nodiscard]] T present(std::optional<T> field, std::string_view key) const {
    require(field.has_value(), where_, ": ", key, " is missing");
    return *std::move(field);
  }

  const JsonValue* json_;
  std::string where_;
};

}  // namespace tessera
