#pragma once
// UTF-8 as the tokenizer sees it: code points, validity, the white space of the Unicode standard.

#include <cstdint>
#include <string>
#include <string_view>

#include <tessera/core/error.hpp>

namespace tessera::text {

/// What stands for bytes that are no UTF-8.
inline constexpr std::string_view replacement_character = "\xEF\xBF\xBD";  // U+FFFD

/// What starts at a position of a byte string: a whole code point, the beginning of one, or neither.
struct Utf8Step {
  enum class Kind : std::uint8_t { complete, incomplete, invalid };
  Kind kind = Kind::invalid;
  std::size_t length = 1;  ///< bytes of the code point, or of the maximal part to be replaced by one U+FFFD
  char32_t code_point = 0;
};

/// Reads one step at `text[at]`; `at` must be inside. Overlong forms and surrogates are invalid.
/// Source: table 3-7 and section 3.9, "maximal subpart", of the Unicode standard.
[[nodiscard]] inline Utf8Step utf8_step(std::string_view text, std::size_t at) {
  const auto byte = [&](std::size_t i) { return static_cast<std::uint8_t>(text[i]); };
  const std::uint8_t first = byte(at);
  if (first < 0x80) return {Utf8Step::Kind::complete, 1, first};
  if (first < 0xC2 || first > 0xF4) return {};
  const std::size_t length = first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
  const std::uint8_t lowest = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80;
  const std::uint8_t highest = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;
  char32_t code_point = first & (0xFFU >> (length + 1));
  for (std::size_t i = 1; i < length; ++i) {
    if (at + i == text.size()) return {Utf8Step::Kind::incomplete, i, 0};
    const std::uint8_t next = byte(at + i);
    if (next < (i == 1 ? lowest : 0x80) || next > (i == 1 ? highest : 0xBF)) return {Utf8Step::Kind::invalid, i, 0};
    code_point = (code_point << 6) | (next & 0x3FU);
  }
  return {Utf8Step::Kind::complete, length, code_point};
}

/// The position of the first byte that is not UTF-8, or npos.
[[nodiscard]] inline std::size_t find_invalid_utf8(std::string_view text) {
  for (std::size_t at = 0; at < text.size();) {
    const Utf8Step step = utf8_step(text, at);
    if (step.kind != Utf8Step::Kind::complete) return at;
    at += step.length;
  }
  return std::string_view::npos;
}

/// The position of the code point that ends before `at`; `text` is UTF-8 and `at` > 0.
[[nodiscard]] inline std::size_t previous_code_point(std::string_view text, std::size_t at) {
  do --at;
  while (at > 0 && (static_cast<std::uint8_t>(text[at]) & 0xC0U) == 0x80);
  return at;
}

/// Appends a code point, encoded.
inline void append_utf8(std::string& out, char32_t c) {
  const auto put = [&](char32_t byte) { out += static_cast<char>(static_cast<std::uint8_t>(byte)); };
  if (c < 0x80) {
    put(c);
  } else if (c < 0x800) {
    put(0xC0U | (c >> 6)), put(0x80U | (c & 0x3FU));
  } else if (c < 0x10000) {
    put(0xE0U | (c >> 12)), put(0x80U | ((c >> 6) & 0x3FU)), put(0x80U | (c & 0x3FU));
  } else {
    put(0xF0U | (c >> 18)), put(0x80U | ((c >> 12) & 0x3FU)), put(0x80U | ((c >> 6) & 0x3FU)), put(0x80U | (c & 0x3FU));
  }
}

/// Takes what is decided of `bytes` as UTF-8: whole code points, one U+FFFD for each invalid part. The beginning of a
/// code point at the end stays in `bytes`, unless `last` is set: then it becomes one U+FFFD.
[[nodiscard]] inline std::string take_utf8(std::string& bytes, bool last) {
  std::string text;
  std::size_t at = 0;
  while (at < bytes.size()) {
    const Utf8Step step = utf8_step(bytes, at);
    if (step.kind == Utf8Step::Kind::incomplete && !last) break;
    if (step.kind == Utf8Step::Kind::complete) {
      text.append(bytes, at, step.length);
    } else {
      text += replacement_character;
    }
    at += step.length;
  }
  bytes.erase(0, at);
  return text;
}

/// The property White_Space. Source: PropList.txt of the Unicode character database; unchanged since version 6.3.
[[nodiscard]] constexpr bool is_white_space(char32_t c) {
  return (c >= 0x9 && c <= 0xD) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) ||
         c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

/// Throws Error, naming `what`, unless `text` is UTF-8.
inline void require_utf8(std::string_view text, std::string_view what) {
  const std::size_t at = find_invalid_utf8(text);
  if (at == std::string_view::npos) return;
  fail(what, ": expected UTF-8, found byte ", static_cast<int>(static_cast<std::uint8_t>(text[at])), " at offset ", at);
}

}  // namespace tessera::text
