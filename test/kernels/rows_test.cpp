// Norms, rotations and sums of rows against double, over random shapes, strides and numbers of every kind.
#include <cmath>
#include <random>

#include <tessera/kernels/rope.hpp>
#include <tessera/kernels/rows.hpp>

#include "catch.hpp"
#include "kernels/random_weights.hpp"
#include "simd/backends.hpp"

using namespace tessera;
using namespace tessera::test;

namespace {

/// Rows of random numbers that end where nobody may read.
struct RandomRows {
  RandomRows(index_t rows, index_t cols, std::mt19937& random, float magnitude = 1)
      : memory((rows * cols) * 4), view(memory.as<float>(), rows, cols) {
    std::normal_distribution<float> normal;
    for (index_t i = 0; i < rows * cols; ++i) view.data[i] = magnitude * normal(random);
    copy.assign(view.data, view.data + rows * cols);
  }
  [[nodiscard]] double before(index_t r, index_t c) const { return copy[static_cast<std::size_t>(r * view.cols + c)]; }

  FencedMemory memory;
  Activations view;
  std::vector<float> copy;  ///< as it was made
};

index_t between(std::mt19937& random, index_t least, index_t most) {
  return std::uniform_int_distribution<index_t>(least, most)(random);
}

/// |found - expected| over what is allowed; a number that is none counts as far off, unless it is expected.
double excess(float found, double expected, double allowed) {
  if (std::isnan(expected) || std::isnan(found)) return std::isnan(expected) == std::isnan(found) ? 0 : INFINITY;
  if (std::isinf(expected)) return found == expected ? 0 : INFINITY;
  return std::abs(found - expected) / allowed;
}

/// The largest excess of rows normalised by the kernel.
template <class B>
double norm_excess(RandomRows& x, float eps, std::mt19937& random, int workers) {
  const index_t rows = x.view.rows, cols = x.view.cols;
  const RandomRows weight(1, cols, random);
  RandomRows out(rows, cols, random);
  Team(workers).run([&](Worker& w) {
    rms_norm<B>(w, x.view, {weight.view.data, static_cast<std::size_t>(cols)}, eps, out.view);
  });
  double worst = 0;
  for (index_t r = 0; r < rows; ++r) {
    double squares = 0;
    for (index_t c = 0; c < cols; ++c) squares += x.before(r, c) * x.before(r, c);
    const double scale = 1 / std::sqrt(squares / static_cast<double>(cols) + eps);
    for (index_t c = 0; c < cols; ++c) {
      const double expected = x.before(r, c) * scale * weight.before(0, c);
      const double allowed = (static_cast<double>(cols) + 6) * unit_roundoff * std::abs(expected) + 1e-44;
      worst = std::max(worst, excess(out.view.row(r)[c], expected, allowed));
    }
  }
  return worst;
}

}  // namespace

TEMPLATE_LIST_TEST_CASE("norms of rows equal double, for large, small and denormal numbers", "[rows]",
                        BackendsOfEachWidth) {
  std::mt19937 random(31);
  for (int i = 0; i < 60; ++i) {
    const float magnitude = std::pow(10.0F, static_cast<float>(between(random, -6, 6)));
    RandomRows x(between(random, 1, 5), between(random, 1, 200), random, i % 10 == 9 ? 1e-40F : magnitude);
    const float eps = i % 2 == 0 ? 1e-6F : 1e-5F;
    CHECK(norm_excess<TestType>(x, eps, random, static_cast<int>(between(random, 1, 3))) <= 1);
  }
  RandomRows zeros(2, 37, random, 0);
  CHECK(norm_excess<TestType>(zeros, 1e-6F, random, 1) <= 1);
}

TEMPLATE_LIST_TEST_CASE("a number that is none spreads over its own row in a norm, and over no other", "[rows]",
                        BackendsOfEachWidth) {
  std::mt19937 random(32);
  for (const float odd : {NAN, INFINITY, -INFINITY}) {
    RandomRows x(3, 41, random);
    x.view.row(1)[17] = odd;
    x.copy[41 + 17] = odd;
    RandomRows out(3, 41, random);
    const RandomRows weight(1, 41, random);
    Team(2).run([&](Worker& w) { rms_norm<TestType>(w, x.view, {weight.view.data, 41}, 1e-6F, out.view); });
    CHECK(std::isnan(out.view.row(1)[17]));
    for (index_t c = 0; c < 41; ++c) {
      CHECK(std::isfinite(out.view.row(0)[c]));
      CHECK(std::isfinite(out.view.row(2)[c]));
      // 1 / sqrt(inf) is 0: what is finite becomes 0 beside an infinity.
      if (c != 17) CHECK((std::isnan(odd) ? std::isnan(out.view.row(1)[c]) : out.view.row(1)[c] == 0));
    }
  }
}

