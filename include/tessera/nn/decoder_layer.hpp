#pragma once
// The decoder layer, written once for every model family, sharding, softmax and instruction set.

#include <array>

#include <tessera/kernels/gemm.hpp>
#include <tessera/kernels/rms_norm.hpp>
#include <tessera/kernels/rope.hpp>
#include <tessera/nn/layer_weights.hpp>
#include <tessera/nn/workspace.hpp>
#include <tessera/policies/kv_cache.hpp>

namespace tessera {

/// x += o_proj(attention(norm(x))). `w` is this rank's slice; every worker of the team calls it.
template <class Softmax, class B, class Phase>
void attention_block(Worker& worker, Phase& phase, const ModelConfig& config, const RopeTable& rope,
                     const LayerWeights& w, const StepActivations& a, KvCache& cache, index_t layer) {
  const auto eps = static_cast<float>(config.rms_norm_eps);
  const index_t kv_width = a.kv.cols / 2;
  const Activations k = a.kv.col_range({0, kv_width});
  const Activations v = a.kv.col_range({kv_width, 2 * kv_width});

  rms_norm<B>(worker, a.x, w.input_norm, eps, a.normed);
  const ConstActivations h = phase.gather(worker, a.normed);
  project<B>(worker, h,
             std::array{Projection{w.q_proj, w.q_bias.data(), a.q}, Projection{w.k_proj, w.k_bias.data(), k},
                        Projection{w.v_proj, w.v_bias.data(), v}});
  norm_and_rotate<B>(worker, a.q, w.q_norm, eps, a.positions, rope);
  norm_and_rotate<B>(worker, k, w.k_norm, eps, a.positions, rope);
  phase.template attend<Softmax, B>(worker, a.q, a.kv, cache, layer, a.attended);
  project<B>(worker, a.attended, std::array{Projection{w.o_proj, nullptr, a.partial}});
  phase.template combine<B>(worker, a.partial, a.x);
}

/// x += down_proj(silu(gate_proj(norm(x))) * up_proj(norm(x))).
template <class B, class Phase>
void mlp_block(Worker& worker, Phase& phase, const ModelConfig& config, const LayerWeights& w,
               const StepActivations& a) {
  rms_norm<B>(worker, a.x, w.post_attention_norm, static_cast<float>(config.rms_norm_eps), a.normed);
  const ConstActivations h = phase.gather(worker, a.normed);
  project_gated<B>(worker, h, w.gate_proj, w.up_proj, a.hidden);
  project<B>(worker, a.hidden, std::array{Projection{w.down_proj, nullptr, a.partial}});
  phase.template combine<B>(worker, a.partial, a.x);
}

template <class Softmax, class B, class Phase>
void decoder_layer(Worker& worker, Phase& phase, const ModelConfig& config, const RopeTable& rope,
                   const LayerWeights& weights, const WeightSlice& slice, const StepActivations& a, KvCache& cache,
                   index_t layer) {
  const LayerWeights w = slice_of(weights, slice, config.head_dim);
  attention_block<Softmax, B>(worker, phase, config, rope, w, a, cache, layer);
  mlp_block<B>(worker, phase, config, w, a);
}

}  // namespace tessera
