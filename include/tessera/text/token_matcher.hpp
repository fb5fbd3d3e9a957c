#pragma once
// Finding any of many texts in a text: leftmost first, the longest of those.

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include <tessera/core/types.hpp>

namespace tessera::text {

/// A byte trie. Patterns are UTF-8, so matches in UTF-8 begin and end at code points.
class TokenMatcher {
 public:
  /// Bytes [begin, end) of the text.
  struct Match {
    std::size_t begin = 0;
    std::size_t end = 0;
    token_t id = -1;
  };

  /// Adds a pattern (not empty); false if it is there already.
  [[nodiscard]] bool add(std::string_view pattern, token_t id) {
    std::size_t node = 0;
    for (const char c : pattern) node = child_or_new(node, static_cast<std::uint8_t>(c));
    starts_[static_cast<std::uint8_t>(pattern.front())] = true;
    if (nodes_[node].id >= 0) return false;
    nodes_[node].id = id;
    return true;
  }

  [[nodiscard]] bool empty() const { return nodes_.size() == 1; }

  /// The first match that begins at `from` or later.
  [[nodiscard]] std::optional<Match> find(std::string_view text, std::size_t from) const {
    for (std::size_t begin = from; begin < text.size(); ++begin) {
      if (!starts_[static_cast<std::uint8_t>(text[begin])]) continue;
      Match longest;
      std::size_t node = 0;
      for (std::size_t at = begin; at < text.size(); ++at) {
        node = child(node, static_cast<std::uint8_t>(text[at]));
        if (node == 0) break;
        if (nodes_[node].id >= 0) longest = {begin, at + 1, nodes_[node].id};
      }
      if (longest.id >= 0) return longest;
    }
    return std::nullopt;
  }

 private:
  // Children are a list through siblings: added tokens share few prefixes, so the lists are short but for the first
  // byte.
  struct Node {
    std::uint32_t first_child = 0;
    std::uint32_t sibling = 0;
    token_t id = -1;
    std::uint8_t byte = 0;
  };

  [[nodiscard]] std::size_t child(std::size_t node, std::uint8_t byte) const {
    std::size_t at = nodes_[node].first_child;
    while (at != 0 && nodes_[at].byte != byte) at = nodes_[at].sibling;
    return at;
  }

  std::size_t child_or_new(std::size_t node, std::uint8_t byte) {
    if (const std::size_t at = child(node, byte)) return at;
    nodes_.push_back({0, nodes_[node].first_child, -1, byte});
    nodes_[node].first_child = static_cast<std::uint32_t>(nodes_.size() - 1);
    return nodes_.size() - 1;
  }

  std::vector<Node> nodes_ = {Node{}};  // the root is never a child: 0 also says "none"
  std::array<bool, 256> starts_{};
};

}  // namespace tessera::text
