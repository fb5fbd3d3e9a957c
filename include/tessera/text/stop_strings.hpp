#pragma once
// Texts that end a text: found across the pieces in which it comes, before any part of one is shown.

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <tessera/core/error.hpp>

namespace tessera {

/// Passes text on up to the first stop string, which is not passed on.
class StopStrings {
 public:
  /// Throws Error for an empty stop string.
  explicit StopStrings(std::vector<std::string> stops = {}) : stops_(std::move(stops)) {
    for (const std::string& stop : stops_) require(!stop.empty(), "stop strings: expected a text, found an empty one");
  }

  /// Takes the next piece; returns what can be shown: all up to a stop string, or to what may be the beginning of one.
  [[nodiscard]] std::string push(std::string_view piece) {
    if (found_) return {};
    held_ += piece;
    std::size_t end = std::string::npos;
    for (const std::string& stop : stops_) end = std::min(end, held_.find(stop));
    found_ = end != std::string::npos;
    if (!found_) end = held_.size() - beginning();
    std::string shown = held_.substr(0, end);
    held_.erase(0, end);
    return shown;
  }

  /// Whether a stop string has come: the text is over.
  [[nodiscard]] bool found() const { return found_; }

  /// What was held back, when no more text comes; nothing after a stop string.
  [[nodiscard]] std::string flush() { return found_ ? std::string() : std::exchange(held_, {}); }

 private:
  /// Length of the longest end of held_ that is the beginning of a stop string.
  [[nodiscard]] std::size_t beginning() const {
    std::size_t longest = 0;
    for (const std::string& stop : stops_)
      for (std::size_t n = std::min(stop.size() - 1, held_.size()); n > longest; --n)
        if (held_.ends_with(std::string_view(stop).substr(0, n))) longest = n;
    return longest;
  }

  std::vector<std::string> stops_;
  std::string held_;
  bool found_ = false;
};

}  // namespace tessera
