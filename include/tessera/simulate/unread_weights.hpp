#pragma once
// Weights that nobody reads: views of the right shapes on memory that is reserved, of which no page is ever touched.

#include <sys/mman.h>

#include <algorithm>
#include <memory>

#include <tessera/core/families.hpp>
#include <tessera/models/weights.hpp>

namespace tessera {

namespace detail {

/// Address space of which no page is touched.
class UnreadStorage final : public WeightStorage {
 public:
  explicit UnreadStorage(std::size_t bytes)
      : bytes_(bytes), memory_(::mmap(nullptr, bytes, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)) {
    require(memory_ != MAP_FAILED, "weights: no room in the address space for ", bytes, " bytes");
  }
  ~UnreadStorage() override { ::munmap(memory_, bytes_); }

  [[nodiscard]] const void* memory() const { return memory_; }
  void check_unchanged() const override {}  // there is no file

 private:
  std::size_t bytes_;
  void* memory_;
};

}  // namespace detail

/// Weights of a model of this shape, matrices in bf16. All views begin at one place: a copy costs no memory, and who
/// reads one reads zeros. Errors: the address space that the largest matrix takes is not to be had.
[[nodiscard]] inline ModelWeights unread_weights(const ModelConfig& config) {
  const index_t q = config.heads * config.head_dim, kv = config.kv_heads * config.head_dim;
  const index_t rows = std::max({config.vocab, q, config.intermediate, config.hidden});
  const index_t cols = std::max({config.hidden, q, config.intermediate});
  const auto bytes = static_cast<std::size_t>(bytes_of(DType::f32, rows * cols));
  const auto storage = std::make_shared<const detail::UnreadStorage>(bytes);
  const void* const memory = storage->memory();

  const auto matrix = [&](index_t outputs, index_t inputs) {
    return WeightView{memory, DType::bf16, outputs, inputs, inputs};
  };
  const auto vector = [&](bool there, index_t n) {
    return std::span<const float>(static_cast<const float*>(memory), there ? static_cast<std::size_t>(n) : 0);
  };
  const bool norms_heads = family_named(config.model_type).qk_norm;
  LayerWeights layer;
  layer.input_norm = layer.post_attention_norm = vector(true, config.hidden);
  layer.q_proj = matrix(q, config.hidden);
  layer.k_proj = layer.v_proj = matrix(kv, config.hidden);
  layer.o_proj = matrix(config.hidden, q);
  layer.q_bias = vector(config.attention_bias, q);
  layer.k_bias = layer.v_bias = vector(config.attention_bias, kv);
  layer.q_norm = layer.k_norm = vector(norms_heads, config.head_dim);
  layer.gate_proj = layer.up_proj = matrix(config.intermediate, config.hidden);
  layer.down_proj = matrix(config.hidden, config.intermediate);
  ModelWeights weights;
  weights.embedding = weights.lm_head = matrix(config.vocab, config.hidden);
  weights.layers.assign(static_cast<std::size_t>(config.layers), layer);
  weights.final_norm = vector(true, config.hidden);
  weights.storage = storage;
  return weights;
}

}  // namespace tessera
