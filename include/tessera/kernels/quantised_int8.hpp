#pragma once
// Products with weights in blocks, computed in 8-bit integers: activations are rounded to 8 bits block by block.

#include <tessera/kernels/gemm_dot.hpp>
#include <tessera/kernels/gemm_product.hpp>
#include <tessera/kernels/quantised_panels.hpp>
#include <tessera/kernels/quantised_store.hpp>

namespace tessera {

/// Tokens up to which rows are multiplied as they lie in memory. Both kernels give the same bits. Measured with
/// AVX512-VNNI: rows take as long for each further token, a panel pays from about six on.
template <SimdBackend B>
inline constexpr index_t quantised_row_tokens = 5;

/// The products of rounded activations x with the rows `mine` of all products, in the worker's scratch.
template <SimdBackend B, class ProductAt>
void multiply_rounded(Worker& worker, const QuantisedActivations& x, const ProductAt& product_at, index_t products,
                      Range mine) {
  constexpr index_t chunk = 64;         // rows of a block, and more than those of a panel
  constexpr index_t pass_tokens = 512;  // whose sums wait for the epilogue in L2
  static_assert(chunk % QuantisedShape<B>::rows == 0);
  // The panel first: it is aligned to lines.
  constexpr auto panel_floats = static_cast<index_t>(sizeof(QuantisedPanel<B>) / sizeof(float));
  float* memory = worker.scratch<float>(panel_floats + 2 * chunk * std::min(x.rows, pass_tokens));
  auto& panel = *reinterpret_cast<QuantisedPanel<B>*>(memory);
  float* sums = memory + panel_floats;
  for (index_t first = 0; first < x.rows; first += pass_tokens) {
    const Range tokens{first, std::min(x.rows, first + pass_tokens)};
    const QuantisedActivations part = x.row_range(tokens);
    BlockSequence blocks(product_at, products, mine, chunk);
    for (Product block = blocks.next(); block.rows() > 0; block = blocks.next()) {
      const auto sums_of = [&](index_t piece) { return sums + piece * chunk * tokens.size(); };
      for (index_t i = 0; i < block.weight.count; ++i) {
        const WeightView& weight = block.weight.pieces[static_cast<std::size_t>(i)];
        with_block_format(weight.dtype, [&]<class F>(F) {
          if (x.rows <= quantised_row_tokens<B>) {
            dot_quantised_rows<B, F>(part, weight, sums_of(i), chunk);
          } else {
            multiply_quantised_panels<B, F>(part, weight, panel, sums_of(i), chunk);
          }
        });
      }
      store_sums<B>(block, tokens, sums_of(0), sums_of(1), chunk);
    }
  }
}

/// Collective. As multiply_decoded(), in 8-bit integers. A result depends on its row and its token alone: on neither
/// the number of tokens nor that of workers.
template <SimdBackend B, class ProductAt>
void multiply_int8(Worker& worker, ConstActivations x, const ProductAt& product_at, index_t products, Shares shares) {
  const QuantisedActivations rounded = quantise_activations<B>(worker, x);
  const auto multiply = [&](Range rows) { multiply_rounded<B>(worker, rounded, product_at, products, rows); };
  if (x.rows <= quantised_row_tokens<B>) {
    worker.each_part(shares, dot_part, multiply);
  } else {
    multiply(worker.share(shares));
  }
}

}  // namespace tessera
