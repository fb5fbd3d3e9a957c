#pragma once
// The merges of a BPE model, and their application to a sequence of symbols.

#include <algorithm>
#include <bit>
#include <cstdint>
#include <functional>
#include <limits>
#include <queue>
#include <vector>

#include <tessera/core/types.hpp>

namespace tessera::text {

/// Pairs of symbols with the rank of their merge and its result: open addressing with linear probing, half empty.
class MergeTable {
 public:
  /// What a pair becomes, and how early.
  struct Merge {
    std::int32_t rank = none;
    token_t result = -1;
  };
  static constexpr std::int32_t none = std::numeric_limits<std::int32_t>::max();

  void reserve(std::size_t merges) { rehash(std::bit_ceil(2 * merges + 16)); }

  /// Adds a merge; a pair that is there already takes the new rank.
  void add(token_t left, token_t right, Merge merge) {
    if (2 * (size_ + 1) > slots_.size()) rehash(std::max<std::size_t>(16, 2 * slots_.size()));
    Slot& slot = slots_[place(key_of(left, right))];
    if (slot.key == empty_key) ++size_;
    slot = {key_of(left, right), merge};
  }

  /// The merge of a pair; its rank is `none` where there is none.
  [[nodiscard]] Merge find(token_t left, token_t right) const {
    if (slots_.empty()) return {};
    const Slot& slot = slots_[place(key_of(left, right))];
    return slot.key == empty_key ? Merge{} : slot.merge;
  }

  /// Merges symbols[first..] in place: always the pair of lowest rank, the leftmost of equals, until none is left.
  void apply(std::vector<token_t>& symbols, std::size_t first) const {
    const std::size_t n = symbols.size() - first;
    if (n < 2) return;
    if (n <= scan_length) {
      apply_by_scan(symbols, first);
    } else {
      apply_by_heap(symbols, first);
    }
  }

 private:
  /// Up to here a scan over all pairs per merge costs less than a heap; the words of a text are shorter.
  static constexpr std::size_t scan_length = 32;
  static constexpr std::uint64_t empty_key = ~std::uint64_t{0};  // ids are not negative, so no pair has it

  struct Slot {
    std::uint64_t key = empty_key;
    Merge merge;
  };

  static std::uint64_t key_of(token_t left, token_t right) {
    return static_cast<std::uint64_t>(static_cast<std::uint32_t>(left)) << 32 | static_cast<std::uint32_t>(right);
  }

  [[nodiscard]] std::size_t place(std::uint64_t key) const {
    std::uint64_t hash = key * 0x9E3779B97F4A7C15U;  // Fibonacci hashing; the high bits are the mixed ones
    hash ^= hash >> 32;
    std::size_t at = hash & (slots_.size() - 1);
    while (slots_[at].key != key && slots_[at].key != empty_key) at = (at + 1) & (slots_.size() - 1);
    return at;
  }

  void rehash(std::size_t slots) {
    std::vector<Slot> old(slots);
    old.swap(slots_);
    for (const Slot& slot : old)
      if (slot.key != empty_key) slots_[place(slot.key)] = slot;
  }

  void apply_by_scan(std::vector<token_t>& symbols, std::size_t first) const {
    Merge merges[scan_length];  // of each symbol with the next
    std::size_t pairs = symbols.size() - first - 1;
    token_t* s = symbols.data() + first;
    for (std::size_t i = 0; i < pairs; ++i) merges[i] = find(s[i], s[i + 1]);
    while (pairs > 0) {
      const auto lower = [](const Merge& a, const Merge& b) { return a.rank < b.rank; };
      const auto i = static_cast<std::size_t>(std::min_element(merges, merges + pairs, lower) - merges);
      if (merges[i].rank == none) break;
      s[i] = merges[i].result;
      std::copy(s + i + 2, s + pairs + 1, s + i + 1);
      std::copy(merges + i + 1, merges + pairs, merges + i);
      --pairs;
      if (i > 0) merges[i - 1] = find(s[i - 1], s[i]);
      if (i < pairs) merges[i] = find(s[i], s[i + 1]);
    }
    symbols.resize(first + pairs + 1);
  }

  void apply_by_heap(std::vector<token_t>& symbols, std::size_t first) const {
    struct Candidate {
      std::int32_t rank;
      std::uint32_t at;
      token_t left, right, result;
      bool operator>(const Candidate& other) const { return rank != other.rank ? rank > other.rank : at > other.at; }
    };
    constexpr std::uint32_t end = std::numeric_limits<std::uint32_t>::max();
    constexpr token_t gone = -1;  // a symbol that a merge to its left has taken
    const auto n = static_cast<std::uint32_t>(symbols.size() - first);
    token_t* s = symbols.data() + first;
    std::vector<std::uint32_t> next(n), previous(n);
    std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> queue;
    const auto offer = [&](std::uint32_t at) {
      const Merge merge = find(s[at], s[next[at]]);
      if (merge.rank != none) queue.push({merge.rank, at, s[at], s[next[at]], merge.result});
    };
    for (std::uint32_t i = 0; i < n; ++i) next[i] = i + 1 < n ? i + 1 : end, previous[i] = i > 0 ? i - 1 : end;
    for (std::uint32_t i = 0; i + 1 < n; ++i) offer(i);
    while (!queue.empty()) {
      const Candidate top = queue.top();
      queue.pop();
      const std::uint32_t right = next[top.at];
      // Stale unless the pair is still the one that was offered.
      if (s[top.at] != top.left || right == end || s[right] != top.right) continue;
      s[top.at] = top.result;
      s[right] = gone;
      next[top.at] = next[right];
      if (next[right] != end) previous[next[right]] = top.at, offer(top.at);
      if (previous[top.at] != end) offer(previous[top.at]);
    }
    symbols.erase(std::remove(symbols.begin() + static_cast<std::ptrdiff_t>(first), symbols.end(), gone),
                  symbols.end());
  }

  std::vector<Slot> slots_;
  std::size_t size_ = 0;
};

}  // namespace tessera::text
