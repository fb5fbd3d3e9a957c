#pragma once
// Products with weights in blocks, computed in 8-bit integers: activations are rounded to 8 bits block by block.

#include <tessera/kernels/gemm_dot.hpp>
#include <tessera/kernels/gemm_product.hpp>
#include <tessera/kernels/quantised_groups.hpp>
#include <tessera/kernels/quantised_store.hpp>

namespace tessera {

/// The products of rounded activations x with the rows `mine` of all products, in the worker's scratch.
template <SimdBackend B, class ProductAt>
void multiply_rounded(Worker& worker, const QuantisedActivations& x, const ProductAt& product_at, index_t products,
                      Range mine) {
  constexpr index_t chunk = 64;                   // rows of a block
  constexpr index_t stride = chunk + group_rows;  // where they begin within a group
  constexpr index_t pass_tokens = 512;            // whose sums wait for the epilogue in L2
  auto* sums = worker.scratch<float>(2 * stride * std::min(x.rows, pass_tokens));
  for (index_t first = 0; first < x.rows; first += pass_tokens) {
    const Range tokens{first, std::min(x.rows, first + pass_tokens)};
    const QuantisedActivations part = x.row_range(tokens);
    BlockSequence blocks(product_at, products, mine, chunk);
    for (Product block = blocks.next(); block.rows() > 0; block = blocks.next()) {
      std::array<const float*, 2> of_pieces{};
      for (std::size_t i = 0; i < static_cast<std::size_t>(block.weight.count); ++i) {
        const WeightView& weight = block.weight.pieces[i];
        float* to = sums + static_cast<index_t>(i) * stride * tokens.size();
        with_block_format(weight.dtype, [&]<class F>(F) { multiply_groups<B, F>(part, weight, to, stride); });
        of_pieces[i] = to + weight.skipped;
      }
      store_sums<B>(block, tokens, of_pieces[0], of_pieces[1], stride);
    }
  }
}

/// Tokens up to which the weights are what takes time: parts of them go to whoever is free, since a core may get less
/// of the memory's bandwidth than another.
inline constexpr index_t quantised_streaming_tokens = 5;

/// Collective. As multiply_decoded(), in 8-bit integers. A result depends on its row and its token alone: on neither
/// the number of tokens nor that of workers.
template <SimdBackend B, class ProductAt>
void multiply_int8(Worker& worker, ConstActivations x, const ProductAt& product_at, index_t products, Shares shares) {
  const QuantisedActivations rounded = quantise_activations<B>(worker, x);
  const auto multiply = [&](Range rows) { multiply_rounded<B>(worker, rounded, product_at, products, rows); };
  if (x.rows <= quantised_streaming_tokens) {
    worker.each_part(shares, dot_part, multiply);
  } else {
    multiply(worker.share(shares));
  }
}

}  // namespace tessera
