#pragma once
// A plan: who keeps which rows and which part of the weights in a step. Pure arithmetic, no communication.

#include <array>
#include <cmath>
#include <span>
#include <string_view>
#include <vector>

#include <tessera/core/error.hpp>
#include <tessera/core/model_config.hpp>
#include <tessera/core/partition.hpp>
#include <tessera/core/view.hpp>

namespace tessera {

/// One rank among many, and in which proportion the ranks share (empty: equally).
struct Ranks {
  index_t rank = 0;
  index_t size = 1;
  std::span<const double> shares = {};
  index_t inner =
      1;  ///< ranks of the inner dimension of a two-dimensional mesh; consecutive ranks are neighbours in it

  /// Throws Error unless there is a share for each rank, none negative and one positive at least, or none at all.
  void require_shares() const {
    bool any = shares.empty();
    bool good = any || static_cast<index_t>(shares.size()) == size;
    for (const double share : shares) good = good && std::isfinite(share) && share >= 0, any = any || share > 0;
    require(good && any, "shares: expected one for each of ", size,
            " ranks, none negative and one positive at least; found ", shares.size());
  }

  /// Part of [0, n) that rank `r` takes.
  [[nodiscard]] constexpr Range part(index_t n, index_t r, index_t grain = 1) const {
    return partition(n, size, r, shares, grain);
  }
  [[nodiscard]] constexpr Range part(index_t n) const { return part(n, rank); }
  /// The same ranks seen from rank `r`.
  [[nodiscard]] constexpr Ranks at(index_t r) const { return {r, size, shares, inner}; }
};

/// Ranks that keep their shares themselves, for objects that outlive where these came from. Moved, not copied.
class OwnedRanks : public Ranks {
 public:
  explicit OwnedRanks(const Ranks& ranks) : Ranks(ranks), own_(ranks.shares.begin(), ranks.shares.end()) {
    shares = own_;
  }
  OwnedRanks(OwnedRanks&&) noexcept = default;  // a vector's elements stay where they are
  OwnedRanks& operator=(OwnedRanks&&) noexcept = default;

 private:
  std::vector<double> own_;
};

/// A rank's place in a two-dimensional mesh: among all ranks, among those that split tokens, among those that split
/// features.
struct MeshRanks {
  Ranks all;
  Ranks outer;
  Ranks inner;
};

/// At most two runs of rows, ascending; the local row i is the i-th of them.
struct RowSet {
  std::array<Range, 2> runs;

  [[nodiscard]] constexpr index_t size() const { return runs[0].size() + runs[1].size(); }
  [[nodiscard]] constexpr index_t operator[](index_t i) const {
    return i < runs[0].size() ? runs[0].begin + i : runs[1].begin + (i - runs[0].size());
  }
  [[nodiscard]] constexpr bool contains(index_t row) const { return runs[0].contains(row) || runs[1].contains(row); }
  /// The local rows `part` of this set.
  [[nodiscard]] constexpr RowSet sub(Range part) const {
    const index_t cut = runs[0].size();
    const Range first = intersect(part, {0, cut});
    const Range second = intersect(part, {cut, size()});
    return {{Range{runs[0].begin + first.begin, runs[0].begin + first.begin + first.size()},
             Range{runs[1].begin + second.begin - cut, runs[1].begin + second.begin - cut + second.size()}}};
  }
  /// How many kept rows come before `row`: its local index where it is kept.
  [[nodiscard]] constexpr index_t before(index_t row) const {
    return intersect(runs[0], {0, row}).size() + intersect(runs[1], {0, row}).size();
  }
};

/// All rows of a step of `n`.
[[nodiscard]] constexpr RowSet all_rows(index_t n) { return {{Range{0, n}, Range{n, n}}}; }

/// Rank `r` of zigzag order: of 2P chunks it takes chunk r and chunk 2P-1-r, one early and one late, so that every rank
/// has about the same causal work (arXiv:2311.09431).
/// Law: the ranks' rows tile [0, n); without shares they differ by at most one row.
[[nodiscard]] constexpr RowSet zigzag_rows(index_t n, const Ranks& ranks, index_t r) {
  // The early chunks are cut in rank order, the late ones in reverse, mirrored from the end. The early half is filled
  // up first, so that what is left over goes as late rows to the ranks whose early rows are the cheapest.
  const index_t rest = n % (2 * ranks.size);
  const index_t half = ranks.shares.empty() ? (n - rest) / 2 + std::min(rest, ranks.size) : (n + 1) / 2;
  const Range early = ranks.part(half, r);
  const Range late = ranks.part(n - half, r);
  return {{early, Range{n - late.end, n - late.begin}}};
}

/// place[t]: where row t of `n` stands when the zigzag rows of all ranks follow each other in rank order, as an
/// allgather brings them.
inline void place_zigzag_rows(index_t n, const Ranks& ranks, std::span<index_t> place) {
  index_t before = 0;
  for (index_t r = 0; r < ranks.size; ++r) {
    const RowSet rows = zigzag_rows(n, ranks, r);
    for (index_t i = 0; i < rows.size(); ++i) place[static_cast<std::size_t>(rows[i])] = before + i;
    before += rows.size();
  }
}

/// The part of every weight matrix that a rank uses.
struct WeightSlice {
  Range q_heads;
  Range kv_heads;
  Range ffn;    ///< columns of the hidden layer of the MLP
  Range vocab;  ///< rows of lm_head

