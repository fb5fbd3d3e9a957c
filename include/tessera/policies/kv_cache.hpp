#pragma once
// Keys and values of one rank, as its CacheLayout says: [layer][sequence][kv head][slot][head_dim], f32.

#include <tessera/core/buffer.hpp>
#include <tessera/kernels/attention_problem.hpp>
#include <tessera/policies/cache_layout.hpp>

namespace tessera {

/// Memory for the keys and values of all layers and sequences that one rank stores; pages are taken on first touch.
/// Moves are cheap, there is no copy. Errors: Error where the memory is not to be had.
class KvCache {
 public:
  KvCache() = default;
  KvCache(CacheLayout layout, index_t layers, index_t sequences, index_t max_positions, index_t head_dim)
      : layout_(layout),
        sequences_(sequences),
        head_dim_(head_dim),
        slots_(layout.capacity(max_positions)),
        keys_(floats(layout, layers, sequences, max_positions, head_dim) / 2),
        values_(keys_.size()) {}

  /// Floats of the keys and values of such a cache.
  [[nodiscard]] static constexpr index_t floats(const CacheLayout& layout, index_t layers, index_t sequences,
                                                index_t max_positions, index_t head_dim) {
    return 2 * layers * sequences * layout.kv_heads.size() * layout.capacity(max_positions) * head_dim;
  }

  [[nodiscard]] const CacheLayout& layout() const { return layout_; }
  [[nodiscard]] std::size_t bytes() const { return keys_.bytes() + values_.bytes(); }

  [[nodiscard]] KeyValueView view(index_t layer, index_t sequence) const {
    const index_t at = offset(layer, sequence, 0, 0);
    return {keys_.data() + at, values_.data() + at, slots_ * head_dim_, head_dim_};
  }
  /// Where the key of local KV head `head` in slot `slot` is written: head_dim floats.
  [[nodiscard]] float* key(index_t layer, index_t sequence, index_t head, index_t slot) const {
    return keys_.data() + offset(layer, sequence, head, slot);
  }
  [[nodiscard]] float* value(index_t layer, index_t sequence, index_t head, index_t slot) const {
    return values_.data() + offset(layer, sequence, head, slot);
  }

 private:
  [[nodiscard]] index_t sequence_size() const { return layout_.kv_heads.size() * slots_ * head_dim_; }
  [[nodiscard]] index_t offset(index_t layer, index_t sequence, index_t head, index_t slot) const {
    return (layer * sequences_ + sequence) * sequence_size() + (head * slots_ + slot) * head_dim_;
  }

  CacheLayout layout_;
  index_t sequences_ = 0;
  index_t head_dim_ = 0;
  index_t slots_ = 0;
  Buffer<float> keys_;
  Buffer<float> values_;
};

}  // namespace tessera
