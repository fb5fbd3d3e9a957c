// Weights with outliers, as large models have them: single weights and whole columns that are hundreds of times as
// large as the others, and activations of which a few channels are. Every format and backend against sums in double.
#include <tessera/kernels/gemm.hpp>
#include <tessera/parallel/team.hpp>

#include "catch.hpp"
#include "kernels/random_weights.hpp"
#include "simd/backends.hpp"

using namespace tessera;
using namespace tessera::test;

namespace {

/// [rows, cols] of deviation 0.02, of which one in 150 is 300 times as large, and a column 100 times.
std::vector<float> weights_with_outliers(index_t rows, index_t cols, std::mt19937& random) {
  std::vector<float> w = random_floats(rows * cols, random);
  for (std::size_t i = 0; i < w.size(); ++i) {
    w[i] *= 0.02F;
    if (random() % 150 == 0) w[i] *= 300;
    if (static_cast<index_t>(i) % cols == cols / 3) w[i] *= 100;
  }
  return w;
}

/// [tokens, cols] of which two channels are 1000 and 300 times as large as the others, as those of residual streams.
std::vector<float> activations_with_outliers(index_t tokens, index_t cols, std::mt19937& random) {
  std::vector<float> x = random_floats(tokens * cols, random);
  for (index_t t = 0; t < tokens; ++t)
    x[static_cast<std::size_t>(t * cols + cols / 2)] *= 1000, x[static_cast<std::size_t>(t * cols + cols - 1)] *= 300;
  return x;
}

/// A matrix as some format keeps it, and the values that it then has.
class KeptWeight {
 public:
  KeptWeight(DType dtype, Arithmetic arithmetic, const std::vector<float>& w, index_t rows, index_t cols)
      : integers_(is_blocks(dtype) ? integers_of(dtype, rows, cols) : rows * cols * bytes_of(dtype)),
        scales_(is_blocks(dtype) ? scales_of(dtype, rows, cols) * static_cast<index_t>(sizeof(f16_t)) : 1),
        values_(w.size()) {
    view = {
        integers_.as<char>(), dtype, rows, cols, cols, is_blocks(dtype) ? scales_.as<f16_t>() : nullptr, arithmetic};
    for (index_t r = 0; r < rows; ++r) {
      const float* row = w.data() + r * cols;
      if (dtype == DType::int8_blocks)
        encode_row<Int8Blocks>(row, cols, r, integers_.as<std::uint8_t>(), scales_.as<f16_t>());
      else if (dtype == DType::int4_blocks)
        encode_row<Int4Blocks>(row, cols, r, integers_.as<std::uint8_t>(), scales_.as<f16_t>());
      else
        for (index_t c = 0; c < cols; ++c) store(dtype, r * cols + c, row[c]);
      decode_row(view, r, values_.data() + r * cols);
    }
  }

  [[nodiscard]] double value(index_t row, index_t col) const {
    return double{values_[static_cast<std::size_t>(row * view.cols + col)]};
  }

  WeightView view;

 private:
  static index_t integers_of(DType dtype, index_t rows, index_t cols) {
    return dtype == DType::int8_blocks ? BlockMatrix<Int8Blocks>{rows, cols}.integers()
                                       : BlockMatrix<Int4Blocks>{rows, cols}.integers();
  }
  static index_t scales_of(DType dtype, index_t rows, index_t cols) {
    return dtype == DType::int8_blocks ? BlockMatrix<Int8Blocks>{rows, cols}.scales()
                                       : BlockMatrix<Int4Blocks>{rows, cols}.scales();
  }
  void store(DType dtype, index_t at, float value) {
    if (dtype == DType::bf16) integers_.as<bf16_t>()[at] = to_bf16(value);
    if (dtype == DType::f16) integers_.as<f16_t>()[at] = to_f16(value);
    if (dtype == DType::f32) integers_.as<float>()[at] = value;
  }

  FencedMemory integers_, scales_;
  std::vector<float> values_;
};

Reference exact(const float* x, const KeptWeight& weight, index_t row) {
  Reference sum;
  for (index_t k = 0; k < weight.view.cols; ++k) {
    const double term = double{x[k]} * weight.value(row, k);
    sum.value += term, sum.magnitude += std::abs(term);
  }
  return sum;
}

/// Half a step of each block of activations, times the magnitudes of the weights that it meets.
double cost_of_bytes(const float* x, const KeptWeight& weight, index_t row) {
  double cost = 0;
  for (index_t b = 0; b < weight.view.cols; b += weight_block) {
    double largest = 0, magnitude = 0;
    for (index_t k = b; k < b + weight_block; ++k) {
      largest = std::max(largest, std::abs(double{x[k]}));
      magnitude += std::abs(weight.value(row, k));
    }
    cost += largest / 254 * magnitude;
  }
  return cost;
}

}  // namespace

