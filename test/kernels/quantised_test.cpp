// Products in 8-bit integers: the sums of blocks are exact, on every backend, and a result has the same bits whatever
// the tokens beside it, the workers, and the rows and blocks of columns that a rank has.
#include <tessera/kernels/quantised_int8.hpp>
#include <tessera/parallel/team.hpp>

#include "catch.hpp"
#include "kernels/random_weights.hpp"
#include "simd/backends.hpp"

using namespace tessera;
using namespace tessera::test;

namespace {

/// Weights in blocks, behind which lies memory that nobody may read.
struct BlockWeight {
  template <BlockFormat F>
  BlockWeight(F, const std::vector<float>& values, index_t rows, index_t cols)
      : integers(BlockMatrix<F>{rows, cols}.integers()),
        scales(BlockMatrix<F>{rows, cols}.scales() * static_cast<index_t>(sizeof(f16_t))),
        view{integers.as<std::uint8_t>(), F::dtype, rows, cols, cols, scales.as<f16_t>(), Arithmetic::int8} {
    for (index_t r = 0; r < rows; ++r)
      encode_row<F>(values.data() + r * cols, cols, r, integers.as<std::uint8_t>(), scales.as<f16_t>());
  }

  FencedMemory integers, scales;
  WeightView view;
};

template <class B>
std::vector<float> integer_product(const float* x, index_t tokens, index_t x_stride, const WeightView& weight,
                                   int workers) {
  std::vector<float> out(static_cast<std::size_t>(tokens * weight.rows));
  Team team(workers);
  team.run([&](Worker& worker) {
    const auto product_at = [&](index_t) {
      return Product{{{weight, WeightView{}}, 1}, nullptr, {out.data(), tokens, weight.rows}};
    };
    multiply_int8<B>(worker, {x, tokens, weight.cols, x_stride}, product_at, 1, Shares{weight.rows});
  });
  return out;
}

/// x rounded as the kernels round it, in plain double arithmetic.
std::vector<double> rounded_to_bytes(const std::vector<float>& x) {
  std::vector<double> out;
  for (std::size_t b = 0; b < x.size(); b += weight_block) {
    float largest = 0;
    for (std::size_t i = 0; i < weight_block; ++i) largest = std::max(largest, std::abs(x[b + i]));
    for (std::size_t i = 0; i < weight_block; ++i)
      out.push_back(largest == 0 ? 0 : std::nearbyint(x[b + i] * (127.0F / largest)) * double{largest / 127.0F});
  }
  return out;
}

}  // namespace

TEMPLATE_LIST_TEST_CASE("products in 8-bit integers equal sums in double of rounded activations", "[gemm]",
                        BackendsOfEachWidth) {
  using B = TestType;
  std::mt19937 random(8);
  const auto hold = [&]<BlockFormat F>(F format) {
    for (const index_t cols : {32, 64, 96, 224, 544, 1056})
      for (const index_t rows : {1, 15, 33, 100}) {
        const BlockWeight weight(format, random_floats(rows * cols, random), rows, cols);
        const index_t most = 27;
        const std::vector<float> x = random_floats(most * cols, random);
        const std::vector<double> exact = rounded_to_bytes(x);
        std::vector<float> row(static_cast<std::size_t>(cols));
        const std::vector<float> all = integer_product<B>(x.data(), most, cols, weight.view, 1);
        double worst = 0;
        for (index_t r = 0; r < rows; ++r) {
          decode_row(weight.view, r, row.data());
          for (index_t t = 0; t < most; ++t) {
            double sum = 0, magnitude = 0;
            for (index_t k = 0; k < cols; ++k) {
              const double term = exact[static_cast<std::size_t>(t * cols + k)] * row[static_cast<std::size_t>(k)];
              sum += term, magnitude += std::abs(term);
            }
            // A minimum and its scale may cancel: twice the magnitude of what is left, and some.
            const double bound = 8 * unit_roundoff * (static_cast<double>(cols) / weight_block + 8) * (magnitude + 1);
            worst = std::max(worst, std::abs(all[static_cast<std::size_t>(t * rows + r)] - sum) / bound);
          }
        }
        INFO(F::name << ", " << rows << " x " << cols);
        CHECK(worst <= 1);
        // The same bits for fewer tokens, and from other workers.
        for (const index_t tokens : {1, 2, 5, 6, 7, 11}) {
          const std::vector<float> some = integer_product<B>(x.data(), tokens, cols, weight.view, 3);
          CHECK(std::equal(some.begin(), some.end(), all.begin()));
        }
        // And of a rank's rows.
        const Range part{rows / 3, rows};
        const std::vector<float> slice = integer_product<B>(x.data(), 7, cols, weight.view.row_range(part), 2);
        bool same = true;
        for (index_t t = 0; t < 7; ++t)
          for (index_t r = part.begin; r < part.end; ++r)
            same = same && slice[static_cast<std::size_t>(t * part.size() + r - part.begin)] ==
                               all[static_cast<std::size_t>(t * rows + r)];
        CHECK(same);
      }
  };
  hold(Int8Blocks{});
  hold(Int4Blocks{});
}

