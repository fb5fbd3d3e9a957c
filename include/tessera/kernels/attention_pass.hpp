#pragma once
// One block of queries against a range of its keys, tile by tile, with a running maximum and sum
// (arXiv:1805.02867, arXiv:2205.14135).

#include <cmath>
#include <limits>

#include <tessera/kernels/attention_blocks.hpp>
#include <tessera/kernels/attention_rows.hpp>

namespace tessera::detail {

/// Softmax states of a block's queries: m [queries], l [queries], o [queries][head_dim].
struct BlockStates {
  float* maximum = nullptr;
  float* sum = nullptr;
  float* output = nullptr;

  [[nodiscard]] static index_t size(index_t queries, index_t head_dim) { return queries * (head_dim + 2); }
  /// Output first: `data` is aligned to a register, and so are its rows where head_dim is a multiple of one.
  [[nodiscard]] static BlockStates at(float* data, index_t queries, index_t head_dim) {
    return {data + queries * head_dim, data + queries * (head_dim + 1), data};
  }
  void reset(index_t query, index_t head_dim) const {
    maximum[query] = -std::numeric_limits<float>::infinity();
    sum[query] = 0;
    std::fill_n(output + query * head_dim, head_dim, 0.0F);
  }
};

/// Adds the states of further keys to `to`, for one query.
template <SimdBackend B>
void merge_into(const BlockStates& to, const BlockStates& from, index_t query, index_t head_dim) {
  // Rescale to the shared maximum first: sums under different maxima do not add (arXiv:1805.02867).
  const float m = std::max(to.maximum[query], from.maximum[query]);
  const float shared = finite_maximum(m);
  const float kept = std::exp(to.maximum[query] - shared);
  const float added = std::exp(from.maximum[query] - shared);
  to.maximum[query] = m;
  to.sum[query] = to.sum[query] * kept + from.sum[query] * added;
  float* o = to.output + query * head_dim;
  if (kept != 1.0F) scale_row<B>(o, kept, head_dim, o);
  add_scaled_row<B>(from.output + query * head_dim, added, head_dim, o);
}

/// Turns `count` keys' scores of VECTORS registers of queries into weights exp(score - m), and moves the running
/// maximum m and sum l on to them; factors[i] is what the earlier output of query i shrinks by.
template <SimdBackend B, index_t VECTORS>
void update_states(float* scores, index_t count, float* maximum, float* sum, float* factors) {
  constexpr index_t W = B::width;
  constexpr index_t panel = AttentionTile<B>::panel;
  const auto lowest = B::broadcast(std::numeric_limits<float>::lowest());
  typename B::f32 before[VECTORS], m[VECTORS], shared[VECTORS], l[VECTORS];
  unrolled<VECTORS>([&](auto v) { m[v] = before[v] = B::load(maximum + v * W); });
  for (index_t j = 0; j < count; ++j)
    unrolled<VECTORS>([&](auto v) { m[v] = B::max(m[v], B::load(scores + j * panel + v * W)); });
  unrolled<VECTORS>([&](auto v) {
    shared[v] = B::max(m[v], lowest);  // finite, so that a query that sees no key gets 0 and not exp(-inf - -inf)
    const auto factor = B::exp(B::sub(before[v], shared[v]));
    B::store(maximum + v * W, m[v]);
    B::store(factors + v * W, factor);
    l[v] = B::mul(factor, B::load(sum + v * W));
  });
  for (index_t j = 0; j < count; ++j)
    unrolled<VECTORS>([&](auto v) {
      const auto e = B::exp(B::sub(B::load(scores + j * panel + v * W), shared[v]));
      B::store(scores + j * panel + v * W, e);
      l[v] = B::add(l[v], e);
    });
  unrolled<VECTORS>([&](auto v) { B::store(sum + v * W, l[v]); });
}

/// One worker's memory for attention: its size depends on the block, the tile and the head, not on the context.
template <SimdBackend B>
class AttentionPass {
 public:
  static constexpr index_t panel = AttentionTile<B>::panel;
  /// Queries of a block at most: a whole number of panels.
  static constexpr index_t capacity = std::max<index_t>(4 * panel, 64);
  /// Up to so many queries dot products along the head are cheaper than a panel with empty lanes.
  static constexpr index_t few = B::width / 2;

  /// `widens`: the cache does not hold floats, and there is room for those of a tile of keys and of values.
  AttentionPass(index_t head_dim, index_t tile, bool widens) : head_dim_(head_dim), tile_(tile), widens_(widens) {}

  /// In floats.
  [[nodiscard]] index_t size() const {
    return 2 * capacity * head_dim_ + tile_ * panel + 3 * capacity + 4 * capacity + 4 * panel + widened_size();
  }
  void use(float* memory) {
    packed_ = memory;
    scores_ = packed_ + capacity * head_dim_;
    states_ = BlockStates::at(scores_ + tile_ * panel, capacity, head_dim_);
    factors_ = states_.sum + capacity;
    visible_ = reinterpret_cast<index_t*>(factors_ + capacity);
    limits_ = visible_ + 2 * capacity;
    widened_ = memory + size() - widened_size();
  }

  [[nodiscard]] const BlockStates& states() const { return states_; }

