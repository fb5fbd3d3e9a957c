#include "catch.hpp"

#include <cstring>
#include <random>
#include <vector>

#include <tessera/core/weight_format.hpp>

using namespace tessera;

namespace {

std::vector<float> normal_weights(index_t n, std::uint32_t seed, float deviation = 0.02F) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, deviation);
  std::vector<float> weights(static_cast<std::size_t>(n));
  for (float& w : weights) w = normal(random);
  return weights;
}

/// A matrix in format F, and the view of it.
template <BlockFormat F>
struct Encoded {
  Encoded(const std::vector<float>& weights, index_t rows_, index_t cols_)
      : integers(static_cast<std::size_t>(BlockMatrix<F>{rows_, cols_}.integers())),
        scales(static_cast<std::size_t>(BlockMatrix<F>{rows_, cols_}.scales())),
        view{integers.data(), F::dtype, rows_, cols_, cols_, scales.data()} {
    for (index_t r = 0; r < rows_; ++r)
      encode_row<F>(weights.data() + r * cols_, cols_, r, integers.data(), scales.data());
  }
  std::vector<std::uint8_t> integers;
  std::vector<f16_t> scales;
  WeightView view;
};

std::vector<float> decoded(const WeightView& view) {
  std::vector<float> values(static_cast<std::size_t>(view.rows * view.cols));
  for (index_t r = 0; r < view.rows; ++r) decode_row(view, r, values.data() + r * view.cols);
  return values;
}

double rms(const std::vector<float>& a, const std::vector<float>& b) {
  double squares = 0;
  for (std::size_t i = 0; i < a.size(); ++i) squares += std::pow(static_cast<double>(a[i]) - b[i], 2);
  return std::sqrt(squares / static_cast<double>(a.size()));
}

using Formats = std::tuple<Int8Blocks, Int4Blocks>;

}  // namespace

TEMPLATE_LIST_TEST_CASE("a block's weights are off by half a step at most, or by less in sum", "", Formats) {
  using F = TestType;
  for (std::uint32_t seed = 0; seed < 200; ++seed) {
    const auto w = normal_weights(weight_block, seed, seed % 3 == 0 ? 1e-4F : seed % 3 == 1 ? 0.02F : 50.0F);
    const auto found = decoded(Encoded<F>(w, 1, weight_block).view);
    const auto [low, high] = std::minmax_element(w.begin(), w.end());
    // 11 bits of scale: the step itself is known to 2^-11, which the outermost of 127 steps feel 127 times.
    const float step = F::dtype == DType::int8_blocks ? std::max(-*low, *high) / 127 : (*high - *low) / 15;
    double worst = 0;
    double squares = 0;
    double allowed = 0;
    for (std::size_t i = 0; i < w.size(); ++i) {
      const double error = std::abs(static_cast<double>(found[i]) - w[i]);
      worst = std::max(worst, error);
      squares += error * error;
      allowed += step * step / 4;
    }
    CHECK((worst <= 0.57 * step || squares <= allowed));
  }
}

TEST_CASE("the error on normal weights is that of the table in docs/quantisation.md") {
  const auto w = normal_weights(64 * 1024, 7, 1.0F);
  CHECK(rms(w, decoded(Encoded<Int8Blocks>(w, 64, 1024).view)) == Approx(0.00536).epsilon(0.01));
  CHECK(rms(w, decoded(Encoded<Int4Blocks>(w, 64, 1024).view)) == Approx(0.0702).epsilon(0.01));
}

TEMPLATE_LIST_TEST_CASE("a slice of an encoded matrix is the encoding of the slice", "", Formats) {
  using F = TestType;
  constexpr index_t rows = 37, cols = 160;
  const auto w = normal_weights(rows * cols, 3);
  const Encoded<F> whole(w, rows, cols);
  const auto all = decoded(whole.view);
  for (const Range r : {Range{0, 37}, Range{2, 5}, Range{5, 33}, Range{16, 32}, Range{36, 37}, Range{5, 5}})
    for (const Range c : {Range{0, 160}, Range{32, 128}, Range{128, 160}}) {
      const auto part = decoded(whole.view.row_range(r).col_range(c));
      const auto other_order = decoded(whole.view.col_range(c).row_range(r));
      CHECK(part == other_order);
      for (index_t i = 0; i < r.size(); ++i)
        for (index_t j = 0; j < c.size(); ++j)
          REQUIRE(part[static_cast<std::size_t>(i * c.size() + j)] ==
                  all[static_cast<std::size_t>((r.begin + i) * cols + c.begin + j)]);
    }
  CHECK_THROWS_AS(whole.view.col_range({16, 64}), Error);
  CHECK_THROWS_AS(whole.view.col_range({0, 40}), Error);
}

TEMPLATE_LIST_TEST_CASE("zeros, equal weights, huge and tiny ones have sound blocks", "", Formats) {
  using F = TestType;
  const auto round_trip = [](float value) {
    const std::vector<float> w(weight_block, value);
    return decoded(Encoded<F>(w, 1, weight_block).view)[5];
  };
  CHECK(round_trip(0.0F) == 0.0F);
  CHECK(round_trip(0.37F) == Approx(0.37F).epsilon(0.001));
  CHECK(round_trip(-3.0F) == Approx(-3.0F).epsilon(0.001));
  CHECK(round_trip(1e-9F) == Approx(0.0F).margin(1e-7));
  CHECK(std::isfinite(round_trip(1e8F)));
  for (const float bad : {INFINITY, -INFINITY, NAN}) {
    auto w = normal_weights(weight_block, 1);
    w[17] = bad;
    CHECK_THROWS_AS(Encoded<F>(w, 1, weight_block), Error);
  }
}

TEMPLATE_LIST_TEST_CASE("encoding what was decoded gives it again", "", Formats) {
  using F = TestType;
  const auto w = normal_weights(32 * 64, 11);
  const auto once = decoded(Encoded<F>(w, 32, 64).view);
  const auto twice = decoded(Encoded<F>(once, 32, 64).view);
  for (std::size_t i = 0; i < once.size(); ++i) CHECK(twice[i] == Approx(once[i]).epsilon(0.002).margin(2e-4));
}

TEST_CASE("the bytes of a block are those of the documented layout") {
  std::vector<float> w(weight_block);
  for (std::size_t i = 0; i < w.size(); ++i) w[i] = 0.5F * static_cast<float>(static_cast<int>(i) - 16);
  w[31] = 8.0F - 0.5F / 16;  // within a sixteenth of 127 steps: the largest is -8
  const Encoded<Int8Blocks> eight(w, 1, weight_block);
  const auto place = [](std::size_t byte) { return byte / 4 * 4 * group_rows + byte % 4; };  // in row 0 of a group
  CHECK(static_cast<std::int8_t>(eight.integers[place(0)]) == -127);
  CHECK(static_cast<std::int8_t>(eight.integers[place(16)]) == 0);
  CHECK(to_float(eight.scales[0]) == Approx(8.0F / 127).epsilon(0.0005));

  for (std::size_t i = 0; i < w.size(); ++i) w[i] = -1.0F + 0.25F * static_cast<float>(i % 16);
  const Encoded<Int4Blocks> four(w, 1, weight_block);
  for (std::size_t j = 0; j < 16; ++j) CHECK(int{four.integers[place(j)]} == static_cast<int>(j | j << 4));
  CHECK(to_float(four.scales[0]) == 0.25F);
  CHECK(to_float(four.scales[group_rows]) == -1.0F);
}
