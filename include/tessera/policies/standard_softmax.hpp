#pragma once
// StandardSoftmax: all scores of a row, then their maximum, exponentials, sum and quotient.

#include <tessera/kernels/attention.hpp>
#include <tessera/policies/softmax.hpp>

namespace tessera {

/// Softmax as the textbook writes it: memory per worker grows with the context.
struct StandardSoftmax {
  static constexpr std::string_view name = "standard";

  /// See SoftmaxPolicy. A NaN in a visible key or value, or a score of +inf, makes its row and head NaN.
  template <SimdBackend B>
  static void attend(Worker& worker, const AttentionProblem& problem, Activations out) {
    // All keys of a block are one tile.
    const auto begin = [](const AttentionBlock&, index_t, const detail::BlockStates&) {};
    const KeyTiles all{.keys = most_visible(problem), .may_split = false};
    attend_blocks<B>(worker, problem, all, begin, detail::write_normalized<B>(problem, out));
  }

  /// Writes scale * q.k of the visible slots: `out` is [rows * heads][slots], row r * heads + h for row r of the
  /// queries and head h, and has as many columns as any row sees. What lies beyond the visible slots stays as it is.
  template <SimdBackend B>
  static void scores(Worker& worker, const AttentionProblem& problem, Activations out) {
    const HeadLayout& layout = problem.layout;
    const index_t head_dim = layout.head_dim;
    float* scaled = worker.scratch<float>(layout.heads * head_dim);
    for_each_row(worker, problem,
                 [&](const AttentionTask& task, index_t row, index_t visible, index_t kv_head, Range heads) {
                   const float* queries = problem.queries.row(row) + heads.begin * head_dim;
                   detail::scale_row<B>(queries, problem.scale, heads.size() * head_dim, scaled);
                   detail::dot_cached<B>(scaled, heads.size(), head_dim, task.cache.key_rows(kv_head), visible,
                                         out.row(row * layout.heads + heads.begin), out.stride);
                 });
    worker.barrier();
  }

  /// out = weights . V over the visible slots: `weights` as `scores` lays them out, `out` [rows, heads * head_dim].
  template <SimdBackend B>
  static void weigh(Worker& worker, const AttentionProblem& problem, ConstActivations weights, Activations out) {
    const HeadLayout& layout = problem.layout;
    const index_t head_dim = layout.head_dim;
    auto* limits = worker.scratch<index_t>(layout.heads);
    for_each_row(worker, problem,
                 [&](const AttentionTask& task, index_t row, index_t visible, index_t kv_head, Range heads) {
                   float* o = out.row(row) + heads.begin * head_dim;
                   std::fill_n(o, heads.size() * head_dim, 0.0F);
                   std::fill_n(limits, heads.size(), visible);
                   detail::weigh_cached<B>(weights.row(row * layout.heads + heads.begin), weights.stride, limits,
                                           heads.size(), task.cache.value_rows(kv_head), head_dim, o);
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

 private:
  [[nodiscard]] static index_t most_visible(const AttentionProblem& problem) {
    index_t most = 1;
    for (const AttentionTask& task : problem.tasks)
      if (task.rows > 0) most = std::max(most, task.visible[task.rows - 1]);
    return most;
  }

  /// Calls f(task, row of the matrices, visible slots, KV head, its query heads) for this worker's part of all rows and
  /// KV heads: one of every worker.count() in turn, since later rows see more.
  template <class F>
  static void for_each_row(Worker& worker, const AttentionProblem& problem, F&& f) {
    index_t turn = 0;
    for_each_block(problem, {problem.layout.heads, problem.layout.heads}, [&](const AttentionBlock& block) {
      for (index_t i = block.rows.begin; i < block.rows.end; ++i)
        if (turn++ % worker.count() == worker.index())
          f(*block.task, block.task->row_begin + i, block.task->visible[i], block.kv_head, block.heads);
    });
  }
};

static_assert(GatherableSoftmax<StandardSoftmax>);

}  // namespace tessera
