// What the machine's arithmetic and its memory allow of a case at best.
#include <algorithm>

#include "program/benchmark.hpp"

namespace tessera::program {

namespace {

/// Arithmetic and bytes of `rows` new tokens of one sequence behind `context`, with logits of the last, per step.
double best_seconds(const ModelConfig& m, CacheType stored, const WeightBytes& weights, const MachinePeak& peak,
                    index_t sequences, index_t context, index_t rows, index_t steps_over_weights) {
  double layer_weights = 0;  // elements
  const index_t q = m.heads * m.head_dim;
  const index_t kv = m.kv_heads * m.head_dim;
  const index_t kv_bytes = 2 * m.kv_heads * bytes_of_head(stored, m.head_dim);
  layer_weights = static_cast<double>(m.layers * m.hidden * (2 * q + 2 * kv + 3 * m.intermediate));
  const auto n = static_cast<double>(rows);
  const double pairs = n * static_cast<double>(context) + n * (n + 1) / 2;
  const double flops = 2 * layer_weights * n + 4 * pairs * static_cast<double>(q * m.layers) +
                       2 * static_cast<double>(m.vocab * m.hidden);
  const double cache = static_cast<double>(m.layers * kv_bytes) * static_cast<double>(context + rows);
  const double bytes = static_cast<double>(steps_over_weights) * weights.layers + weights.lm_head +
                       static_cast<double>(sequences) * cache;
  return std::max(static_cast<double>(sequences) * flops / peak.flops, bytes / peak.bandwidth());
}

}  // namespace

WeightBytes bytes_of(const ModelWeights& weights) {
  WeightBytes sum;
  for (const LayerWeights& layer : weights.layers)
    for (const WeightView* w : {&layer.q_proj, &layer.k_proj, &layer.v_proj, &layer.o_proj, &layer.gate_proj,
                                &layer.up_proj, &layer.down_proj})
      sum.layers += static_cast<double>(w->bytes());
  sum.lm_head = static_cast<double>(weights.lm_head.bytes());
  return sum;
}

double seconds_bound(const ModelConfig& config, const Limits& limits, const ModelWeights& weights,
                     const BenchmarkCase& of, const MachinePeak& peak) {
  const WeightBytes bytes = bytes_of(weights);
  const auto whole = [&](index_t length) {
    const index_t steps = ceil_div(length * of.batch_size, limits.max_tokens);
    return best_seconds(config, limits.cache, bytes, peak, of.batch_size, 0, length, steps);
  };
  if (of.phase == BenchmarkPhase::prefill) return whole(of.prompt_len);
  double seconds = 0;
  for (index_t i = 0; i < of.gen_len; ++i)
    seconds += of.kv_cache ? best_seconds(config, limits.cache, bytes, peak, of.batch_size, of.prompt_len + i, 1, 1)
                           : whole(of.prompt_len + i + 1);
  return seconds;
}

void hold_against(BenchmarkRow& row, const AnyModel& model, const ModelWeights& weights, const MachinePeak& before,
                  const MachinePeak& after) {
  row.peak = {(before.flops + after.flops) / 2, (before.file_bandwidth + after.file_bandwidth) / 2,
              (before.buffer_bandwidth + after.buffer_bandwidth) / 2};
  row.seconds_bound = seconds_bound(model.config(), model.limits(), weights, row.of, row.peak);
}

}  // namespace tessera::program
