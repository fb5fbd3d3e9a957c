// The arithmetic of plans, for every n and P up to 64: no communication, no model.

#include "catch.hpp"

#include <cmath>
#include <numeric>
#include <vector>

#include <tessera/policies/cache_layout.hpp>
#include <tessera/policies/helix.hpp>
#include <tessera/policies/hybrid.hpp>
#include <tessera/policies/plan.hpp>

using namespace tessera;

namespace {

const std::vector<double> uneven = {3, 1, 2, 5};

/// How often each of n rows occurs in the sets of all ranks.
template <class SetOf>
std::vector<int> times_covered(index_t n, index_t ranks, SetOf&& set_of) {
  std::vector<int> times(static_cast<std::size_t>(n), 0);
  for (index_t r = 0; r < ranks; ++r) {
    const RowSet rows = set_of(r);
    for (index_t i = 0; i < rows.size(); ++i) ++times.at(static_cast<std::size_t>(rows[i]));
  }
  return times;
}

}  // namespace

TEST_CASE("shares are refused unless each rank has one that can be used") {
  for (const std::vector<double>& good : {std::vector<double>{}, {3, 1, 0}, {0.1, 2, 1e9}})
    CHECK_NOTHROW(Ranks{0, 3, good}.require_shares());
  for (const std::vector<double>& bad :
       {std::vector<double>{3, 1}, {1, 1, 1, 1}, {0, 0, 0}, {1, -1, 1}, {1, NAN, 1}, {1, INFINITY, 1}})
    CHECK_THROWS_WITH((Ranks{0, 3, bad}.require_shares()), Catch::Contains("expected one for each of 3 ranks"));
}

TEST_CASE("zigzag rows of all ranks tile the step") {
  for (index_t ranks = 1; ranks <= 64; ++ranks)
    for (index_t n = 0; n <= 64; ++n) {
      const auto times = times_covered(n, ranks, [&](index_t r) { return zigzag_rows(n, {0, ranks}, r); });
      REQUIRE(times == std::vector<int>(static_cast<std::size_t>(n), 1));
    }
  for (index_t n = 0; n <= 64; ++n) {
    const auto times = times_covered(n, 4, [&](index_t r) { return zigzag_rows(n, {0, 4, uneven}, r); });
    REQUIRE(times == std::vector<int>(static_cast<std::size_t>(n), 1));
  }
}

TEST_CASE("zigzag ranks differ by at most one row, and in causal work by at most one chunk") {
  for (index_t ranks = 1; ranks <= 64; ++ranks)
    for (index_t n = 0; n <= 256; n += 7) {
      index_t least_rows = n, most_rows = 0, least_work = n * n, most_work = 0;
      for (index_t r = 0; r < ranks; ++r) {
        const RowSet rows = zigzag_rows(n, {0, ranks}, r);
        index_t work = 0;
        for (index_t i = 0; i < rows.size(); ++i) work += rows[i] + 1;
        least_rows = std::min(least_rows, rows.size()), most_rows = std::max(most_rows, rows.size());
        least_work = std::min(least_work, work), most_work = std::max(most_work, work);
      }
      REQUIRE(most_rows - least_rows <= 1);
      REQUIRE(most_work - least_work <= ceil_div(n, 2 * ranks) * (n + 1));  // one chunk of the longest rows
      if (n % (2 * ranks) == 0) REQUIRE(most_work == least_work);  // an early chunk and its mirror: always as much
    }
}

TEST_CASE("a row set counts, finds and cuts its rows") {
  for (index_t n = 0; n <= 40; ++n)
    for (index_t r = 0; r < 3; ++r) {
      const RowSet rows = zigzag_rows(n, {0, 3}, r);
      for (index_t i = 0; i < rows.size(); ++i) {
        REQUIRE(rows.contains(rows[i]));
        REQUIRE(rows.before(rows[i]) == i);
        if (i > 0) REQUIRE(rows[i - 1] < rows[i]);
      }
      index_t contained = 0;
      for (index_t t = 0; t < n; ++t) contained += rows.contains(t) ? 1 : 0;
      REQUIRE(contained == rows.size());
      for (index_t begin = 0; begin <= rows.size(); ++begin)
        for (index_t end = begin; end <= rows.size(); ++end) {
          const RowSet part = rows.sub({begin, end});
          REQUIRE(part.size() == end - begin);
          for (index_t i = begin; i < end; ++i) REQUIRE(part[i - begin] == rows[i]);
        }
    }
}

TEST_CASE("every query head finds its KV head on its rank") {
  for (index_t kv_heads : {1, 2, 3, 8})
    for (index_t group : {1, 2, 3, 7})
      for (index_t ranks = 1; ranks <= kv_heads * group; ++ranks) {
        ModelConfig config;
        config.heads = kv_heads * group, config.kv_heads = kv_heads;
        index_t at = 0;
        for (index_t r = 0; r < ranks; ++r) {
          const WeightSlice slice = slice_by_heads(config, {r, ranks});
          REQUIRE(slice.q_heads.begin == at);
          REQUIRE(!slice.q_heads.empty());
          at = slice.q_heads.end;
          for (index_t h = slice.q_heads.begin; h < slice.q_heads.end; ++h) REQUIRE(slice.kv_heads.contains(h / group));
          REQUIRE(slice.kv_heads.begin == slice.q_heads.begin / group);
          REQUIRE(slice.kv_heads.end == (slice.q_heads.end - 1) / group + 1);
        }
        REQUIRE(at == config.heads);
      }
}

