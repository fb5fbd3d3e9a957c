#pragma once
// The operands of attention on one rank: ragged rows of queries against prefixes of cached keys.

#include <span>

#include <tessera/core/cache_format.hpp>
#include <tessera/core/view.hpp>

namespace tessera {

/// Keys, or values, of one head in consecutive slots, as the cache stores them; `stride` counts bytes.
struct CachedRows {
  const std::byte* first = nullptr;
  index_t stride = 0;
  CacheType type = CacheType::f32;

  [[nodiscard]] CachedRows from(index_t slot) const { return {first + slot * stride, stride, type}; }
};

/// Keys and values of one sequence, [kv head][slot] heads of the format `type`; strides count bytes.
struct KeyValueView {
  const std::byte* keys = nullptr;
  const std::byte* values = nullptr;
  index_t head_stride = 0;
  index_t slot_stride = 0;
  CacheType type = CacheType::f32;

  /// Of floats, strides in floats.
  [[nodiscard]] static KeyValueView of_floats(const float* keys, const float* values, index_t head_stride,
                                              index_t slot_stride) {
    constexpr auto size = static_cast<index_t>(sizeof(float));
    return {reinterpret_cast<const std::byte*>(keys), reinterpret_cast<const std::byte*>(values), head_stride * size,
            slot_stride * size};
  }
  /// Keys of a head from slot `slot` on.
  [[nodiscard]] CachedRows key_rows(index_t kv_head, index_t slot = 0) const {
    return {keys + kv_head * head_stride + slot * slot_stride, slot_stride, type};
  }
  [[nodiscard]] CachedRows value_rows(index_t kv_head, index_t slot = 0) const {
    return {values + kv_head * head_stride + slot * slot_stride, slot_stride, type};
  }
};

/// Heads as this rank holds them: local query head h reads local KV head (h + head_offset) / group.
struct HeadLayout {
  index_t heads = 0;  ///< query heads held
  index_t head_dim = 0;
  index_t group = 1;        ///< query heads that share a KV head in the whole model
  index_t head_offset = 0;  ///< place of the first query head in its group: a cut may cross a group

  [[nodiscard]] index_t kv_head(index_t head) const { return (head + head_offset) / group; }
  [[nodiscard]] index_t kv_heads() const { return heads == 0 ? 0 : kv_head(heads - 1) + 1; }
};

/// Consecutive query rows of one sequence. Row i sees the first visible[i] slots; visible never decreases with i.
/// A row may see no slot (a stripe whose keys all lie in its future).
struct AttentionTask {
  index_t row_begin = 0;  ///< in the matrices of queries and results
  index_t rows = 0;
  KeyValueView cache;
  const index_t* visible = nullptr;  ///< [rows]
};

/// How many queries and keys are worked on at a time; 0: as the caches suggest.
struct AttentionBlocks {
  index_t queries = 0;  ///< rounded up to whole registers, within what a worker's memory is planned for
  index_t keys = 0;     ///< for a softmax in several passes; one that takes all keys at once has no such blocks
};

/// Softmax(q k^T * scale) v for every task: what a SoftmaxPolicy computes.
struct AttentionProblem {
  HeadLayout layout;
  float scale = 1;
  ConstActivations queries;  ///< [rows, heads * head_dim]
  std::span<const AttentionTask> tasks;
  AttentionBlocks blocks = {};
};

/// Softmax states of some keys, not yet normalised: for row r and head h the maximum score m, the sum l of
/// exp(score - m), and o = sum of exp(score - m) * value. The state of no keys is (-inf, 0, 0).
struct SoftmaxStates {
  Activations maximum;  ///< [rows, heads]
  Activations sum;      ///< [rows, heads]
  Activations output;   ///< [rows, heads * head_dim]
};

}  // namespace tessera
