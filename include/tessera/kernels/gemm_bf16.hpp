#pragma once
// Products with bf16 weights in bf16: the activations are rounded to it, the sums stay f32. Twice as many products an
// instruction as in f32, and the weights need no widening.

#include <tessera/kernels/gemm_f32.hpp>
#include <tessera/simd/bf16_pairs.hpp>

namespace tessera {

/// Whether B computes products with this weight in bf16: it was asked for, and its rows consist of whole pairs.
template <SimdBackend B>
[[nodiscard]] bool multiplies_in_bf16(const WeightView& weight) {
  return MultipliesBf16<B> && weight.arithmetic == Arithmetic::bf16 && weight.dtype == DType::bf16 &&
         weight.cols % 2 == 0 && weight.stride % 2 == 0;
}

/// A bf16 matrix as one of 32-bit lanes, half as many.
[[nodiscard]] inline WeightView as_pairs(WeightView weight) {
  weight.dtype = DType::f32;
  weight.cols /= 2;
  weight.stride /= 2;
  return weight;
}

/// Collective. x [T, K] rounded to bf16, as [T, K / 2] pairs in memory of the team.
template <MultipliesBf16 B>
[[nodiscard]] ConstActivations round_to_pairs(Worker& worker, ConstActivations x) {
  constexpr index_t W = B::width;
  const index_t pairs = x.cols / 2;
  const index_t vectors = ceil_div(pairs, W);
  const MatrixView<float> out{worker.shared_scratch<float>(x.rows * vectors * W, TeamMemory::converted), x.rows, pairs,
                              vectors * W};
  const Range mine = worker.share(x.rows * vectors);
  for (index_t i = mine.begin; i < mine.end; ++i) {
    const index_t t = i / vectors;
    const index_t v = i % vectors;
    const float* from = x.row(t) + 2 * v * W;
    const index_t n = x.cols - 2 * v * W;
    const auto low = B::load_partial(from, std::min(W, n));
    const auto high = n > W ? B::load_partial(from + W, std::min(W, n - W)) : B::zero();
    B::store(out.row(t) + v * W, B::pack_bf16(low, high));
  }
  worker.barrier();
  return out;
}

/// Collective. As multiply_floats(), for weights that multiplies_in_bf16().
template <MultipliesBf16 B, class ProductAt>
void multiply_bf16(Worker& worker, ConstActivations x, const ProductAt& product_at, index_t products, Shares shares) {
  const auto pairs_at = [&](index_t i) {
    Product product = product_at(i);
    for (std::size_t p = 0; p < static_cast<std::size_t>(product.weight.count); ++p) {
      product.weight.pieces[p] = as_pairs(product.weight.pieces[p]);
    }
    return product;
  };
  multiply_floats<Bf16Pairs<B>>(worker, round_to_pairs<B>(worker, x), pairs_at, products, shares);
}

}  // namespace tessera
