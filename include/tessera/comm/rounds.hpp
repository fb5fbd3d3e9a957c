#pragma once
// Few bytes among many ranks, as arithmetic: in a few rounds, each between ranks that differ in one digit.

#include <algorithm>

#include <tessera/core/types.hpp>

namespace tessera {

/// The distances between `ranks` ranks as numbers of `count` digits to base `radix`. In round k a rank hands on what
/// has a digit of k other than 0 to go, to the rank that is as far away as that digit says: after all rounds everything
/// is where it belongs. A rank talks with radix - 1 others in a round, and not with all (J. Bruck et al., Efficient
/// algorithms for all-to-all communications in multiport message-passing systems, 1997).
///
/// A message makes a rank busy for about a quarter of the time that it takes to arrive (wire_cost.hpp), so a round
/// among r ranks costs 4 + (r - 1) messages' time. Of log(P) / log(r) such rounds those of 4 to 8 ranks cost the least,
/// and differ by a twentieth; fewer rounds suffer less where messages take longer to arrive. So there are as few rounds
/// as groups of 8 ranks allow.
struct Rounds {
  static constexpr index_t most_together = 8;  ///< ranks of a round that talk with one another

  index_t ranks = 1;
  index_t count = 0;
  index_t radix = 1;

  [[nodiscard]] static constexpr Rounds among(index_t ranks) {
    Rounds rounds{ranks, 0, 1};
    for (index_t reached = 1; reached < ranks; reached *= most_together) ++rounds.count;
    while (rounds.span(rounds.count) < ranks) ++rounds.radix;
    return rounds;
  }

  /// The value of digit k: the radix to the power k.
  [[nodiscard]] constexpr index_t span(index_t k) const {
    index_t power = 1;
    for (index_t i = 0; i < k; ++i) power *= radix;
    return power;
  }
  /// To how many a rank sends in round k, and from how many it receives.
  [[nodiscard]] constexpr index_t partners(index_t k) const { return std::min(radix - 1, (ranks - 1) / span(k)); }
  /// Of the distances below `ranks`, those that have something to go in round k.
  [[nodiscard]] constexpr index_t moved(index_t k) const {
    const index_t small = span(k), large = small * radix;
    return ranks - ranks / large * small - std::min(ranks % large, small);
  }

  /// In all rounds together.
  [[nodiscard]] constexpr index_t messages() const {
    index_t sum = 0;
    for (index_t k = 0; k < count; ++k) sum += partners(k);
    return sum;
  }
  /// How often the pieces of one rank, one for every rank, are sent until each is where it belongs.
  [[nodiscard]] constexpr index_t moves() const {
    index_t sum = 0;
    for (index_t k = 0; k < count; ++k) sum += moved(k);
    return sum;
  }
};

}  // namespace tessera
