#pragma once
// A value of a JSON text, as JsonParser reads it and JsonObject asks for it.

#include <algorithm>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include <tessera/core/error.hpp>
#include <tessera/io/excerpt.hpp>

namespace tessera {

struct JsonMember;

/// A number in the digits of the file: nothing is rounded before somebody says to what.
struct JsonNumber {
  std::string text;
};

/// Null, true or false, a number, a string, an array or an object. Moves; copies are not made.
class JsonValue {
 public:
  using Array = std::vector<JsonValue>;
  using Object = std::vector<JsonMember>;  ///< by name, no name twice

  JsonValue() = default;  ///< null
  /// A bool, JsonNumber, std::string, Array or Object. A template, for it is compiled once a member is a whole type.
  template <class T>
    requires(!std::is_same_v<T, JsonValue>)
  explicit JsonValue(T value) : value_(std::in_place_type<T>, std::move(value)) {}
  JsonValue(JsonValue&&) = default;
  JsonValue& operator=(JsonValue&&) = default;
  JsonValue(const JsonValue&) = delete;
  JsonValue& operator=(const JsonValue&) = delete;
  ~JsonValue() = default;

  [[nodiscard]] bool is_null() const { return value_.index() == 0; }
  // What it holds, or null where that is something else.
  [[nodiscard]] const bool* flag() const { return std::get_if<bool>(&value_); }
  [[nodiscard]] const JsonNumber* number() const { return std::get_if<JsonNumber>(&value_); }
  [[nodiscard]] const std::string* string() const { return std::get_if<std::string>(&value_); }
  [[nodiscard]] const Array* array() const { return std::get_if<Array>(&value_); }
  [[nodiscard]] const Object* object() const { return std::get_if<Object>(&value_); }

  /// The member of an object, or null where it has none of that name or is no object.
  [[nodiscard]] inline const JsonValue* find(std::string_view name) const;
  /// What it is, for one line of an error message.
  [[nodiscard]] inline std::string describe() const;

 private:
  std::variant<std::monostate, bool, JsonNumber, std::string, Array, Object> value_;
};

/// A member of an object.
struct JsonMember {
  std::string name;
  JsonValue value;
};

inline const JsonValue* JsonValue::find(std::string_view name) const {
  const Object* members = object();
  if (members == nullptr) return nullptr;
  const auto member = std::lower_bound(members->begin(), members->end(), name,
                                       [](const JsonMember& m, std::string_view wanted) { return m.name < wanted; });
  return member == members->end() || member->name != name ? nullptr : &member->value;
}

inline std::string JsonValue::describe() const {
  constexpr std::size_t longest = 60;
  if (object() != nullptr) return "an object";
  if (const Array* items = array()) return concat("an array of ", items->size());
  if (const std::string* text = string()) return concat('"', excerpt(*text, longest), '"');
  if (const JsonNumber* digits = number()) return excerpt(digits->text, longest);
  if (const bool* truth = flag()) return *truth ? "true" : "false";
  return "null";
}

}  // namespace tessera