TEMPLATE_LIST_TEST_CASE("products of weights with outliers equal sums in double precision in every format",
                        "[gemm][outliers]", BackendsOfEachWidth) {
  using B = TestType;
  std::mt19937 random(21);
  struct Kept {
    const char* name;
    DType dtype;
    Arithmetic arithmetic;
  };
  for (const Kept& kept : {Kept{"bf16", DType::bf16, Arithmetic::f32},
                           {"f16", DType::f16, Arithmetic::f32},
                           {"f32", DType::f32, Arithmetic::f32},
                           {"int8", DType::int8_blocks, Arithmetic::f32},
                           {"int4", DType::int4_blocks, Arithmetic::f32},
                           {"int8 in integers", DType::int8_blocks, Arithmetic::int8},
                           {"int4 in integers", DType::int4_blocks, Arithmetic::int8}})
    for (const index_t tokens : {1, 3, 8, 17})
      for (const index_t cols : {32, 96, 544})
        for (const index_t rows : {5, 33}) {
          INFO(B::name() << ", " << kept.name << ", " << tokens << " tokens, " << rows << " x " << cols);
          const KeptWeight weight(kept.dtype, kept.arithmetic, weights_with_outliers(rows, cols, random), rows, cols);
          const std::vector<float> x = activations_with_outliers(tokens, cols, random);
          std::vector<float> out(static_cast<std::size_t>(tokens * rows));
          Team(2).run([&](Worker& worker) {
            const Projection p{weight.view, nullptr, {out.data(), tokens, rows}};
            project<B>(worker, {x.data(), tokens, cols}, {&p, 1});
          });
          double worst = 0;
          for (index_t t = 0; t < tokens; ++t)
            for (index_t r = 0; r < rows; ++r) {
              const Reference expected = exact(x.data() + t * cols, weight, r);
              // A minimum and its scale are added up apart, and may cancel.
              double allowed = static_cast<double>(cols + 16) * unit_roundoff * 3 * expected.magnitude;
              if (kept.arithmetic == Arithmetic::int8) allowed += 1.001 * cost_of_bytes(x.data() + t * cols, weight, r);
              const double found = out[static_cast<std::size_t>(t * rows + r)];
              const double error = std::abs(found - expected.value) / allowed;
              worst = std::isnan(error) ? INFINITY : std::max(worst, error);
            }
          CHECK(worst <= 1);
        }
}

TEST_CASE("an outlier costs the weights of its own block precision, and no others", "[outliers]") {
  std::mt19937 random(22);
  const auto hold = [&]<BlockFormat F>(F) {
    constexpr index_t rows = 20, cols = 160;
    for (int n = 0; n < 50; ++n) {
      std::vector<float> w = random_floats(rows * cols, random);
      const KeptWeight plain(F::dtype, Arithmetic::f32, w, rows, cols);
      const auto at = static_cast<index_t>(random() % (rows * cols));
      w[static_cast<std::size_t>(at)] = random() % 2 == 0 ? 500.0F : -500.0F;
      const KeptWeight kept(F::dtype, Arithmetic::f32, w, rows, cols);
      const index_t row = at / cols, block = at % cols / weight_block;
      double squares = 0;
      index_t others = 0;
      for (index_t r = 0; r < rows; ++r)
        for (index_t c = 0; c < cols; ++c) {
          if (r == row && c / weight_block == block)
            squares += std::pow(kept.value(r, c) - double{w[static_cast<std::size_t>(r * cols + c)]}, 2);
          else
            others += kept.value(r, c) != plain.value(r, c);
        }
      CHECK(others == 0);
      // Half a step in the mean of squares: of 127 steps up to the outlier, or of 15 from one end to the other.
      const double step = F::dtype == DType::int8_blocks ? 500.0 / 127 : 504.0 / 15;
      CHECK(std::sqrt(squares / weight_block) <= step / 2);
      CHECK(std::abs(kept.value(row, at % cols)) == Approx(500).epsilon(0.01));
    }
  };
  hold(Int8Blocks{});
  hold(Int4Blocks{});
}
