#pragma once
// Attention's work as arithmetic: blocks of queries that read the same keys, and where the line of all blocks is cut so
// that every worker gets an equal part.

#include <algorithm>
#include <span>

#include <tessera/kernels/attention_problem.hpp>

namespace tessera {

/// Rows of one task and query heads of one KV head: queries (row, head), heads running faster, that read the same keys.
struct AttentionBlock {
  const AttentionTask* task = nullptr;
  index_t kv_head = 0;
  Range heads;
  Range rows;  ///< of the task

  [[nodiscard]] index_t queries() const { return rows.size() * heads.size(); }
  [[nodiscard]] index_t head(index_t query) const { return heads.begin + query % heads.size(); }
  /// In the matrices of queries and results.
  [[nodiscard]] index_t row(index_t query) const { return task->row_begin + rows.begin + query / heads.size(); }
  [[nodiscard]] index_t visible(index_t query) const { return task->visible[rows.begin + query / heads.size()]; }
  [[nodiscard]] index_t keys() const { return rows.empty() ? 0 : task->visible[rows.end - 1]; }
};

/// How blocks are formed: up to `queries` each, rows in units that fill `grain` queries.
struct BlockShape {
  index_t queries = 1;
  index_t grain = 1;
};

/// Calls f(block) for the blocks of all tasks: by task, then KV head (its keys stay in cache), then rows.
/// Law: every row and head of every task is in one block.
template <class F>
void for_each_block(const AttentionProblem& problem, BlockShape shape, F&& f) {
  const HeadLayout& layout = problem.layout;
  for (const AttentionTask& task : problem.tasks) {
    for (index_t begin = 0; begin < layout.heads;) {
      const index_t kv_head = layout.kv_head(begin);
      const index_t end =
          std::min({layout.heads, (kv_head + 1) * layout.group - layout.head_offset, begin + shape.queries});
      const Range heads{begin, end};
      const index_t grain = std::max<index_t>(1, shape.grain / heads.size());
      const index_t most = std::max<index_t>(1, shape.queries / heads.size() / grain) * grain;
      const index_t parts = ceil_div(task.rows, most);
      for (index_t p = 0; p < parts; ++p) {
        f(AttentionBlock{&task, kv_head, heads, partition(task.rows, parts, p, grain)});
      }
      begin = end;
    }
  }
}

/// Arithmetic of a block in units of one query and key. Few queries cost as much as `few`: then reading keys limits.
[[nodiscard]] inline index_t attention_cost(const AttentionBlock& block, index_t few) {
  index_t pairs = 0;
  for (index_t i = block.rows.begin; i < block.rows.end; ++i) pairs += block.task->visible[i];
  constexpr index_t overhead = 16;  // packing a query and writing its result, about as much as 16 keys
  return std::max(pairs * block.heads.size(), block.keys() * few) + overhead * block.queries();
}

/// A place on the line of blocks: before key `key` of block `block`.
struct AttentionCut {
  index_t block = 0;
  index_t key = 0;
  friend bool operator==(const AttentionCut&, const AttentionCut&) = default;
};

/// Writes the ends of the workers' parts, cuts[w] to cuts[w + 1] for worker w of cuts.size() - 1. A cut falls between
/// two blocks where the parts differ by little, else between two keys, at a multiple of `key_grain` (0: never).
/// Depends on shapes and the number of workers only. Law: cuts never decrease, from {0, 0} to {blocks, 0}.
inline void cut_evenly(const AttentionProblem& problem, BlockShape shape, index_t few, index_t key_grain,
                       std::span<AttentionCut> cuts) {
  const auto workers = static_cast<index_t>(cuts.size()) - 1;
  index_t total = 0;
  if (workers > 1) for_each_block(problem, shape, [&](const AttentionBlock& b) { total += attention_cost(b, few); });
  const index_t tolerance = total / (16 * workers);
  index_t block = 0;
  index_t begin = 0;  // cost before the block
  index_t w = 0;
  cuts[static_cast<std::size_t>(w++)] = {0, 0};
  for_each_block(problem, shape, [&](const AttentionBlock& b) {
    const index_t cost = w < workers ? attention_cost(b, few) : 0;
    for (; w < workers && total * w / workers < begin + cost; ++w) {
      const index_t before = total * w / workers - begin;
      const index_t after = cost - before;
      const bool between_keys = key_grain > 0 && std::min(before, after) > tolerance;
      const index_t key = between_keys ? before * b.keys() / cost / key_grain * key_grain : 0;
      const bool at_end = !between_keys && after < before;
      cuts[static_cast<std::size_t>(w)] = at_end ? AttentionCut{block + 1, 0} : AttentionCut{block, key};
    }
    begin += cost;
    ++block;
  });
  for (; w <= workers; ++w) cuts[static_cast<std::size_t>(w)] = {block, 0};
}

}  // namespace tessera