TEMPLATE_LIST_TEST_CASE("blocks of columns of weights give the products with those blocks", "[gemm]",
                        BackendsOfEachWidth) {
  std::mt19937 random(9);
  const auto hold = [&]<BlockFormat F>(F format) {
    const std::vector<float> values = random_floats(20 * 352, random);
    const std::vector<float> x = random_floats(6 * 352, random);
    const BlockWeight whole(format, values, 20, 352);
    for (const Range cols : {Range{0, 32}, Range{96, 352}, Range{160, 320}}) {
      std::vector<float> cut;
      for (index_t r = 0; r < 20; ++r)
        cut.insert(cut.end(), values.begin() + r * 352 + cols.begin, values.begin() + r * 352 + cols.end);
      const BlockWeight alone(format, cut, 20, cols.size());
      for (const index_t tokens : {1, 6})
        CHECK(integer_product<TestType>(x.data() + cols.begin, tokens, 352, whole.view.col_range(cols), 2) ==
              integer_product<TestType>(x.data() + cols.begin, tokens, 352, alone.view, 1));
    }
  };
  hold(Int8Blocks{});
  hold(Int4Blocks{});
}

TEMPLATE_LIST_TEST_CASE("gate and up of rows that begin within a group meet row by row", "[gemm]",
                        BackendsOfEachWidth) {
  using B = TestType;
  std::mt19937 random(11);
  constexpr index_t rows = 150, cols = 96;
  const BlockWeight gate(Int8Blocks{}, random_floats(rows * cols, random), rows, cols);
  const BlockWeight up(Int4Blocks{}, random_floats(rows * cols, random), rows, cols);
  const std::vector<float> x = random_floats(9 * cols, random);
  // A block of gate and up begins anywhere in a group, and not both at the same place.
  const Range of_gate{5, 130}, of_up{18, 143};
  for (const index_t tokens : {1, 9}) {
    const auto gates = integer_product<B>(x.data(), tokens, cols, gate.view.row_range(of_gate), 1);
    const auto ups = integer_product<B>(x.data(), tokens, cols, up.view.row_range(of_up), 1);
    std::vector<float> out(gates.size());
    Team team(3);
    team.run([&](Worker& worker) {
      const auto product_at = [&](index_t) {
        return Product{{{gate.view.row_range(of_gate), up.view.row_range(of_up)}, 2},
                       nullptr,
                       {out.data(), tokens, of_gate.size()}};
      };
      multiply_int8<B>(worker, {x.data(), tokens, cols}, product_at, 1, Shares{of_gate.size()});
    });
    double worst = 0;
    for (std::size_t i = 0; i < out.size(); ++i) {
      const double g = gates[i], expected = g / (1 + std::exp(-g)) * ups[i];
      worst = std::max(worst, std::abs(out[i] - expected) / (8 * unit_roundoff * (std::abs(g * ups[i]) + 1e-30)));
    }
    CHECK(worst <= 1);
  }
}

TEMPLATE_LIST_TEST_CASE("sums at the extremes of 8 bits do not saturate", "[gemm]", BackendsOfEachWidth) {
  constexpr index_t cols = 96;
  // Every weight and every activation at one end of its range or the other, in all combinations of neighbours.
  std::vector<float> values, x;
  for (index_t pattern = 0; pattern < 16; ++pattern)
    for (index_t k = 0; k < cols; ++k) values.push_back((pattern >> k % 4 & 1) != 0 ? 127.0F : -127.0F);
  x = values;
  const auto hold = [&]<BlockFormat F>(F format, double allowed) {
    const BlockWeight weight(format, values, 16, cols);
    for (const index_t tokens : {1, 16}) {
      const std::vector<float> out = integer_product<TestType>(x.data(), tokens, cols, weight.view, 1);
      double worst = 0;
      for (index_t t = 0; t < tokens; ++t)
        for (index_t r = 0; r < 16; ++r) {
          double exact = 0;
          for (index_t k = 0; k < cols; ++k)
            exact += double{values[static_cast<std::size_t>(t * cols + k)]} *
                     double{values[static_cast<std::size_t>(r * cols + k)]};
          worst = std::max(worst, std::abs(out[static_cast<std::size_t>(t * 16 + r)] - exact));
        }
      CHECK(worst <= allowed);
    }
  };
  hold(Int8Blocks{}, 0.0);
  hold(Int4Blocks{}, 1000.0);  // of 1.5 million: 254 / 15 is no f16
}

TEMPLATE_LIST_TEST_CASE("an activation that is not finite makes its products so, and no others", "[gemm]",
                        BackendsOfEachWidth) {
  std::mt19937 random(10);
  const BlockWeight weight(Int8Blocks{}, random_floats(20 * 64, random), 20, 64);
  for (const float bad : {NAN, INFINITY, -INFINITY})
    for (const index_t tokens : {2, 9}) {
      std::vector<float> x = random_floats(tokens * 64, random);
      const std::vector<float> good = integer_product<TestType>(x.data(), tokens, 64, weight.view, 1);
      x[static_cast<std::size_t>((tokens - 1) * 64 + 40)] = bad;
      const std::vector<float> out = integer_product<TestType>(x.data(), tokens, 64, weight.view, 1);
      for (std::size_t i = 0; i < out.size(); ++i)
        CHECK((i / 20 == static_cast<std::size_t>(tokens - 1) ? std::isnan(out[i]) : out[i] == good[i]));
    }
}
