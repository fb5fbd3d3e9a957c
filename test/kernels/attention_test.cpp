// The division of attention's work, and the tile kernels by themselves.
#include <set>
#include <tuple>

#include <tessera/kernels/attention.hpp>

#include "catch.hpp"
#include "policies/random_attention.hpp"

using namespace tessera;
using namespace tessera::test;

namespace {

struct Shape {
  HeadLayout layout;
  std::vector<std::vector<index_t>> visible;
};

std::vector<Shape> shapes() {
  return {
      {{16, 128, 2, 0}, {causal(0, 300)}},
      {{16, 128, 2, 0}, {{4096}}},
      {{5, 24, 3, 1}, {causal(0, 33), {}, {0, 0}, {700}}},
      {{7, 8, 64, 20}, {causal(10, 20)}},  // more heads share a KV head than a small block holds
      {{0, 16, 2, 0}, {causal(0, 3)}},
      {{2, 16, 1, 0}, {}},
      {{1, 1, 1, 0}, {{0}, {1}, {2000}, {3}}},
  };
}

}  // namespace

TEST_CASE("blocks hold every row and head once, and no more queries than they may", "[attention]") {
  for (const Shape& s : shapes())
    for (const BlockShape shape : {BlockShape{4, 4}, BlockShape{64, 16}, BlockShape{128, 32}}) {
      const RandomAttention given(s.layout, s.visible, 1);
      std::set<std::tuple<index_t, index_t>> seen;
      std::size_t queries = 0;
      for_each_block(given.problem(), shape, [&](const AttentionBlock& block) {
        CHECK(block.queries() <= shape.queries);
        CHECK(block.queries() > 0);
        for (index_t q = 0; q < block.queries(); ++q) {
          CHECK(s.layout.kv_head(block.head(q)) == block.kv_head);
          CHECK(block.visible(q) <= block.keys());
          seen.emplace(block.row(q), block.head(q));
          ++queries;
        }
      });
      std::size_t expected = 0;
      for (const auto& v : s.visible) expected += v.size() * static_cast<std::size_t>(s.layout.heads);
      CHECK(queries == expected);
      CHECK(seen.size() == expected);
    }
}

TEST_CASE("cuts never decrease, keep to the grain, and give every worker about the same work", "[attention]") {
  constexpr index_t grain = 16;
  constexpr index_t few = 8;
  for (const Shape& s : shapes())
    for (const index_t workers : {1, 2, 3, 5, 16}) {
      const RandomAttention given(s.layout, s.visible, 1);
      const AttentionProblem problem = given.problem();
      const BlockShape shape{64, 16};
      std::vector<AttentionBlock> blocks;
      for_each_block(problem, shape, [&](const AttentionBlock& b) { blocks.push_back(b); });
      for (const index_t key_grain : {index_t{0}, grain}) {
        std::vector<AttentionCut> cuts(static_cast<std::size_t>(workers + 1), AttentionCut{-1, -1});
        cut_evenly(problem, shape, few, key_grain, cuts);
        CHECK(cuts.front() == AttentionCut{0, 0});
        CHECK(cuts.back() == AttentionCut{static_cast<index_t>(blocks.size()), 0});
        const auto cost_before = [&](const AttentionCut& c) {
          double cost = 0;
          for (index_t b = 0; b < c.block; ++b)
            cost += static_cast<double>(attention_cost(blocks[static_cast<std::size_t>(b)], few));
          if (c.key == 0) return cost;
          const AttentionBlock& block = blocks[static_cast<std::size_t>(c.block)];
          return cost + static_cast<double>(attention_cost(block, few)) * static_cast<double>(c.key) /
                            static_cast<double>(block.keys());
        };
        double largest = 0;  // what cannot be divided
        for (const AttentionBlock& b : blocks) {
          const index_t pieces = key_grain == 0 ? 1 : ceil_div(std::max<index_t>(1, b.keys()), key_grain);
          largest = std::max(largest, static_cast<double>(attention_cost(b, few)) / static_cast<double>(pieces));
        }
        const double even = cost_before(cuts.back()) / static_cast<double>(workers);
        for (std::size_t w = 0; w + 1 < cuts.size(); ++w) {
          CAPTURE(s.layout.heads, workers, key_grain, w);
          CHECK((cuts[w].block < cuts[w + 1].block ||
                 (cuts[w].block == cuts[w + 1].block && cuts[w].key <= cuts[w + 1].key)));
          if (cuts[w].key != 0) {
            CHECK(key_grain != 0);
            CHECK(cuts[w].key % grain == 0);
            CHECK(cuts[w].key < blocks[static_cast<std::size_t>(cuts[w].block)].keys());
          }
          // Each end of a part is off by one grain, or by the sixteenth of a part that is not worth a cut.
          CHECK(cost_before(cuts[w + 1]) - cost_before(cuts[w]) <= even * 1.125 + 2 * largest + 1);
        }
      }
    }
}

