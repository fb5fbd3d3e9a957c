#pragma once
// The activations of a step: taken once, sized for the longest step, shared by all layers.

#include <vector>

#include <tessera/core/buffer.hpp>
#include <tessera/policies/plan.hpp>

namespace tessera {

/// Views of the workspace for one step. `kept` rows are the residual stream's, `computed` rows those that are
/// projected.
struct StepActivations {
  Activations x;                 ///< [kept, hidden] the residual stream
  Activations normed;            ///< [kept, hidden]
  Activations q;                 ///< [computed, q heads * head_dim]
  Activations kv;                ///< [computed, 2 * kv heads * head_dim] keys, then values
  Activations attended;          ///< [computed, q heads * head_dim]
  Activations hidden;            ///< [computed, ffn columns]
  Activations partial;           ///< [computed, hidden] this rank's part of a sum
  std::span<index_t> positions;  ///< [computed]
};

/// Owns the activations. Moves are cheap, there is no copy. Errors: Error where the memory is not to be had.
class Workspace {
 public:
  /// Room for `max_rows` rows of any of the slices that the policy's phases use; the widest are given.
  Workspace(const ModelConfig& config, index_t max_rows, const WeightSlice& widest)
      : config_(config),
        x_(max_rows * config.hidden),
        normed_(max_rows * config.hidden),
        q_(max_rows * widest.q_heads.size() * config.head_dim),
        kv_(max_rows * 2 * widest.kv_heads.size() * config.head_dim),
        attended_(q_.size()),
        hidden_(max_rows * widest.ffn.size()),
        partial_(max_rows * config.hidden),
        positions_(static_cast<std::size_t>(max_rows)) {}

  /// Room for a plan's rows behind what plans before it have taken.
  [[nodiscard]] StepActivations views(const Plan& plan, index_t kept_before = 0, index_t computed_before = 0) {
    const index_t kept = plan.kept.size();
    const index_t computed = plan.computed.size();
    const index_t q = plan.slice.q_heads.size() * config_.head_dim;
    const index_t kv = plan.slice.kv_heads.size() * config_.head_dim;
    const auto behind = [](const Buffer<float>& buffer, index_t before, index_t rows, index_t cols) {
      return buffer.matrix(before + rows, cols).row_range({before, before + rows});
    };
    return {
        behind(x_, kept_before, kept, config_.hidden),
        behind(normed_, kept_before, kept, config_.hidden),
        behind(q_, computed_before, computed, q),
        behind(kv_, computed_before, computed, 2 * kv),
        behind(attended_, computed_before, computed, q),
        behind(hidden_, computed_before, computed, plan.slice.ffn.size()),
        behind(partial_, computed_before, computed, config_.hidden),
        std::span(positions_).subspan(static_cast<std::size_t>(computed_before), static_cast<std::size_t>(computed))};
  }

  /// Of the activations of so many rows.
  [[nodiscard]] static std::size_t bytes(const ModelConfig& config, index_t max_rows, const WeightSlice& widest) {
    const index_t heads = 2 * (widest.q_heads.size() + widest.kv_heads.size());  // q, keys, values, attended
    return static_cast<std::size_t>(max_rows * (3 * config.hidden + heads * config.head_dim + widest.ffn.size())) *
           sizeof(float);
  }
  [[nodiscard]] std::size_t bytes() const {
    return x_.bytes() + normed_.bytes() + q_.bytes() + kv_.bytes() + attended_.bytes() + hidden_.bytes() +
           partial_.bytes();
  }

 private:
  ModelConfig config_;
  Buffer<float> x_, normed_, q_, kv_, attended_, hidden_, partial_;
  std::vector<index_t> positions_;
};

}  // namespace tessera
