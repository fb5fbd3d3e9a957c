#pragma once
// StandardSoftmax: all scores of a row, then their maximum, exponentials, sum and quotient.

#include <tessera/kernels/attention_rows.hpp>
#include <tessera/policies/softmax.hpp>

namespace tessera {

/// Softmax as the textbook writes it: memory per worker grows with the context.
struct StandardSoftmax {
  static constexpr std::string_view name = "standard";

  /// See SoftmaxPolicy. A NaN in a visible key or value, or a score of +inf, makes its row and head NaN.
  template <SimdBackend B>
  static void attend(Worker& worker, const AttentionProblem& problem, Activations out) {
    const index_t head_dim = problem.layout.head_dim;
    index_t most = 0;
    for (const AttentionTask& task : problem.tasks)
      if (task.rows > 0) most = std::max(most, task.visible[task.rows - 1]);
    float* weights = worker.scratch<float>(most);
    detail::for_each_row(worker, problem, [&](const AttentionTask& task, index_t row, index_t head, index_t visible) {
      const index_t kv_head = problem.layout.kv_head(head);
      detail::score_keys<B>(problem.queries.row(row) + head * head_dim, task.cache, kv_head, {0, visible}, head_dim,
                            problem.scale, weights);
      const float m = detail::maximum<B>(weights, visible, -std::numeric_limits<float>::infinity());
      const float sum = detail::exponentials<B>(weights, visible, detail::finite_maximum(m));
      float* o = out.row(row) + head * head_dim;
      std::fill_n(o, head_dim, 0.0F);
      detail::add_values<B>(weights, task.cache, kv_head, {0, visible}, head_dim, o);
      detail::scale_row<B>(o, detail::reciprocal_or_zero(sum), head_dim, o);
    });
    worker.barrier();
  }

  /// Writes scale * q.k of the visible slots: `out` is [rows * heads][slots], row r * heads + h for row r of the queries
  /// and head h, and has as many columns as any row sees. What lies beyond the visible slots stays as it is.
  template <SimdBackend B>
  static void scores(Worker& worker, const AttentionProblem& problem, Activations out) {
    const HeadLayout& layout = problem.layout;
    detail::for_each_row(worker, problem, [&](const AttentionTask& task, index_t row, index_t head, index_t visible) {
      detail::score_keys<B>(problem.queries.row(row) + head * layout.head_dim, task.cache, layout.kv_head(head),
                            {0, visible}, layout.head_dim, problem.scale, out.row(row * layout.heads + head));
    });
    worker.barrier();
  }

  /// out = weights . V over the visible slots: `weights` as `scores` lays them out, `out` [rows, heads * head_dim].
  template <SimdBackend B>
  static void weigh(Worker& worker, const AttentionProblem& problem, ConstActivations weights, Activations out) {
    const HeadLayout& layout = problem.layout;
    detail::for_each_row(worker, problem, [&](const AttentionTask& task, index_t row, index_t head, index_t visible) {
      float* o = out.row(row) + head * layout.head_dim;
      std::fill_n(o, layout.head_dim, 0.0F);
      detail::add_values<B>(weights.row(row * layout.heads + head), task.cache, layout.kv_head(head), {0, visible},
                            layout.head_dim, o);
    });
    worker.barrier();
  }

  /// Turns n gathered scores of one row and head into weights that sum to one, in place.
  template <SimdBackend B>
  static void normalize_row(float* row, index_t n) {
    const float m = detail::maximum<B>(row, n, -std::numeric_limits<float>::infinity());
    const float sum = detail::exponentials<B>(row, n, detail::finite_maximum(m));
    detail::scale_row<B>(row, detail::reciprocal_or_zero(sum), n, row);
  }
};

static_assert(SoftmaxPolicy<StandardSoftmax>);

}  // namespace tessera
