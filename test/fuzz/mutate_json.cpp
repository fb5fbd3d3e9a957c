// How libFuzzer changes inputs that hold JSON: half of the time a whole value takes the place of another one, or goes,
// or is there twice, so that what comes of it is JSON still, and what is behind the parser is reached.
#include <algorithm>
#include <array>
#include <cstdint>
#include <random>
#include <string_view>
#include <vector>

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t most);

namespace {

/// Bytes [begin, end) of an input.
struct Part {
  std::size_t begin = 0;
  std::size_t end = 0;
};

/// The strings, numbers, words, arrays and objects of a text that may be JSON in parts, or no JSON any more.
std::vector<Part> values_of(std::string_view text) {
  std::vector<Part> values;
  std::vector<std::size_t> open;
  constexpr std::string_view word = "abcdefghijklmnopqrstuvwxyz0123456789+-.E";
  for (std::size_t at = 0; at < text.size(); ++at) {
    const char c = text[at];
    if (c == '"') {
      std::size_t end = at + 1;
      while (end < text.size() && text[end] != '"') end += text[end] == '\\' ? 2 : 1;
      if (end >= text.size()) break;
      values.push_back({at, end + 1});
      at = end;
    } else if (c == '{' || c == '[') {
      open.push_back(at);
    } else if (c == '}' || c == ']') {
      if (open.empty()) continue;
      values.push_back({open.back(), at + 1});
      open.pop_back();
    } else if (word.find(c) != std::string_view::npos) {
      const std::size_t end = std::min(text.find_first_not_of(word, at), text.size());
      values.push_back({at, end});
      at = end - 1;
    }
  }
  return values;
}

/// What readers of JSON are seldom given.
constexpr auto rare_values = std::to_array<std::string_view>({"null",
                                                              "true",
                                                              "false",
                                                              "0",
                                                              "-1",
                                                              "1",
                                                              "2",
                                                              "-0.0",
                                                              "1e-320",
                                                              "1e308",
                                                              "2147483647",
                                                              "2147483648",
                                                              "4294967296",
                                                              "9223372036854775807",
                                                              "9223372036854775808",
                                                              "18446744073709551615",
                                                              "1e400",
                                                              "\"\"",
                                                              "\"\\u0000\"",
                                                              "\"\\ud800\"",
                                                              "[]",
                                                              "{}",
                                                              "[[]]",
                                                              "[null]",
                                                              "{\"\":0}"});

}  // namespace

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t most, unsigned seed) {
  std::minstd_rand random(seed);
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const std::vector<Part> values = random() % 2 == 0 ? values_of(text) : std::vector<Part>();
  if (values.empty()) return LLVMFuzzerMutate(data, size, most);
  const Part at = values[random() % values.size()];
  const Part other = values[random() % values.size()];
  const std::string_view old = text.substr(at.begin, at.end - at.begin);
  std::vector<char> value;
  const auto append = [&](std::string_view bytes) { value.insert(value.end(), bytes.begin(), bytes.end()); };
  switch (random() % 5) {
    case 0: append(rare_values[random() % rare_values.size()]); break;
    case 1: append(text.substr(other.begin, other.end - other.begin)); break;
    case 2:  // with a sibling
      append(text.substr(other.begin, other.end - other.begin));
      append(",");
      append(old);
      break;
    case 3: {  // changed within
      value.assign(old.begin(), old.end());
      const std::size_t room = std::min(most - size, std::size_t{64});
      value.resize(old.size() + room);
      value.resize(LLVMFuzzerMutate(reinterpret_cast<std::uint8_t*>(value.data()), old.size(), value.size()));
      break;
    }
    default: break;  // gone
  }
  const std::size_t changed = size - old.size() + value.size();
  if (changed > most || changed == 0) return LLVMFuzzerMutate(data, size, most);
  const std::vector<std::uint8_t> after(data + at.end, data + size);
  std::copy(value.begin(), value.end(), data + at.begin);
  std::copy(after.begin(), after.end(), data + at.begin + value.size());
  return changed;
}
