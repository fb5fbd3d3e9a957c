#pragma once
// Phased: one policy for prefill, another for decode, on one cache.

#include <tessera/policies/sharding.hpp>

namespace tessera {

/// Runs a step of one new token per sequence under `Decode`, any other under `Prefill`.
template <class Prefill, class Decode>
class Phased {
  static_assert(PhasePolicy<Prefill>, "Phased<Prefill, Decode>: Prefill is no PhasePolicy; see policies/sharding.hpp");
  static_assert(PhasePolicy<Decode>, "Phased<Prefill, Decode>: Decode is no PhasePolicy; see policies/sharding.hpp");
  static_assert(
      std::is_same_v<typename Prefill::Cache, typename Decode::Cache>,
      "Phased<Prefill, Decode>: the phases store the KV cache differently (by heads, or striped by position); "
      "choose a Decode that reads what Prefill stores, e.g. Helix after Sequence, HeadWise after HeadWise");

 public:
  using Cache = typename Prefill::Cache;
  static constexpr std::string_view decode_name = Decode::decode_name;

  static void check(const ModelConfig& config, const Ranks& ranks) {
    Prefill::check(config, ranks);
    Decode::check(config, ranks);
  }
  [[nodiscard]] static constexpr Plan plan(const ModelConfig& config, const Ranks& ranks, const Step& step) {
    return step.is_decode() ? Decode::plan(config, ranks, step.rows) : Prefill::plan(config, ranks, step.rows);
  }
  [[nodiscard]] static constexpr CacheLayout layout(const ModelConfig& config, const Ranks& ranks) {
    return Prefill::layout(config, ranks);
  }
  [[nodiscard]] static constexpr WeightSlice widest(const ModelConfig& config, const Ranks& ranks) {
    return widest_of(Prefill::widest(config, ranks), Decode::widest(config, ranks));
  }
  [[nodiscard]] static constexpr index_t max_rows(const ModelConfig& config, const Ranks& ranks, const Limits& limits) {
    return std::max(Prefill::max_rows(config, ranks, limits), Decode::max_rows(config, ranks, decode_limits(limits)));
  }

  [[nodiscard]] static Traffic traffic(const ModelConfig& config, const Ranks& ranks, const Step& step) {
    return step.is_decode() ? Decode::traffic(config, ranks, step) : Prefill::traffic(config, ranks, step);
  }
  [[nodiscard]] static Traffic selection_traffic(const ModelConfig& config, const Ranks& ranks, const Step& step) {
    return step.is_decode() ? Decode::selection_traffic(config, ranks, step)
                            : Prefill::selection_traffic(config, ranks, step);
  }
  [[nodiscard]] static index_t exchange_floats(const ModelConfig& config, const Ranks& ranks, const Limits& limits) {
    return Prefill::exchange_floats(config, ranks, limits) +
           Decode::exchange_floats(config, ranks, decode_limits(limits));
  }
  [[nodiscard]] static index_t pairs(const ModelConfig& config, const Ranks& ranks, const Step& step) {
    return step.is_decode() ? Decode::pairs(config, ranks, step) : Prefill::pairs(config, ranks, step);
  }

  explicit Phased(const ShardingContext& context)
      : prefill_(context),
        decode_({context.comm, context.config, decode_limits(context.limits), context.shares, context.inner}) {}

  template <class F>
  void visit(const Step& step, F&& f) {
    if (step.is_decode())
      decode_.visit(step, f);
    else
      prefill_.visit(step, f);
  }

 private:
  /// A decode step has one row per sequence.
  [[nodiscard]] static constexpr Limits decode_limits(Limits limits) {
    limits.max_tokens = std::min(limits.max_tokens, limits.max_sequences);
    return limits;
  }

  Prefill prefill_;
  Decode decode_;
};

}  // namespace tessera
