#pragma once
// Rotary position embedding in the half-split layout of Hugging Face checkpoints (arXiv:2104.09864): elements i and
// i + head_dim/2 are one pair, turned by position * theta^(-2i/head_dim).

#include <cmath>
#include <numbers>
#include <span>

#include <tessera/core/buffer.hpp>
#include <tessera/core/model_config.hpp>
#include <tessera/kernels/rms_norm.hpp>

namespace tessera {

/// Angle per position of pair `i`, with Llama 3's rescaling of low frequencies where the config asks for it.
[[nodiscard]] inline double rope_frequency(const RopeConfig& rope, index_t i, index_t head_dim) {
  const double frequency = std::pow(rope.theta, -2.0 * static_cast<double>(i) / static_cast<double>(head_dim));
  if (rope.factor == 1.0) return frequency;
  // Wavelengths beyond the original context are stretched by `factor`, short ones kept, those between interpolated.
  const double wavelength = 2.0 * std::numbers::pi / frequency;
  const auto context = static_cast<double>(rope.original_max_positions);
  if (wavelength > context / rope.low_freq_factor) return frequency / rope.factor;
  if (wavelength < context / rope.high_freq_factor) return frequency;
  const double smooth = (context / wavelength - rope.low_freq_factor) / (rope.high_freq_factor - rope.low_freq_factor);
  return (1.0 - smooth) * frequency / rope.factor + smooth * frequency;
}

/// Cosines and sines of every position and pair, computed once in double precision.
class RopeTable {
 public:
  RopeTable(const RopeConfig& rope, index_t positions, index_t head_dim)
      : half_(head_dim / 2), cos_(positions * half_), sin_(positions * half_) {
    for (index_t i = 0; i < half_; ++i) {
      const double frequency = rope_frequency(rope, i, head_dim);
      for (index_t p = 0; p < positions; ++p) {
        cos_[p * half_ + i] = static_cast<float>(std::cos(static_cast<double>(p) * frequency));
        sin_[p * half_ + i] = static_cast<float>(std::sin(static_cast<double>(p) * frequency));
      }
    }
  }

  [[nodiscard]] index_t half() const { return half_; }
  [[nodiscard]] const float* cos(index_t position) const { return cos_.data() + position * half_; }
  [[nodiscard]] const float* sin(index_t position) const { return sin_.data() + position * half_; }

 private:
  index_t half_;
  Buffer<float> cos_;
  Buffer<float> sin_;
};

/// The table for a model whose products are backend B's.
template <SimdBackend B>
[[nodiscard]] RopeTable rope_table(const RopeConfig& rope, index_t positions, index_t head_dim) {
  return {rope, positions, head_dim};
}

/// Turns one head in place.
template <SimdBackend B>
void rotate_head(float* x, const float* cos, const float* sin, index_t half) {
  constexpr index_t W = B::width;
  for (index_t i = 0; i < half; i += W) {
    const index_t n = half - i < W ? half - i : W;
    const auto a = B::load_partial(x + i, n);
    const auto b = B::load_partial(x + half + i, n);
    const auto c = B::load_partial(cos + i, n);
    const auto s = B::load_partial(sin + i, n);
    B::store_partial(x + i, B::sub(B::mul(a, c), B::mul(b, s)), n);
    B::store_partial(x + half + i, B::fma(b, c, B::mul(a, s)), n);
  }
}

/// In a trace: norm and rotary embedding of heads.
inline constexpr TraceName trace_rotate{"norm_and_rotate", TraceKind::kernel, "tokens"};

/// Rows of heads * head_dim, and the weights of a norm of each head; none where they are empty.
struct Heads {
  Activations x;
  std::span<const float> norm;
};

/// Normalises each head where it has a norm, then turns it by its row's position. The heads of all parts are shared
/// among the workers as one list: q and k take one meeting.
template <SimdBackend B>
void norm_and_rotate(Worker& worker, std::span<const Heads> parts, float eps, std::span<const index_t> positions,
                     const RopeTable& table) {
  const TraceScope scope(worker.lane(), trace_rotate, parts.front().x.rows);
  const index_t head_dim = 2 * table.half();
  index_t all = 0, before = 0;
  for (const Heads& part : parts) all += part.x.rows * (part.x.cols / head_dim);
  const Range mine = worker.share(all);
  for (const Heads& part : parts) {
    const index_t heads = part.x.cols / head_dim, here = part.x.rows * heads;
    const Range own = intersect(mine, {before, before + here});
    for (index_t i = own.begin - before; i < own.end - before; ++i) {
      const index_t row = i / heads;
      float* head = part.x.row(row) + (i % heads) * head_dim;
      if (!part.norm.empty()) rms_norm_row<B>(head, part.norm.data(), eps, head_dim, head);
      const index_t position = positions[static_cast<std::size_t>(row)];
      rotate_head<B>(head, table.cos(position), table.sin(position), table.half());
    }
    before += here;
  }
  worker.barrier();
}

}  // namespace tessera
