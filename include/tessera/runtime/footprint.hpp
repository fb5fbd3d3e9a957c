#pragma once
// What a rank of a model that is not there yet will hold: bytes, from the functions that make it so when it is there.

#include <tessera/kernels/gemm_shape.hpp>
#include <tessera/nn/workspace.hpp>
#include <tessera/policies/sharding_arithmetic.hpp>
#include <tessera/runtime/vocabulary.hpp>
#include <tessera/runtime/weight_formats.hpp>

namespace tessera {

/// Bytes of a weight, and of a number in the KV cache, on average, with what scales take.
struct BytesPerNumber {
  double layers = 2;
  double lm_head = 2;
  double cached = 4;
};

/// How a checkpoint has the matrices of its layers, and lm_head or what stands for it.
struct StoredTypes {
  DType layers = DType::bf16;
  DType lm_head = DType::bf16;
};

/// The element type that a weight stored as `stored` has once it is converted to the format `name`.
[[nodiscard]] inline DType converted_type(DType stored, std::string_view name) {
  with_format_named(name, [&]<class F>(F) {
    if constexpr (BlockFormat<F>) stored = F::dtype;
  });
  return stored;
}

/// `stored` as `formats` converts it, the exceptions that it makes for single matrices left aside.
[[nodiscard]] inline StoredTypes converted_types(const StoredTypes& stored, const WeightFormats& formats) {
  return {converted_type(stored.layers, formats.layers),
          converted_type(stored.lm_head, formats.lm_head.empty() ? formats.layers : formats.lm_head)};
}

/// Bytes of a weight, with what scales take.
[[nodiscard]] inline double bytes_of_weight(DType dtype) {
  if (!is_blocks(dtype)) return static_cast<double>(bytes_of(dtype, 1));
  return with_block_format(dtype, []<class F>(F) {
    return static_cast<double>(F::bytes + F::planes * static_cast<index_t>(sizeof(f16_t))) / weight_block;
  });
}

/// Of weights as `used`, and of a cache of heads of `head_dim` numbers.
[[nodiscard]] inline BytesPerNumber bytes_per_number(const StoredTypes& used, CacheType cache, index_t head_dim) {
  return {bytes_of_weight(used.layers), bytes_of_weight(used.lm_head),
          static_cast<double>(bytes_of_head(cache, head_dim)) / static_cast<double>(head_dim)};
}

/// A step that somebody thinks of: `count` new tokens of each of some sequences that hold `position` each, and logits
/// of the last token of each.
class PlannedStep {
 public:
  PlannedStep(index_t sequences, index_t position, index_t count, bool wants_logits = true) {
    for (index_t s = 0; s < sequences; ++s) {
      segments_.push_back({s, position, s * count, count});
      if (wants_logits) wanted_.push_back((s + 1) * count - 1);
    }
  }
  [[nodiscard]] Step step() const {
    index_t rows = 0;
    for (const Segment& s : segments_) rows += s.count;
    return {segments_, rows, wanted_};
  }

 private:
  std::vector<Segment> segments_;
  std::vector<index_t> wanted_;
};

/// Weights in the matrices of a layer that a slice uses.
[[nodiscard]] constexpr index_t layer_weights(const ModelConfig& config, const WeightSlice& slice) {
  const index_t attention = 2 * (slice.q_heads.size() + slice.kv_heads.size()) * config.head_dim;
  return config.hidden * (attention + 3 * slice.ffn.size());
}

/// Bytes that a rank touches of a model in use.
struct Footprint {
  index_t weights = 0;  ///< of its slices, in prefill or in decode; rows of the embedding that tokens ask for left out
  index_t cache = 0;    ///< keys and values, of all positions
  index_t activations = 0;  ///< of the longest step, with the table of rotary positions and what products pack
  index_t exchange = 0;     ///< buffers of what travels between ranks

  /// What no other rank shares; weights are mapped, and the ranks of a machine share their pages.
  [[nodiscard]] index_t own() const { return cache + activations + exchange; }
  [[nodiscard]] index_t total() const { return weights + own(); }
};

namespace detail {

/// How much of two ranges together.
[[nodiscard]] constexpr Range united(Range a, Range b) {
  return {0, a.size() + b.size() - std::max<index_t>(0, intersect(a, b).size())};
}

}  // namespace detail

/// Of rank `ranks.rank`, when prompts are read in steps of up to limits.max_tokens and the cache fills to its end.
[[nodiscard]] inline Footprint footprint(const ShardingArithmetic& sharding, const ModelConfig& config,
                                         const Ranks& ranks, const Limits& limits, const BytesPerNumber& bytes) {
  const auto as_bytes = [](index_t floats) { return floats * static_cast<index_t>(sizeof(float)); };
  const PlannedStep prompt(1, 0, std::max<index_t>(limits.max_tokens, 2)), token(1, limits.max_positions - 1, 1);
  const WeightSlice a = sharding.plan(config, ranks, prompt.step()).slice;
  const WeightSlice b = sharding.plan(config, ranks, token.step()).slice;
  const WeightSlice held{detail::united(a.q_heads, b.q_heads), detail::united(a.kv_heads, b.kv_heads),
                         detail::united(a.ffn, b.ffn), detail::united(a.vocab, b.vocab)};
  const WeightSlice widest = sharding.widest(config, ranks);
  const index_t rows = sharding.max_rows(config, ranks, limits);
  const index_t wanted = std::max(limits.max_sequences, limits.max_wanted) * (config.hidden + held.vocab.size()) +
                         2 * std::min(limits.max_wanted, whole_rows) * config.vocab;  // who wants many gathers them
  const index_t packed = std::min(rows, PanelShape<ScalarBackend>::tokens) *
                         std::max({config.hidden, widest.ffn.size(), widest.q_heads.size() * config.head_dim});
  Footprint result;
  result.weights =
      static_cast<index_t>(bytes.layers * static_cast<double>(config.layers * layer_weights(config, held)) +
                           bytes.lm_head * static_cast<double>(config.hidden * held.vocab.size()));
  result.cache =
      2 * bytes_of_head(limits.cache, config.head_dim) *
      KvCache::heads(sharding.layout(config, ranks), config.layers, limits.max_sequences, limits.max_positions);
  result.activations = static_cast<index_t>(Workspace::bytes(config, rows, widest)) +
                       as_bytes(wanted + packed + limits.max_positions * config.head_dim);
  result.exchange = ranks.size == 1 ? 0 : as_bytes(sharding.exchange_floats(config, ranks, limits));
  return result;
}

}  // namespace tessera