TEST_CASE("the vocabulary is cut over all ranks, between the groups of rows of weights in blocks, under every policy") {
  for (const index_t vocab : {5, 211, 4096, 151936})
    for (const index_t size : {1, 2, 3, 4, 6, 8, 64})
      for (const std::vector<double>& shares : {std::vector<double>{}, std::vector<double>(8, 2.5)}) {
        if (!shares.empty() && size != std::ssize(shares)) continue;
        ModelConfig config;
        config.heads = config.kv_heads = 64, config.head_dim = 2, config.hidden = config.intermediate = 128;
        config.vocab = vocab;
        index_t next = 0;
        for (index_t r = 0; r < size; ++r) {
          const Ranks ranks{r, size, shares, size % 2 == 0 ? 2 : 1};
          const Range part = vocab_part(vocab, ranks);
          REQUIRE((part.begin == next && (part.end % group_rows == 0 || part.end == vocab)));
          next = part.end;
          REQUIRE(HeadWise::plan(config, ranks, 1).slice.vocab == part);
          REQUIRE(ContextParallel<AllGatherKv<>>::plan(config, ranks, 1).slice.vocab == part);
          REQUIRE(HybridPrefill<Sequence<>, HeadWise>::plan(config, ranks, 1).slice.vocab == part);
          REQUIRE(Helix::plan(config, ranks, 1).slice.vocab == part);
        }
        REQUIRE(next == vocab);
      }
}

TEST_CASE("every position has one owner and one slot, in order, and stripes grow evenly") {
  for (index_t stripes = 1; stripes <= 64; stripes = stripes < 9 ? stripes + 1 : stripes * 2)
    for (index_t sequence : {0, 1, 5, 70}) {
      std::vector<index_t> next(static_cast<std::size_t>(stripes), 0);
      for (index_t p = 0; p < 1200; ++p) {
        const CacheLayout any{{0, 1}, stripes, 0};
        const index_t owner = any.owner(sequence, p);
        const CacheLayout layout{{0, 1}, stripes, owner};
        index_t& filled = next.at(static_cast<std::size_t>(owner));
        REQUIRE(layout.owns(sequence, p));
        REQUIRE(layout.slot(p) == filled);  // slots fill in position order, none is skipped
        REQUIRE(layout.position(sequence, filled) == p);
        ++filled;
        index_t total = 0;
        for (index_t s = 0; s < stripes; ++s) {
          const index_t slots = layout.slots_of(sequence, p + 1, s);
          REQUIRE(slots == next.at(static_cast<std::size_t>(s)));
          REQUIRE(slots <= layout.capacity(p + 1));
          total += slots;
        }
        REQUIRE(total == p + 1);
        const auto [least, most] = std::minmax_element(next.begin(), next.end());
        REQUIRE(*most - *least <= CacheLayout::block);
      }
    }
}

TEST_CASE("ranks that share the heads in decode project each once, and no rank has more than it must") {
  ModelConfig config;
  config.vocab = config.hidden = config.intermediate = 4096;
  config.head_dim = 128;
  for (const auto& [heads, kv_heads] : {std::pair<index_t, index_t>{32, 8}, {64, 8}, {16, 16}, {14, 2}}) {
    config.heads = heads, config.kv_heads = kv_heads;
    for (index_t ranks = 1; ranks <= 64; ++ranks) {
      INFO(heads << " and " << kv_heads << " heads, " << ranks << " ranks");
      std::vector<int> q(static_cast<std::size_t>(heads), 0), kv(static_cast<std::size_t>(kv_heads), 0);
      index_t most = 0, next_kv_head = 0;
      for (index_t r = 0; r < ranks; ++r) {
        const WeightSlice slice = Helix::plan(config, {r, ranks}, 1).slice;
        CHECK(slice.kv_heads.begin == next_kv_head);  // in the order of the ranks
        next_kv_head = slice.kv_heads.end;
        for (index_t h = slice.q_heads.begin; h < slice.q_heads.end; ++h) ++q.at(static_cast<std::size_t>(h));
        for (index_t h = slice.kv_heads.begin; h < slice.kv_heads.end; ++h) ++kv.at(static_cast<std::size_t>(h));
        most = std::max(most, slice.q_heads.size() + slice.kv_heads.size());
      }
      CHECK(q == std::vector<int>(q.size(), 1));
      CHECK(kv == std::vector<int>(kv.size(), 1));
      CHECK(most <= ceil_div(heads + kv_heads, ranks) + 1);
      // Those that are left over of either kind go to different ranks.
      if (heads % ranks > 0 && heads % ranks + kv_heads % ranks <= ranks)
        CHECK(most == heads / ranks + kv_heads / ranks + 1);
    }
  }
}
