#pragma once
// Text of unknown origin, made fit for one line of an error message.

#include <string>
#include <string_view>

namespace tessera {

/// `text` with control characters and bytes outside ASCII as `\xNN`, cut after `limit` bytes: a hostile name can
/// neither flood a terminal nor steer it.
[[nodiscard]] inline std::string excerpt(std::string_view text, std::size_t limit = 120) {
  static constexpr char digits[] = "0123456789abcdef";
  std::string line;
  for (const char c : text.substr(0, limit)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 && byte < 0x7F) {
      line += c;
    } else {
      line += "\\x";
      line += digits[byte >> 4];
      line += digits[byte & 15];
    }
  }
  if (text.size() > limit) line += "...";
  return line;
}

}  // namespace tessera
