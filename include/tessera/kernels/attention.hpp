#pragma once
// Attention of a whole problem by a team: each worker passes over an equal part of the line of blocks; a block that two
// or more workers share is merged from their partial states, in the order of its keys.

#include <tessera/kernels/attention_pass.hpp>

namespace tessera {

/// Keys in a tile of one pass: with 128 floats a head, its keys, values and scores for a panel of queries are 110 KB,
/// which L2 holds, and loading and storing the output is a twentieth of the work on it. A multiple of all key blocks.
inline constexpr index_t attention_tile_keys = 96;

/// How a policy passes over the keys of a block.
struct KeyTiles {
  index_t keys = attention_tile_keys;  ///< in a tile
  bool may_split = true;               ///< over workers
};

/// In a trace: attention.
inline constexpr TraceName trace_attend{"attend", TraceKind::kernel, "queries"};

namespace detail {

/// Blocks large enough to share each tile of keys well, and small enough that there are four for each worker.
template <SimdBackend B>
[[nodiscard]] BlockShape block_shape(const AttentionProblem& problem, index_t workers) {
  using Pass = AttentionPass<B>;
  if (problem.blocks.queries > 0)
    return {std::min(ceil_div(problem.blocks.queries, Pass::panel) * Pass::panel, Pass::capacity), Pass::panel};
  index_t queries = 0;
  for (const AttentionTask& task : problem.tasks) queries += task.rows * problem.layout.heads;
  const index_t panels = queries / (4 * workers * Pass::panel);
  return {std::clamp(panels * Pass::panel, Pass::panel, Pass::capacity), Pass::panel};
}

/// What a key costs when few queries read it, in units of one query: it comes from memory.
inline constexpr index_t few_queries = 8;

}  // namespace detail

/// Collective. Calls begin(block, query, states) before and finish(block, query, states) after the pass over a block's
/// keys; each is called once for every query, by any worker. Ends with a barrier.
template <SimdBackend B, class Begin, class Finish>
void attend_blocks(Worker& worker, const AttentionProblem& problem, KeyTiles tiles, Begin&& begin, Finish&& finish) {
  const TraceScope scope(worker.lane(), trace_attend, problem.queries.rows);
  using detail::BlockStates;
  using Pass = detail::AttentionPass<B>;
  const index_t head_dim = problem.layout.head_dim;
  const index_t workers = worker.count();
  const BlockShape shape = detail::block_shape<B>(problem, workers);
  Pass pass(head_dim, tiles.keys, is_widened(problem));
  float* memory = worker.scratch<float>(pass.size() + 4 * (workers + 1));
  pass.use(memory);
  const std::span cuts(reinterpret_cast<AttentionCut*>(memory + pass.size()), static_cast<std::size_t>(workers + 1));
  cut_evenly(problem, shape, detail::few_queries, tiles.may_split ? tiles.keys : 0, cuts);
  const auto cut = [&](index_t w) { return cuts[static_cast<std::size_t>(w)]; };

  // A worker has two partial states at most: of the block it begins in the middle of, and of the one it leaves so.
  const index_t part_size = BlockStates::size(Pass::capacity, head_dim);
  const bool any_shared = std::any_of(cuts.begin(), cuts.end(), [](const AttentionCut& c) { return c.key > 0; });
  float* shared = any_shared ? worker.shared_scratch<float>(2 * workers * part_size) : nullptr;
  const auto part_at = [&](index_t w, bool from_start) {
    return BlockStates::at(shared + (2 * w + (from_start ? 1 : 0)) * part_size, Pass::capacity, head_dim);
  };

  const BlockStates& states = pass.states();
  const AttentionCut from = cut(worker.index());
  const AttentionCut to = cut(worker.index() + 1);
  index_t index = -1;
  for_each_block(problem, shape, [&](const AttentionBlock& block) {
    ++index;
    if (index < from.block || index > to.block || from == to) return;
    const Range keys{index == from.block ? from.key : 0, index == to.block ? to.key : block.keys()};
    if (index == to.block && keys.empty()) return;
    const index_t queries = block.queries();
    for (index_t q = 0; q < queries; ++q) {
      states.reset(q, head_dim);
      if (keys.begin == 0) begin(block, q, states);
    }
    pass.attend(problem, block, keys);
    if (keys.begin == 0 && keys.end == block.keys()) {
      for (index_t q = 0; q < queries; ++q) finish(block, q, states);
      return;
    }
    const BlockStates part = part_at(worker.index(), keys.begin == 0);
    std::copy_n(states.maximum, queries, part.maximum);
    std::copy_n(states.sum, queries, part.sum);
    std::copy_n(states.output, queries * head_dim, part.output);
  });
  worker.barrier();
  if (!any_shared) return;

  index = -1;
  for_each_block(problem, shape, [&](const AttentionBlock& block) {
    ++index;
    const auto within = [&](const AttentionCut& c) { return c.block == index && c.key > 0; };
    const auto first = static_cast<index_t>(std::find_if(cuts.begin(), cuts.end(), within) - cuts.begin());
    const index_t end = first + std::count_if(cuts.begin(), cuts.end(), within);
    if (first == end) return;
    const Range mine = worker.share(block.queries());
    for (index_t q = mine.begin; q < mine.end; ++q) {
      states.reset(q, head_dim);
      for (index_t w = first - 1; w < end; ++w)
        if (cut(w) != cut(w + 1)) detail::merge_into<B>(states, part_at(w, w + 1 == first), q, head_dim);
      finish(block, q, states);
    }
  });
  worker.barrier();
}

namespace detail {

/// What finishes attend_blocks where the result is wanted: out = o / l, zeros where no key was seen.
template <SimdBackend B>
[[nodiscard]] auto write_normalized(const AttentionProblem& problem, Activations out) {
  return [head_dim = problem.layout.head_dim, out](const AttentionBlock& block, index_t q, const BlockStates& states) {
    scale_row<B>(states.output + q * head_dim, reciprocal_or_zero(states.sum[q]), head_dim,
                 out.row(block.row(q)) + block.head(q) * head_dim);
  };
}

}  // namespace detail
}  // namespace tessera
