#pragma once
// Tokens and their ids, both ways.

#include <deque>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include <tessera/core/types.hpp>

namespace tessera::text {

/// A bijection of texts and ids. Memory is proportional to the texts plus the largest id.
class Vocabulary {
 public:
  Vocabulary() = default;
  // The map's keys point into the deque, whose elements stay where they are when it moves, but not in a copy.
  Vocabulary(Vocabulary&&) = default;
  Vocabulary& operator=(Vocabulary&&) = default;
  Vocabulary(const Vocabulary&) = delete;
  Vocabulary& operator=(const Vocabulary&) = delete;
  ~Vocabulary() = default;

  void reserve(std::size_t tokens) { id_of_.reserve(tokens); }

  /// Adds a pair; false, and nothing changes, if the text or the id is taken already. `id` >= 0.
  [[nodiscard]] bool add(std::string_view token, token_t id) {
    const auto place = static_cast<std::size_t>(id);
    if (place < slot_of_.size() && slot_of_[place] >= 0) return false;
    if (id_of_.contains(token)) return false;
    if (place >= slot_of_.size()) slot_of_.resize(place + 1, -1);
    slot_of_[place] = static_cast<std::int32_t>(tokens_.size());
    id_of_.emplace(tokens_.emplace_back(token), id);
    return true;
  }

  /// The id of `token`, or -1.
  [[nodiscard]] token_t id(std::string_view token) const {
    const auto found = id_of_.find(token);
    return found == id_of_.end() ? -1 : found->second;
  }

  [[nodiscard]] bool contains(token_t id) const {
    return id >= 0 && static_cast<std::size_t>(id) < slot_of_.size() && slot_of_[static_cast<std::size_t>(id)] >= 0;
  }

  /// The text of `id`; empty where there is none.
  [[nodiscard]] std::string_view token(token_t id) const {
    if (!contains(id)) return {};
    return tokens_[static_cast<std::size_t>(slot_of_[static_cast<std::size_t>(id)])];
  }

  /// One more than the largest id.
  [[nodiscard]] index_t id_end() const { return static_cast<index_t>(slot_of_.size()); }
  [[nodiscard]] index_t size() const { return static_cast<index_t>(tokens_.size()); }

 private:
  std::deque<std::string> tokens_;
  std::vector<std::int32_t> slot_of_;  // by id: index into tokens_, -1 for a hole
  std::unordered_map<std::string_view, token_t> id_of_;
};

}  // namespace tessera::text
