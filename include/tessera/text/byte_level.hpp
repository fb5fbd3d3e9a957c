#pragma once
// The byte alphabet of byte-level BPE: every byte has a printable character, so that a vocabulary is readable text.

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include <tessera/text/unicode.hpp>

namespace tessera::text {

/// Both directions of the alphabet. A byte that Latin-1 prints stands for itself; the others follow from U+0100 on, in
/// order. Source: bytes_to_unicode of GPT-2's encoder.
class ByteAlphabet {
 public:
  static constexpr char32_t end_code_point = 0x144;  ///< all characters of the alphabet are below

  constexpr ByteAlphabet() {
    byte_of_.fill(-1);
    char32_t next = 0x100;
    for (unsigned byte = 0; byte < 256; ++byte) {
      const bool printable = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
      character_of_[byte] = printable ? static_cast<char32_t>(byte) : next++;
      byte_of_[character_of_[byte]] = static_cast<std::int16_t>(byte);
    }
  }

  [[nodiscard]] constexpr char32_t character(std::uint8_t byte) const { return character_of_[byte]; }

  /// The byte that `c` stands for, or -1.
  [[nodiscard]] constexpr int byte(char32_t c) const { return c < end_code_point ? byte_of_[c] : -1; }

  /// Appends the characters of the bytes of `text`.
  void append_encoded(std::string& out, std::string_view text) const {
    for (const char byte : text) append_utf8(out, character(static_cast<std::uint8_t>(byte)));
  }

  /// Appends the bytes that `token` spells; a token with a character outside the alphabet spells its own UTF-8.
  void append_decoded(std::string& out, std::string_view token) const {
    const std::size_t start = out.size();
    for (std::size_t at = 0; at < token.size();) {
      const Utf8Step step = utf8_step(token, at);
      const int value = step.kind == Utf8Step::Kind::complete ? byte(step.code_point) : -1;
      if (value < 0) {
        out.resize(start);
        out += token;
        return;
      }
      out += static_cast<char>(static_cast<std::uint8_t>(value));
      at += step.length;
    }
  }

 private:
  std::array<char32_t, 256> character_of_{};
  std::array<std::int16_t, end_code_point> byte_of_{};
};

/// The one there is.
inline constexpr ByteAlphabet byte_alphabet;
static_assert(byte_alphabet.character(255) == 255 && byte_alphabet.byte(0x143) == 0xAD);

}  // namespace tessera::text
