#pragma once
// JSON from files that nobody vouches for (RFC 8259): every fault is an Error that names the file and the byte. A
// parser of our own: the reader of nlohmann-json alone takes as long to compile as all else that reads a checkpoint.

#include <algorithm>
#include <charconv>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include <tessera/core/error.hpp>
#include <tessera/io/json_value.hpp>

namespace tessera {

namespace detail {

class JsonParser {
 public:
  JsonParser(std::string_view text, std::string_view where) : text_(text), where_(where) {}

  JsonValue whole() {
    if (text_.starts_with("\xEF\xBB\xBF")) at_ = 3;  // the mark with which some editors begin a file
    JsonValue all = value(0);
    skip_space();
    if (at_ != text_.size()) bad();
    return all;
  }

 private:
  static constexpr int deepest = 64;

  [[noreturn]] void bad() const {
    fail(where_, ": not valid JSON at byte ", std::min(at_ + 1, text_.size()), " of ", text_.size());
  }

  // The next character, or 0 at the end of the text: a zero byte is no part of JSON either.
  [[nodiscard]] char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }
  [[nodiscard]] unsigned byte(std::size_t at) const {
    return at < text_.size() ? static_cast<unsigned char>(text_[at]) : 0;
  }
  void expect(char c) {
    if (peek() != c) bad();
    ++at_;
  }
  [[nodiscard]] bool accept(char c) {
    const bool there = peek() == c;
    at_ += there ? 1 : 0;
    return there;
  }
  void skip_space() {
    while (peek() == ' ' || peek() == '\t' || peek() == '\n' || peek() == '\r') ++at_;
  }

  JsonValue value(int depth) {
    skip_space();
    switch (peek()) {
      case '{': return JsonValue(object(depth));
      case '[': return JsonValue(array(depth));
      case '"': return JsonValue(string());
      case 't': return word("true"), JsonValue(true);
      case 'f': return word("false"), JsonValue(false);
      case 'n': return word("null"), JsonValue();
      default: return JsonValue(number());
    }
  }

  void word(std::string_view letters) {
    for (const char c : letters) expect(c);
  }

  void enter(char bracket, int depth) {
    require(depth < deepest, where_, ": expected at most ", deepest, " levels of nesting, found more");
    expect(bracket);
    skip_space();
  }

  JsonValue::Array array(int depth) {
    enter('[', depth);
    JsonValue::Array items;
    if (accept(']')) return items;
    do {
      items.push_back(value(depth + 1));
      skip_space();
    } while (accept(','));
    expect(']');
    return items;
  }

  JsonValue::Object object(int depth) {
    enter('{', depth);
    JsonValue::Object members;
    if (accept('}')) return members;
    do {
      skip_space();
      std::string name = string();
      skip_space();
      expect(':');
      members.push_back({std::move(name), value(depth + 1)});
      skip_space();
    } while (accept(','));
    expect('}');
    std::sort(members.begin(), members.end(), [](const JsonMember& a, const JsonMember& b) { return a.name < b.name; });
    const auto twice = std::adjacent_find(members.begin(), members.end(),
                                          [](const JsonMember& a, const JsonMember& b) { return a.name == b.name; });
    require(twice == members.end(), where_, ": \"", twice == members.end() ? std::string() : excerpt(twice->name),
            "\" appears twice");
    return members;
  }

  void digits() {
    if (!is_digit(peek())) bad();
    while (is_digit(peek())) ++at_;
  }
  static bool is_digit(char c) { return c >= '0' && c <= '9'; }

  JsonNumber number() {
    const std::size_t begin = at_;
    (void)accept('-');
    if (!accept('0')) digits();
    if (accept('.')) digits();
    if (accept('e') || accept('E')) {
      if (!accept('+')) (void)accept('-');
      digits();
    }
    const std::string_view text = text_.substr(begin, at_ - begin);
    double unused = 0;
    require(std::from_chars(text.data(), text.data() + text.size(), unused).ec == std::errc(), where_,
            ": not valid JSON: a number is out of range");
    return {std::string(text)};
  }

  std::string string() {
    expect('"');
    std::string out;
    for (;;) {
      const unsigned c = byte(at_);
      if (c < 0x20) bad();
      if (c >= 0x80) {
        character(out);
      } else if (c == '\\') {
        ++at_;
        escape(out);
      } else {
        ++at_;
        if (c == '"') return out;
        out += static_cast<char>(c);
      }
    }
  }

  // One character of two to four bytes, in no other spelling than UTF-8 has for it (Unicode, table 3-7).
  void character(std::string& out) {
    const unsigned lead = byte(at_), second = byte(at_ + 1);
    const std::size_t length = lead < 0xC2 ? 0 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : lead < 0xF5 ? 4 : 0;
    const unsigned least = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
    const unsigned most = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
    bool sound = length > 0 && second >= least && second <= most;
    for (std::size_t i = 2; i < length; ++i) sound = sound && byte(at_ + i) >> 6 == 2;
    if (!sound) bad();
    out.append(text_, at_, length);
    at_ += length;
  }

  void escape(std::string& out) {
    constexpr std::string_view names = "\"\\/bfnrt", stand_for = "\"\\/\b\f\n\r\t";
    const std::size_t which = names.find(peek());
    if (which != std::string_view::npos) {
      ++at_;
      out += stand_for[which];
      return;
    }
    unsigned code = escaped_unit();
    if (code >> 10 == 0xD800 >> 10) {  // the first of a pair
      expect('\\');
      const unsigned second = escaped_unit();
      if (second >> 10 != 0xDC00 >> 10) bad();
      code = 0x10000 + ((code & 0x3FF) << 10 | (second & 0x3FF));
    } else if (code >> 10 == 0xDC00 >> 10) {
      bad();
    }
    append_utf8(out, code);
  }

  unsigned escaped_unit() {
    expect('u');
    unsigned unit = 0;
    for (int i = 0; i < 4; ++i, ++at_) {
      constexpr std::string_view hex = "0123456789abcdef";
      const std::size_t digit = hex.find(static_cast<char>(byte(at_) | (byte(at_) >= 'A' ? 0x20U : 0U)));
      if (digit == std::string_view::npos) bad();
      unit = unit << 4 | static_cast<unsigned>(digit);
    }
    return unit;
  }

  static void append_utf8(std::string& out, unsigned code) {
    const auto tail = [&](int shift) { out += static_cast<char>(0x80 | (code >> shift & 0x3F)); };
    if (code < 0x80) {
      out += static_cast<char>(code);
    } else if (code < 0x800) {
      out += static_cast<char>(0xC0 | code >> 6), tail(0);
    } else if (code < 0x10000) {
      out += static_cast<char>(0xE0 | code >> 12), tail(6), tail(0);
    } else {
      out += static_cast<char>(0xF0 | code >> 18), tail(12), tail(6), tail(0);
    }
  }

  std::string_view text_;
  std::string_view where_;
  std::size_t at_ = 0;
};

}  // namespace detail

/// Parses one JSON text. `where` names it in errors. Throws Error on bad syntax or UTF-8, a name that an object has
/// twice, a number beyond the range of a double, and nesting deeper than 64.
[[nodiscard]] inline JsonValue parse_json(std::string_view text, std::string_view where) {
  return detail::JsonParser(text, where).whole();
}

}  // namespace tessera