TEST_CASE("one long context is shared by many workers", "[attention]") {
  const RandomAttention given({2, 8, 2, 0}, {{4000}}, 1);
  std::vector<AttentionCut> cuts(9);
  cut_evenly(given.problem(), {64, 16}, 8, 48, cuts);
  for (std::size_t w = 0; w < 8; ++w) {
    const index_t end = w == 7 ? 4000 : cuts[w + 1].key;
    CHECK(end - cuts[w].key >= 400);
    CHECK(end - cuts[w].key <= 600);
  }
}

TEMPLATE_TEST_CASE("the tile kernels equal plain loops for every count and head size", "[attention]", ScalarBackend,
                   XsimdBackend<>) {
  using B = TestType;
  constexpr index_t panel = detail::AttentionTile<B>::panel;
  std::mt19937 random(3);
  std::uniform_real_distribution<float> uniform(-1.0F, 1.0F);
  const auto filled = [&](index_t n) {
    std::vector<float> x(static_cast<std::size_t>(n));
    for (float& value : x) value = uniform(random);
    return x;
  };
  for (const index_t head_dim : {1, 7, 16, 33, 64, 100})
    for (const index_t count : {1, 3, 5, 11, 12, 13, 24, 48})
      for (index_t queries = 1; queries <= panel; queries += 1 + panel / 7) {
        CAPTURE(head_dim, count, queries);
        const auto q = filled(queries * head_dim);
        const auto k = filled(count * head_dim);
        std::vector<float> packed(static_cast<std::size_t>(panel * head_dim), poison);
        std::vector<float> scores(static_cast<std::size_t>(panel * count), poison);
        detail::pack_queries<B>([&](index_t i) { return q.data() + i * head_dim; }, queries, head_dim, 0.5F,
                                packed.data());
        detail::score_panel<B, 2>(k.data(), head_dim, count, packed.data(), head_dim, scores.data());
        double error = 0;
        for (index_t j = 0; j < count; ++j)
          for (index_t i = 0; i < panel; ++i) {
            double expected = 0;
            for (index_t d = 0; i < queries && d < head_dim; ++d)
              expected +=
                  0.5 * q[static_cast<std::size_t>(i * head_dim + d)] * k[static_cast<std::size_t>(j * head_dim + d)];
            error = std::max(error, std::abs(expected - scores[static_cast<std::size_t>(j * panel + i)]));
          }
        CHECK(error < 1e-5);

        auto v = filled(count * head_dim);
        auto out = filled(queries * head_dim);
        const auto before = out;
        std::vector<index_t> limits;
        std::vector<float> factors;
        for (index_t i = 0; i < queries; ++i) {
          limits.push_back(std::max<index_t>(0, count - (queries - i) / 2));
          factors.push_back(0.25F * static_cast<float>(i));
        }
        detail::weigh_panel<B>(scores.data(), limits.data(), factors.data(), queries, v.data(), head_dim, head_dim,
                               out.data());
        error = 0;
        for (index_t i = 0; i < queries; ++i)
          for (index_t d = 0; d < head_dim; ++d) {
            const auto at = static_cast<std::size_t>(i * head_dim + d);
            double expected = before[at] * factors[static_cast<std::size_t>(i)];
            for (index_t j = 0; j < limits[static_cast<std::size_t>(i)]; ++j)
              expected += static_cast<double>(scores[static_cast<std::size_t>(j * panel + i)]) *
                          v[static_cast<std::size_t>(j * head_dim + d)];
            error = std::max(error, std::abs(expected - out[at]));
          }
        CHECK(error < 1e-4);
      }
}