TEMPLATE_LIST_TEST_CASE("heads are normalised and turned by their row's position as in double", "[rows]",
                        BackendsOfEachWidth) {
  std::mt19937 random(33);
  for (int i = 0; i < 40; ++i) {
    const index_t half = between(random, 1, 70), heads = between(random, 1, 5), rows = between(random, 1, 6);
    RopeConfig rope;
    rope.theta = i % 2 == 0 ? 10000.0 : 1e6;
    const RopeTable table(rope, 300, 2 * half);
    RandomRows x(rows, heads * 2 * half, random);
    const RandomRows weight(1, 2 * half, random);
    std::vector<index_t> positions;
    for (index_t r = 0; r < rows; ++r) positions.push_back(between(random, 0, 299));
    const bool normed = i % 3 != 0;
    const std::span<const float> norm(weight.view.data, normed ? static_cast<std::size_t>(2 * half) : 0);
    const index_t first = between(random, 0, heads) * 2 * half;  // of two parts, which may be empty
    Team(static_cast<int>(between(random, 1, 3))).run([&](Worker& w) {
      norm_and_rotate<TestType>(
          w, std::array{Heads{x.view.col_range({0, first}), norm}, Heads{x.view.col_range({first, x.view.cols}), norm}},
          1e-6F, positions, table);
    });
    double worst = 0;
    for (index_t r = 0; r < rows; ++r)
      for (index_t h = 0; h < heads; ++h) {
        const auto at = [&](index_t d) { return x.before(r, h * 2 * half + d); };
        double squares = 0;
        for (index_t d = 0; d < 2 * half; ++d) squares += at(d) * at(d);
        const double scale = 1 / std::sqrt(squares / static_cast<double>(2 * half) + 1e-6);
        const auto normal = [&](index_t d) { return normed ? at(d) * scale * weight.before(0, d) : at(d); };
        for (index_t d = 0; d < half; ++d) {
          // Element d and d + half are one pair, turned by position * theta^(-2d / head_dim).
          const double angle = static_cast<double>(positions[static_cast<std::size_t>(r)]) *
                               std::pow(rope.theta, -static_cast<double>(d) / static_cast<double>(half));
          const double a = normal(d), b = normal(d + half), c = std::cos(angle), s = std::sin(angle);
          const double allowed =
              (2 * static_cast<double>(half) + 12) * unit_roundoff * (std::abs(a) + std::abs(b)) + 1e-44;
          const float* head = x.view.row(r) + h * 2 * half;
          worst = std::max(
              {worst, excess(head[d], a * c - b * s, allowed), excess(head[d + half], b * c + a * s, allowed)});
        }
      }
    INFO(TestType::name() << ", half a head " << half);
    CHECK(worst <= 1);
  }
}

TEMPLATE_LIST_TEST_CASE("rows are added, and rows of tables widened, to the last bit", "[rows]", BackendsOfEachWidth) {
  std::mt19937 random(34);
  for (int i = 0; i < 40; ++i) {
    const index_t rows = between(random, 1, 6), cols = between(random, 1, 150);
    RandomRows x(rows, cols, random), y(rows, cols, random, i % 4 == 0 ? 1e-42F : 1.0F);
    y.view.row(0)[0] = i % 4 == 1 ? NAN : i % 4 == 2 ? INFINITY : 1.0F;
    Team(2).run([&](Worker& w) { add_rows<TestType>(w, x.view, y.view); });
    index_t wrong = 0;
    for (index_t r = 0; r < rows; ++r)
      for (index_t c = 0; c < cols; ++c) {
        const float expected = static_cast<float>(x.before(r, c)) + y.view.row(r)[c];
        wrong += excess(x.view.row(r)[c], expected, 1e-50) > 0;
      }
    for (const DType dtype : {DType::f32, DType::bf16, DType::f16}) {
      const RandomWeight table(rows, cols, 3, dtype, random);
      const RandomRows row(1, cols, random);
      widen_row<TestType>(table.view, rows - 1, row.view.data);
      for (index_t c = 0; c < cols; ++c)
        wrong += row.view.data[c] != table.values[static_cast<std::size_t>((rows - 1) * cols + c)];
    }
    CHECK(wrong == 0);
  }
}
