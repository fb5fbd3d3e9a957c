#pragma once
// The decoder layer, written once for every model family, sharding, softmax and instruction set.

#include <array>
#include <span>
#include <utility>

#include <tessera/kernels/gemm.hpp>
#include <tessera/kernels/rms_norm.hpp>
#include <tessera/kernels/rope.hpp>
#include <tessera/nn/layer_weights.hpp>
#include <tessera/nn/workspace.hpp>
#include <tessera/policies/stored_rows.hpp>

namespace tessera {

/// In a trace: a decoder layer.
inline constexpr TraceName trace_layer{"layer", TraceKind::layer, "layer"};

/// Rows that pass through the layers together. With two of them a sum of one is under way while the other is computed:
/// a block starts the sum of what it gives, and whoever needs the residual stream next settles it first.
template <class Phase>
struct MicroBatch {
  Phase* phase = nullptr;
  Plan plan;
  StepActivations a;
  bool sum_is_started = false;

  void start_sum(Worker& worker) {
    phase->start_combine(worker, a.partial);
    sum_is_started = true;
  }
  template <SimdBackend B>
  void settle(Worker& worker) {
    if (std::exchange(sum_is_started, false)) phase->template finish_combine<B>(worker, a.partial, a.x);
  }
};

/// x += o_proj(attention(norm(x))), the sum started. `w` is this rank's slice; every worker of the team calls it.
template <class Softmax, class B, class Phase>
void attention_block(Worker& worker, MicroBatch<Phase>& batch, const ModelConfig& config, const RopeTable& rope,
                     const LayerWeights& w, KvCache& cache, index_t layer) {
  Phase& phase = *batch.phase;
  const StepActivations& a = batch.a;
  const auto eps = static_cast<float>(config.rms_norm_eps);
  const index_t kv_width = a.kv.cols / 2;
  const Activations k = a.kv.col_range({0, kv_width});
  const Activations v = a.kv.col_range({kv_width, 2 * kv_width});

  batch.template settle<B>(worker);
  rms_norm<B>(worker, a.x, w.input_norm, eps, a.normed);
  const ConstActivations h = phase.gather(worker, a.normed);
  project<B>(worker, h,
             std::array{Projection{w.q_proj, w.q_bias.data(), a.q}, Projection{w.k_proj, w.k_bias.data(), k},
                        Projection{w.v_proj, w.v_bias.data(), v}});
  norm_and_rotate<B>(worker, std::array{Heads{a.q, w.q_norm}, Heads{k, w.k_norm}}, eps, a.positions, rope);
  round_as_stored<B>(worker, a.kv, config.head_dim, cache.type());
  phase.template attend<Softmax, B>(worker, a.q, a.kv, cache, layer, a.attended);
  project<B>(worker, a.attended, std::array{Projection{w.o_proj, nullptr, a.partial}});
  batch.start_sum(worker);
}

/// x += down_proj(silu(gate_proj(norm(x))) * up_proj(norm(x))), the sum started.
template <class B, class Phase>
void mlp_block(Worker& worker, MicroBatch<Phase>& batch, const ModelConfig& config, const LayerWeights& w) {
  const StepActivations& a = batch.a;
  batch.template settle<B>(worker);
  rms_norm<B>(worker, a.x, w.post_attention_norm, static_cast<float>(config.rms_norm_eps), a.normed);
  const ConstActivations h = batch.phase->gather(worker, a.normed);
  project_gated<B>(worker, h, w.gate_proj, w.up_proj, a.hidden);
  project<B>(worker, a.hidden, std::array{Projection{w.down_proj, nullptr, a.partial}});
  batch.start_sum(worker);
}

/// One layer: x += attention, x += MLP, of each micro-batch by turns. `w` is this rank's slice. Later rows of a
/// sequence are in a later micro-batch: they find the keys of the earlier ones in the cache. Every worker calls it.
template <class Softmax, class B, class Phase>
void decoder_layer(Worker& worker, std::span<MicroBatch<Phase>> batches, const ModelConfig& config,
                   const RopeTable& rope, const LayerWeights& w, KvCache& cache, index_t layer) {
  const TraceScope scope(worker.lane(), trace_layer, layer);
  for (auto& batch : batches) attention_block<Softmax, B>(worker, batch, config, rope, w, cache, layer);
  for (auto& batch : batches) mlp_block<B>(worker, batch, config, w);
}

}  // namespace tessera
