#pragma once
// Keys and values of one rank, as its CacheLayout says: [layer][sequence][kv head][slot], heads of a CacheFormat each.

#include <tessera/core/buffer.hpp>
#include <tessera/kernels/attention_problem.hpp>
#include <tessera/policies/cache_layout.hpp>

namespace tessera {

/// Memory for the keys and values of all layers and sequences that one rank stores; pages are taken on first touch.
/// Moves are cheap, there is no copy. Errors: Error where the memory is not to be had.
class KvCache {
 public:
  KvCache() = default;
  KvCache(CacheLayout layout, index_t layers, index_t sequences, index_t max_positions, index_t head_dim,
          CacheType type = CacheType::f32)
      : layout_(layout),
        type_(type),
        sequences_(sequences),
        head_dim_(head_dim),
        slots_(layout.capacity(max_positions)),
        keys_(heads(layout, layers, sequences, max_positions) * head_bytes()),
        values_(keys_.size()) {}

  /// Keys that such a cache holds; as many values.
  [[nodiscard]] static constexpr index_t heads(const CacheLayout& layout, index_t layers, index_t sequences,
                                               index_t max_positions) {
    return layers * sequences * layout.kv_heads.size() * layout.capacity(max_positions);
  }
  /// Floats of the keys and values of one that holds floats.
  [[nodiscard]] static constexpr index_t floats(const CacheLayout& layout, index_t layers, index_t sequences,
                                                index_t max_positions, index_t head_dim) {
    return 2 * heads(layout, layers, sequences, max_positions) * head_dim;
  }

  [[nodiscard]] const CacheLayout& layout() const { return layout_; }
  [[nodiscard]] CacheType type() const { return type_; }
  [[nodiscard]] index_t head_dim() const { return head_dim_; }
  [[nodiscard]] std::size_t bytes() const { return keys_.bytes() + values_.bytes(); }

  [[nodiscard]] KeyValueView view(index_t layer, index_t sequence) const {
    const index_t at = offset(layer, sequence, 0, 0);
    return {keys_.data() + at, values_.data() + at, slots_ * head_bytes(), head_bytes(), type_};
  }

  /// Stores head_dim floats as the key of local KV head `head` in slot `slot`; returns what follows them.
  const float* store_key(index_t layer, index_t sequence, index_t head, index_t slot, const float* from) const {
    return store(from, keys_.data() + offset(layer, sequence, head, slot));
  }
  const float* store_value(index_t layer, index_t sequence, index_t head, index_t slot, const float* from) const {
    return store(from, values_.data() + offset(layer, sequence, head, slot));
  }
  /// Writes the key that is stored there as head_dim floats; returns where the next may go.
  float* load_key(index_t layer, index_t sequence, index_t head, index_t slot, float* to) const {
    return load(keys_.data() + offset(layer, sequence, head, slot), to);
  }
  float* load_value(index_t layer, index_t sequence, index_t head, index_t slot, float* to) const {
    return load(values_.data() + offset(layer, sequence, head, slot), to);
  }

 private:
  const float* store(const float* from, std::byte* to) const {
    with_cache_format(type_, [&]<class F>(F) { F::encode(from, head_dim_, to); });
    return from + head_dim_;
  }
  float* load(const std::byte* from, float* to) const {
    with_cache_format(type_, [&]<class F>(F) { F::decode(from, head_dim_, to); });
    return to + head_dim_;
  }
  [[nodiscard]] index_t head_bytes() const { return bytes_of_head(type_, head_dim_); }
  [[nodiscard]] index_t offset(index_t layer, index_t sequence, index_t head, index_t slot) const {
    return (((layer * sequences_ + sequence) * layout_.kv_heads.size() + head) * slots_ + slot) * head_bytes();
  }

  CacheLayout layout_;
  CacheType type_ = CacheType::f32;
  index_t sequences_ = 0;
  index_t head_dim_ = 0;
  index_t slots_ = 0;
  Buffer<std::byte> keys_;
  Buffer<std::byte> values_;
};

}  // namespace tessera
