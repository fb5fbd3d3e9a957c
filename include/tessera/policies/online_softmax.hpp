#pragma once
// OnlineSoftmax: one pass over tiles of keys with a running maximum and sum (arXiv:1805.02867, arXiv:2205.14135).

#include <tessera/kernels/attention.hpp>
#include <tessera/policies/softmax.hpp>

namespace tessera {

/// Softmax in one pass over key tiles: memory per worker does not grow with the context.
struct OnlineSoftmax {
  static constexpr std::string_view name = "online_softmax";

  /// See SoftmaxPolicy. A NaN in a visible key or value, or a score of +inf, makes its row and head NaN.
  template <SimdBackend B>
  static void attend(Worker& worker, const AttentionProblem& problem, Activations out) {
    const auto begin = [](const AttentionBlock&, index_t, const detail::BlockStates&) {};
    attend_blocks<B>(worker, problem, tiles_of(problem), begin, detail::write_normalized<B>(problem, out));
  }

  /// See MergeableSoftmax: `states` go on from what they are.
  template <SimdBackend B>
  static void attend_more(Worker& worker, const AttentionProblem& problem, SoftmaxStates states) {
    const index_t head_dim = problem.layout.head_dim;
    const auto begin = [&](const AttentionBlock& block, index_t q, const detail::BlockStates& own) {
      const index_t row = block.row(q), head = block.head(q);
      own.maximum[q] = states.maximum.row(row)[head];
      own.sum[q] = states.sum.row(row)[head];
      std::copy_n(states.output.row(row) + head * head_dim, head_dim, own.output + q * head_dim);
    };
    const auto finish = [&](const AttentionBlock& block, index_t q, const detail::BlockStates& own) {
      const index_t row = block.row(q), head = block.head(q);
      states.maximum.row(row)[head] = own.maximum[q];
      states.sum.row(row)[head] = own.sum[q];
      std::copy_n(own.output + q * head_dim, head_dim, states.output.row(row) + head * head_dim);
    };
    attend_blocks<B>(worker, problem, tiles_of(problem), begin, finish);
  }

 private:
  [[nodiscard]] static KeyTiles tiles_of(const AttentionProblem& problem) {
    return {.keys = problem.blocks.keys > 0 ? problem.blocks.keys : attention_tile_keys};
  }
};

static_assert(MergeableSoftmax<OnlineSoftmax>);

}  // namespace tessera
