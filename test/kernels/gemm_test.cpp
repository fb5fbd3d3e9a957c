// Products with weights against sums in double precision: every backend, element type and edge of the tiles.
#include <cmath>
#include <cstring>
#include <random>
#include <utility>

#include <tessera/core/buffer.hpp>
#include <tessera/kernels/gemm.hpp>

#include "catch.hpp"
#include "kernels/random_weights.hpp"
#include "simd/backends.hpp"

using namespace tessera;
using namespace tessera::test;

namespace {

struct Case {
  index_t tokens, depth;
  std::vector<index_t> rows;  ///< of each projection; of gate and up
  DType dtype;
};

std::vector<Case> cases() {
  std::vector<Case> all;
  const DType types[] = {DType::bf16, DType::f16, DType::f32};
  std::size_t n = 0;
  for (const index_t tokens : {1, 2, 3, 5, 8, 9, 13, 16, 17, 31, 32, 33, 70, 300})
    for (const index_t depth : {1, 15, 16, 40, 257, 600})
      for (const auto& rows : {std::vector<index_t>{1}, {13, 2, 29}, {33}, {250}}) {
        if (tokens * depth * rows[0] > 2'000'000) continue;
        all.push_back({tokens, depth, rows, types[n++ % 3]});
      }
  return all;
}

/// The results of every number of workers are equal bit by bit; the first is returned.
template <class F>
std::vector<float> same_for_all_teams(index_t floats, F&& run) {
  std::vector<float> first;
  for (const int workers : {1, 2, 3}) {
    FencedMemory memory(floats * 4);
    auto* out = memory.as<float>();
    std::fill_n(out, floats, 777.0F);
    Team team(workers);
    team.run([&](Worker& worker) { run(worker, out); });
    if (first.empty()) first.assign(out, out + floats);
    CHECK(std::memcmp(first.data(), out, first.size() * sizeof(float)) == 0);
  }
  return first;
}

}  // namespace

TEMPLATE_LIST_TEST_CASE("several projections of one input equal sums in double precision", "[gemm]",
                        BackendsOfEachWidth) {
  using B = TestType;
  std::mt19937 random(1);
  for (const Case& c : cases()) {
    INFO(B::name() << ", " << c.tokens << " tokens, depth " << c.depth << ", " << c.rows[0] << " rows, "
                   << name_of(c.dtype));
    const index_t x_stride = c.depth + 3;
    const std::vector<float> x = random_floats(c.tokens * x_stride, random);
    std::vector<std::unique_ptr<RandomWeight>> weights;
    std::vector<std::vector<float>> biases;
    index_t columns = 0;
    for (const index_t rows : c.rows) {
      weights.push_back(std::make_unique<RandomWeight>(rows, c.depth, weights.size() == 1 ? 0 : 5, c.dtype, random));
      biases.push_back(random_floats(rows, random));
      columns += rows + 1;  // a column that nobody may touch
    }
    const auto out = same_for_all_teams(c.tokens * columns, [&](Worker& worker, float* to) {
      std::vector<Projection> projections;
      index_t column = 0;
      for (std::size_t i = 0; i < weights.size(); ++i) {
        projections.push_back({weights[i]->view, i == 0 ? nullptr : biases[i].data(),
                               Activations(to + column, c.tokens, c.rows[i], columns)});
        column += c.rows[i] + 1;
      }
      project<B>(worker, {x.data(), c.tokens, c.depth, x_stride}, projections);
    });
    double worst = 0;
    index_t untouched = 0;
    for (index_t t = 0; t < c.tokens; ++t) {
      const float* found = out.data() + t * columns;
      for (std::size_t i = 0; i < weights.size(); ++i) {
        for (index_t r = 0; r < c.rows[i]; ++r, ++found) {
          Reference expected = dot(x.data() + t * x_stride, *weights[i], r);
          const double bias = i == 0 ? 0 : double{biases[i][static_cast<std::size_t>(r)]};
          const double allowed =
              static_cast<double>(c.depth + 2) * unit_roundoff * (expected.magnitude + std::abs(bias));
          worst = std::max(worst, std::abs(double{*found} - expected.value - bias) / allowed);
        }
        untouched += *found++ == 777.0F;
      }
    }
    CHECK(worst <= 1);
    CHECK(untouched == c.tokens * static_cast<index_t>(weights.size()));
  }
}

TEMPLATE_LIST_TEST_CASE("a gated product equals silu(gate) * up in double precision", "[gemm]", BackendsOfEachWidth) {
  using B = TestType;
  std::mt19937 random(2);
  for (const Case& c : cases()) {
    const index_t rows = c.rows[0];
    INFO(B::name() << ", " << c.tokens << " tokens, depth " << c.depth << ", " << rows << " rows");
    const std::vector<float> x = random_floats(c.tokens * c.depth, random);
    const RandomWeight gate(rows, c.depth, 0, c.dtype, random);
    const RandomWeight up(rows, c.depth, 7, c.dtype, random);
    const auto out = same_for_all_teams(c.tokens * rows, [&](Worker& worker, float* to) {
      project_gated<B>(worker, {x.data(), c.tokens, c.depth}, gate.view, up.view, {to, c.tokens, rows});
    });
    double worst = 0;
    for (index_t t = 0; t < c.tokens; ++t) {
      for (index_t r = 0; r < rows; ++r) {
        const Reference g = dot(x.data() + t * c.depth, gate, r);
        const Reference u = dot(x.data() + t * c.depth, up, r);
        const double sigmoid = 1 / (1 + std::exp(-g.value));
        const double roundings = static_cast<double>(c.depth + 8) * unit_roundoff;
        // The slope of silu is at most 1.1.
        const double allowed =
            roundings * (1.1 * g.magnitude * (std::abs(u.value) + 1e-30) + std::abs(g.value * sigmoid) * u.magnitude) +
            1e-37;
        const double expected = g.value * sigmoid * u.value;
        worst = std::max(worst, std::abs(double{out[static_cast<std::size_t>(t * rows + r)]} - expected) / allowed);
      }
    }
    CHECK(worst <= 1);
  }
}

