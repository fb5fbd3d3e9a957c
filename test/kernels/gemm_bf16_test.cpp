// Products in bf16, on processors that have them: exact but for the rounding of the activations, and of sums in f32.
#include <tessera/kernels/gemm.hpp>

#include "catch.hpp"
#include "kernels/random_weights.hpp"

using namespace tessera;
using namespace tessera::test;

namespace {

template <class B>
std::vector<float> product_in(Arithmetic arithmetic, const std::vector<float>& x, index_t tokens,
                              const RandomWeight& weight, int workers) {
  WeightView view = weight.view;
  view.arithmetic = arithmetic;
  std::vector<float> out(static_cast<std::size_t>(tokens * view.rows));
  Team team(workers);
  team.run([&](Worker& worker) {
    const Projection p{view, nullptr, {out.data(), tokens, view.rows}};
    project<B>(worker, {x.data(), tokens, view.cols}, {&p, 1});
  });
  return out;
}

}  // namespace

TEST_CASE("a backend without products of bf16 computes in f32", "[gemm]") {
  std::mt19937 random(3);
  const RandomWeight weight(20, 34, 2, DType::bf16, random);
  const std::vector<float> x = random_floats(3 * 34, random);
  static_assert(!MultipliesBf16<ScalarBackend>);
  CHECK(product_in<ScalarBackend>(Arithmetic::bf16, x, 3, weight, 2) ==
        product_in<ScalarBackend>(Arithmetic::f32, x, 3, weight, 2));
}

#if defined(__AVX512BF16__)
TEST_CASE("products in bf16 equal sums in double precision of rounded activations", "[gemm]") {
  using B = XsimdBackend<>;
  static_assert(MultipliesBf16<B>);
  std::mt19937 random(4);
  for (const index_t tokens : {1, 2, 7, 24, 25, 33, 70})
    for (const index_t depth : {2, 30, 32, 34, 66, 258, 1026})
      for (const index_t rows : {1, 13, 40}) {
        INFO(tokens << " tokens, depth " << depth << ", " << rows << " rows");
        const RandomWeight weight(rows, depth, 4, DType::bf16, random);
        const std::vector<float> x = random_floats(tokens * depth, random);
        std::vector<float> rounded;
        for (const float v : x) rounded.push_back(to_float(to_bf16(v)));
        const std::vector<float> out = product_in<B>(Arithmetic::bf16, x, tokens, weight, 1);
        CHECK(product_in<B>(Arithmetic::bf16, x, tokens, weight, 3) == out);
        double worst = 0, worst_of_f32 = 0;
        for (index_t t = 0; t < tokens; ++t)
          for (index_t r = 0; r < rows; ++r) {
            const double found = out[static_cast<std::size_t>(t * rows + r)];
            const Reference exact = dot(rounded.data() + t * depth, weight, r);
            const Reference of_f32 = dot(x.data() + t * depth, weight, r);
            // Subnormal products count as zero.
            const double roundings = static_cast<double>(depth + 2) * unit_roundoff * exact.magnitude + 1e-35;
            worst = std::max(worst, std::abs(found - exact.value) / roundings);
            worst_of_f32 = std::max(worst_of_f32, std::abs(found - of_f32.value) / (0x1p-8 * of_f32.magnitude + 1e-35));
          }
        CHECK(worst <= 1);
        CHECK(worst_of_f32 <= 1);
      }
}

TEST_CASE("odd rows, and weights that are not bf16, are multiplied in f32", "[gemm]") {
  using B = XsimdBackend<>;
  std::mt19937 random(5);
  const std::vector<float> x = random_floats(3 * 34, random);
  for (const auto& [cols, gap, dtype] :
       {std::tuple(33, 1, DType::bf16), std::tuple(34, 1, DType::bf16), std::tuple(34, 0, DType::f16)}) {
    const RandomWeight weight(20, cols, gap, dtype, random);
    CHECK(product_in<B>(Arithmetic::bf16, x, 3, weight, 1) == product_in<B>(Arithmetic::f32, x, 3, weight, 1));
  }
}
#endif
