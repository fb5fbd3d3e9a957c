#pragma once
// Who holds what, as arithmetic: half-open ranges and how they tile [0, n).

#include <algorithm>
#include <span>

#include <tessera/core/types.hpp>

namespace tessera {

/// A half-open range [begin, end).
struct Range {
  index_t begin = 0;
  index_t end = 0;

  [[nodiscard]] constexpr index_t size() const { return end - begin; }
  [[nodiscard]] constexpr bool empty() const { return end <= begin; }
  [[nodiscard]] constexpr bool contains(index_t i) const { return begin <= i && i < end; }
  friend constexpr bool operator==(const Range&, const Range&) = default;
};

/// What both hold; empty, at the later begin, where they hold nothing in common.
[[nodiscard]] constexpr Range intersect(Range a, Range b) {
  const index_t begin = std::max(a.begin, b.begin);
  return {begin, std::max(begin, std::min(a.end, b.end))};
}

/// a / b rounded up, for a >= 0 and b > 0.
[[nodiscard]] constexpr index_t ceil_div(index_t a, index_t b) { return (a + b - 1) / b; }

/// Part `i` of `parts` of [0, n), in units of `grain` (a head, a quantisation block; the last unit may be short).
/// Law: the parts tile [0, n) in order, and differ by at most one unit. Parts may be empty.
[[nodiscard]] constexpr Range partition(index_t n, index_t parts, index_t i, index_t grain = 1) {
  const index_t units = ceil_div(n, grain);
  const index_t base = units / parts;
  const index_t longer = units % parts;  // the first `longer` parts take one unit more
  const index_t begin = i * base + std::min(i, longer);
  const index_t end = begin + base + (i < longer ? 1 : 0);
  return {std::min(n, begin * grain), std::min(n, end * grain)};
}

/// Part `i` of [0, n) in proportion to `shares` (none negative, one positive at least); equal when `shares` is empty.
/// Law: the parts tile [0, n) in order.
[[nodiscard]] constexpr Range partition(index_t n, index_t parts, index_t i, std::span<const double> shares,
                                        index_t grain = 1) {
  if (shares.empty()) return partition(n, parts, i, grain);
  double before = 0;
  double total = 0;
  for (index_t p = 0; p < parts; ++p) {
    const double share = shares[static_cast<std::size_t>(p)];
    if (p < i) before += share;
    total += share;
  }
  const auto units = static_cast<double>(ceil_div(n, grain));
  const double through = before + shares[static_cast<std::size_t>(i)];
  // Cuts are rounded from cumulative sums, so that neighbours agree on them and the last one is exact.
  const auto cut = [&](double sum) { return static_cast<index_t>(units * (sum / total) + 0.5); };
  const index_t end = i + 1 == parts ? ceil_div(n, grain) : cut(through);
  return {std::min(n, cut(before) * grain), std::min(n, end * grain)};
}

}  // namespace tessera