TEST_CASE("a product refuses shapes that do not fit, by name", "[gemm]") {
  std::vector<float> x(6), out(8), weight(12);
  Team team(1);
  const WeightView view{weight.data(), DType::f32, 4, 3, 3};
  const auto run = [&](index_t out_cols) {
    team.run([&](Worker& worker) {
      const Projection p{view, nullptr, {out.data(), 2, out_cols}};
      project<ScalarBackend>(worker, {x.data(), 2, 3}, {&p, 1});
    });
  };
  CHECK_NOTHROW(run(4));
  CHECK_THROWS_WITH(run(3), Catch::Contains("project: weight: expected [3, 3], found [4, 3]"));
}

TEMPLATE_LIST_TEST_CASE("a number that is none reaches its own token and its own output, and no other", "[gemm]",
                        BackendsOfEachWidth) {
  using B = TestType;
  std::mt19937 random(3);
  for (const index_t tokens : {1, 4, 17, 70})
    for (const index_t depth : {7, 64, 129}) {
      const index_t rows = 21;
      std::vector<float> x = random_floats(tokens * depth, random);
      RandomWeight weight(rows, depth, 2, DType::f32, random);
      const auto product = [&] {
        std::vector<float> out(static_cast<std::size_t>(tokens * rows));
        Team(2).run([&](Worker& worker) {
          const Projection p{weight.view, nullptr, {out.data(), tokens, rows}};
          project<B>(worker, {x.data(), tokens, depth}, {&p, 1});
        });
        return out;
      };
      const auto sound = product();
      const auto token = static_cast<index_t>(random() % static_cast<unsigned>(tokens));
      const auto output = static_cast<index_t>(random() % static_cast<unsigned>(rows));
      const auto at = static_cast<index_t>(random() % static_cast<unsigned>(depth));
      const float odd = random() % 2 == 0 ? NAN : INFINITY;
      INFO(B::name() << ", " << tokens << " tokens, depth " << depth << ", " << odd);
      const auto differs = [&](index_t only_token, index_t only_output) {
        const auto found = product();
        index_t wrong = 0;
        for (index_t t = 0; t < tokens; ++t)
          for (index_t r = 0; r < rows; ++r) {
            const auto i = static_cast<std::size_t>(t * rows + r);
            const bool reached = t == only_token || r == only_output;
            wrong += reached ? std::isfinite(found[i]) : std::memcmp(&found[i], &sound[i], sizeof(float)) != 0;
          }
        return wrong;
      };
      float& of_token = x[static_cast<std::size_t>(token * depth + at)];
      float& of_output = weight.memory.as<float>()[output * weight.view.stride + at];
      const float before = std::exchange(of_token, odd);
      CHECK(differs(token, -1) == 0);
      of_token = before;
      of_output = odd;
      CHECK(differs(-1, output) == 0);
    }
}

TEMPLATE_LIST_TEST_CASE("products of denormals and of numbers far apart stay within their bound", "[gemm]",
                        BackendsOfEachWidth) {
  using B = TestType;
  std::mt19937 random(4);
  for (int i = 0; i < 40; ++i) {
    const auto tokens = static_cast<index_t>(1 + random() % 40), depth = static_cast<index_t>(1 + random() % 150);
    std::vector<float> x = random_floats(tokens * depth, random);
    for (float& v : x) v *= std::pow(10.0F, static_cast<float>(static_cast<int>(random() % 75) - 44));  // 1e-44 to 1e30
    const RandomWeight weight(9, depth, 1, DType::f32, random);
    std::vector<float> out(static_cast<std::size_t>(tokens * 9));
    Team(static_cast<int>(1 + random() % 3)).run([&](Worker& worker) {
      const Projection p{weight.view, nullptr, {out.data(), tokens, 9}};
      project<B>(worker, {x.data(), tokens, depth}, {&p, 1});
    });
    double worst = 0;
    for (index_t t = 0; t < tokens; ++t)
      for (index_t r = 0; r < 9; ++r) {
        const Reference expected = dot(x.data() + t * depth, weight, r);
        // Half a unit of the least denormal for each operation, where a product is that small.
        const double allowed = static_cast<double>(depth + 2) * (unit_roundoff * expected.magnitude + 0x1p-149);
        worst = std::max(worst, std::abs(double{out[static_cast<std::size_t>(t * 9 + r)]} - expected.value) / allowed);
      }
    CHECK(worst <= 1);
  }
}