  /// Moves states() of the block's queries on to the visible keys among `keys`.
  void attend(const AttentionProblem& problem, const AttentionBlock& block, Range keys) {
    const index_t queries = block.queries();
    for (index_t q = 0; q < queries; ++q) visible_[q] = block.visible(q);
    if (queries <= few) {
      attend_few(problem, block, keys, queries);
    } else {
      attend_panels(problem, block, keys, queries);
    }
  }

 private:
  [[nodiscard]] const float* query(const AttentionProblem& problem, const AttentionBlock& block, index_t q) const {
    return problem.queries.row(block.row(q)) + block.head(q) * head_dim_;
  }

  [[nodiscard]] index_t widened_size() const { return widens_ ? 2 * tile_ * head_dim_ : 0; }

  /// limits_[i] = how many of `count` keys from `first` on query q + i sees, i < n.
  void limit(index_t q, index_t n, index_t first, index_t count) {
    for (index_t i = 0; i < n; ++i) limits_[i] = std::clamp<index_t>(visible_[q + i] - first, 0, count);
  }

  void attend_panels(const AttentionProblem& problem, const AttentionBlock& block, Range keys, index_t queries) {
    for (index_t q = 0; q < queries; q += panel)
      pack_queries<B>([&](index_t i) { return query(problem, block, q + i); }, std::min(panel, queries - q), head_dim_,
                      problem.scale, packed_ + q * head_dim_);
    // The lanes past the last query compute on zeros; their states need only be numbers.
    for (index_t q = queries; q < ceil_div(queries, panel) * panel; ++q) states_.maximum[q] = states_.sum[q] = 0;
    const KeyValueView& cache = block.task->cache;
    for (index_t first = keys.begin; first < keys.end; first += tile_) {
      const index_t seen = std::min({keys.end, first + tile_, visible_[queries - 1]}) - first;
      if (seen <= 0) break;
      const FloatRows k = as_floats<B>(cache.key_rows(block.kv_head, first), seen, head_dim_, widened_);
      const FloatRows v =
          as_floats<B>(cache.value_rows(block.kv_head, first), seen, head_dim_, widened_ + tile_ * head_dim_);
      for (index_t q = 0; q < queries; q += panel) {
        const index_t n = std::min(panel, queries - q);
        const index_t end = std::min({keys.end, first + tile_, visible_[q + n - 1]});
        if (end <= first) continue;
        if (n <= B::width) {
          attend_tile<1>(k, v, {first, end}, q, n);
        } else {
          attend_tile<2>(k, v, {first, end}, q, n);
        }
      }
    }
  }

  template <index_t VECTORS>
  void attend_tile(FloatRows k, FloatRows v, Range keys, index_t q, index_t n) {
    const index_t count = keys.size();
    score_panel<B, VECTORS>(k.first, k.stride, count, packed_ + q * head_dim_, head_dim_, scores_);
    limit(q, n, keys.begin, count);
    for (index_t i = 0; i < n && limits_[i] < count; ++i)
      for (index_t j = limits_[i]; j < count; ++j) scores_[j * panel + i] = -std::numeric_limits<float>::infinity();
    update_states<B, VECTORS>(scores_, count, states_.maximum + q, states_.sum + q, factors_);
    weigh_panel<B>(scores_, limits_, factors_, n, v.first, v.stride, head_dim_, states_.output + q * head_dim_);
  }

  void attend_few(const AttentionProblem& problem, const AttentionBlock& block, Range keys, index_t queries) {
    for (index_t q = 0; q < queries; ++q)
      scale_row<B>(query(problem, block, q), problem.scale, head_dim_, packed_ + q * head_dim_);
    const KeyValueView& cache = block.task->cache;
    // The fewer queries, the longer the tile that fits: memory is read fastest in long runs.
    const index_t tile = tile_ * panel / queries;
    for (index_t first = keys.begin; first < keys.end; first += tile) {
      const index_t count = std::min({keys.end, first + tile, visible_[queries - 1]}) - first;
      if (count <= 0) break;
      dot_cached<B>(packed_, queries, head_dim_, cache.key_rows(block.kv_head, first), count, scores_, tile);
      limit(0, queries, first, count);
      for (index_t q = 0; q < queries; ++q) update_row(q, scores_ + q * tile, limits_[q]);
      weigh_cached<B>(scores_, tile, limits_, queries, cache.value_rows(block.kv_head, first), head_dim_,
                      states_.output);
    }
  }

  /// As update_states, for one query and its own `count` scores; scales its output as well.
  void update_row(index_t q, float* scores, index_t count) {
    const float before = states_.maximum[q];
    const float m = maximum<B>(scores, count, before);
    const float shared = finite_maximum(m);
    const float factor = std::exp(before - shared);
    states_.maximum[q] = m;
    states_.sum[q] = states_.sum[q] * factor + exponentials<B>(scores, count, shared);
    float* o = states_.output + q * head_dim_;
    if (factor != 1.0F) scale_row<B>(o, factor, head_dim_, o);
  }

  index_t head_dim_;
  index_t tile_;
  bool widens_;
  float* packed_ = nullptr;
  float* scores_ = nullptr;
  BlockStates states_;
  float* factors_ = nullptr;
  index_t* visible_ = nullptr;
  index_t* limits_ = nullptr;
  float* widened_ = nullptr;
};

}  // namespace tessera::detail
