#pragma once
// Who stores which keys and values: by heads, or striped by position. A pure function of sequence and position.

#include <tessera/policies/plan.hpp>

namespace tessera {

/// The part of a KV cache that one rank stores: a range of KV heads, and of the positions the blocks of one stripe.
/// Law: over the ranks of a policy every (position, KV head) has an owner; slots of a stripe are in position order.
struct CacheLayout {
  Range kv_heads;
  index_t stripes = 1;
  index_t stripe = 0;

  /// Consecutive positions per block: short enough that stripes stay even in short contexts.
  static constexpr index_t block = 16;

  /// Stripe that stores a position; sequences start on different stripes, so that many short ones spread as well.
  [[nodiscard]] constexpr index_t owner(index_t sequence, index_t position) const {
    return (position / block + sequence) % stripes;
  }
  [[nodiscard]] constexpr bool owns(index_t sequence, index_t position) const {
    return owner(sequence, position) == stripe;
  }
  /// Slot of a position in its owner's stripe.
  [[nodiscard]] constexpr index_t slot(index_t position) const {
    return position / block / stripes * block + position % block;
  }
  /// Position that slot `slot` of this stripe holds.
  [[nodiscard]] constexpr index_t position(index_t sequence, index_t slot) const {
    return (slot / block * stripes + first_block(sequence, stripe)) * block + slot % block;
  }
  /// How many of the first `positions` positions stripe `s` stores: they fill its first slots.
  [[nodiscard]] constexpr index_t slots_of(index_t sequence, index_t positions, index_t s) const {
    const index_t blocks = positions / block;
    const index_t first = first_block(sequence, s);
    const index_t whole = blocks > first ? ceil_div(blocks - first, stripes) * block : 0;
    return whole + (blocks % stripes == first ? positions % block : 0);
  }
  [[nodiscard]] constexpr index_t slots(index_t sequence, index_t positions) const {
    return slots_of(sequence, positions, stripe);
  }
  /// Slots that hold any stripe of `positions` positions.
  [[nodiscard]] constexpr index_t capacity(index_t positions) const {
    return ceil_div(ceil_div(positions, block), stripes) * block;
  }

  friend constexpr bool operator==(const CacheLayout&, const CacheLayout&) = default;

 private:
  [[nodiscard]] constexpr index_t first_block(index_t sequence, index_t s) const {
    return (s + stripes - sequence % stripes) % stripes;
  }
};

/// How a policy stores the cache: `layout` is what one rank stores, when the cache of `slice`'s KV heads is shared by
/// `ranks`. Two phases of one model must name the same.
struct CacheByHeads {
  static constexpr std::string_view name = "by heads";
  /// All positions of the KV heads that this rank's query heads read.
  [[nodiscard]] static constexpr CacheLayout layout(const ModelConfig& config, const WeightSlice& slice,
                                                    const Ranks& ranks) {
    const Range q_heads = ranks.part(slice.q_heads.size());
    return {kv_heads_of({slice.q_heads.begin + q_heads.begin, slice.q_heads.begin + q_heads.end}, config.group()), 1,
            0};
  }
};
/// Striped by position over the ranks that share the heads.
struct CacheByPosition {
  static constexpr std::string_view name = "striped by position";
  /// All KV heads of the slice, of the positions of this rank's stripe.
  [[nodiscard]] static constexpr CacheLayout layout(const ModelConfig&, const WeightSlice& slice, const Ranks& ranks) {
    return {slice.kv_heads, ranks.size, ranks.rank};
  }
};

}  // namespace tessera
