#pragma once
// OnlineSoftmax: one pass over tiles of keys with a running maximum and sum (arXiv:1805.02867, arXiv:2205.14135).

#include <tessera/kernels/attention_rows.hpp>
#include <tessera/policies/softmax.hpp>

namespace tessera {

/// Softmax in one pass over key tiles: memory per worker does not grow with the context.
struct OnlineSoftmax {
  static constexpr std::string_view name = "online_softmax";

  /// See SoftmaxPolicy. A NaN in a visible key or value, or a score of +inf, makes its row and head NaN.
  template <SimdBackend B>
  static void attend(Worker& worker, const AttentionProblem& problem, Activations out) {
    const index_t head_dim = problem.layout.head_dim;
    detail::for_each_row(worker, problem, [&](const AttentionTask& task, index_t row, index_t head, index_t visible) {
      float* o = out.row(row) + head * head_dim;
      std::fill_n(o, head_dim, 0.0F);
      float m = -std::numeric_limits<float>::infinity();
      float sum = 0;
      pass<B>(worker, problem, task, row, head, visible, m, sum, o);
      detail::scale_row<B>(o, detail::reciprocal_or_zero(sum), head_dim, o);
    });
    worker.barrier();
  }

  /// See MergeableSoftmax: `states` go on from what they are.
  template <SimdBackend B>
  static void attend_more(Worker& worker, const AttentionProblem& problem, SoftmaxStates states) {
    const index_t head_dim = problem.layout.head_dim;
    detail::for_each_row(worker, problem, [&](const AttentionTask& task, index_t row, index_t head, index_t visible) {
      pass<B>(worker, problem, task, row, head, visible, states.maximum.row(row)[head], states.sum.row(row)[head],
              states.output.row(row) + head * head_dim);
    });
    worker.barrier();
  }

 private:
  static constexpr index_t tile = 64;

  template <SimdBackend B>
  static void pass(Worker& worker, const AttentionProblem& problem, const AttentionTask& task, index_t row,
                   index_t head, index_t visible, float& m, float& sum, float* o) {
    const index_t head_dim = problem.layout.head_dim;
    const index_t kv_head = problem.layout.kv_head(head);
    float* scores = worker.scratch<float>(tile);
    for (index_t begin = 0; begin < visible; begin += tile) {
      const Range keys{begin, std::min(visible, begin + tile)};
      detail::score_keys<B>(problem.queries.row(row) + head * head_dim, task.cache, kv_head, keys, head_dim,
                            problem.scale, scores);
      const float larger = detail::maximum<B>(scores, keys.size(), m);
      const float shared = detail::finite_maximum(larger);
      const float factor = std::exp(m - shared);
      sum = sum * factor + detail::exponentials<B>(scores, keys.size(), shared);
      detail::scale_row<B>(o, factor, head_dim, o);
      detail::add_values<B>(scores, task.cache, kv_head, keys, head_dim, o);
      m = larger;
    }
  }
};

static_assert(MergeableSoftmax<OnlineSoftmax>);

}  // namespace tessera