  friend constexpr bool operator==(const WeightSlice&, const WeightSlice&) = default;
};

/// Floats of a row [q | k | v] of the slice's heads.
[[nodiscard]] constexpr index_t qkv_floats(const ModelConfig& config, const WeightSlice& slice) {
  return (slice.q_heads.size() + 2 * slice.kv_heads.size()) * config.head_dim;
}

/// FFN columns are cut in blocks, so that a slice of a row starts on a cache line and on a quantisation block.
inline constexpr index_t ffn_grain = 32;

/// The vocabulary is cut in groups of rows that weights in blocks keep together: one that two ranks share would be
/// computed on both.
inline constexpr index_t vocab_grain = group_rows;

/// The rows of lm_head that a rank multiplies by, under every policy: whose logits it has.
[[nodiscard]] constexpr Range vocab_part(index_t vocab, const Ranks& ranks) {
  return ranks.part(vocab, ranks.rank, vocab_grain);
}

/// The KV heads that the query heads of a range read; empty for no heads.
[[nodiscard]] constexpr Range kv_heads_of(Range q_heads, index_t group) {
  if (q_heads.empty()) return {q_heads.begin / group, q_heads.begin / group};
  return {q_heads.begin / group, ceil_div(q_heads.end, group)};
}

/// Heads, FFN columns and vocabulary over ranks; a KV head is held by every rank whose query heads read it.
[[nodiscard]] constexpr WeightSlice slice_by_heads(const ModelConfig& config, const Ranks& ranks) {
  const Range q_heads = ranks.part(config.heads);
  return {q_heads, kv_heads_of(q_heads, config.group()), ranks.part(config.intermediate, ranks.rank, ffn_grain),
          vocab_part(config.vocab, ranks)};
}

/// A slice as wide as the wider of two, part by part: what memory for either is planned for.
[[nodiscard]] constexpr WeightSlice widest_of(const WeightSlice& a, const WeightSlice& b) {
  const auto wider = [](Range x, Range y) { return x.size() < y.size() ? y : x; };
  return {wider(a.q_heads, b.q_heads), wider(a.kv_heads, b.kv_heads), wider(a.ffn, b.ffn), wider(a.vocab, b.vocab)};
}

/// What a rank does in one step.
struct Plan {
  RowSet kept;        ///< rows of the residual stream that it keeps
  RowSet computed;    ///< rows that it projects, after gather
  WeightSlice slice;  ///< weights that it uses
};

}  // namespace tessera
