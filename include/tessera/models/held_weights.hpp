#pragma once
// The weights that a rank's steps read: slices of the mapped file, or copies of them in memory of the rank.
//
// Decode reads every weight of its slice for each token, and its limit is the rate at which they come. The pages of a
// mapped file are small (4 KiB on most systems), so that a core looks up an address for every 64 cache lines; copies
// lie on huge pages, row after row without gaps, and come faster for it. `benchmark_qwen3 --copy-weights` shows by how
// much: peak_bytes_file and peak_bytes_buffer of its JSON are the rates of the two kinds of memory.

#include <array>
#include <cstddef>
#include <utility>
#include <vector>

#include <tessera/core/buffer.hpp>
#include <tessera/core/weight_format.hpp>
#include <tessera/models/weights.hpp>
#include <tessera/parallel/team.hpp>

namespace tessera {

namespace detail {

/// A line for each of the two parts of a copy, so that both begin with one.
inline constexpr index_t copy_grain = 64;

[[nodiscard]] constexpr index_t whole_lines(index_t bytes) { return ceil_div(bytes, copy_grain) * copy_grain; }

/// A part of a weight that lies in pieces of equal size, `pitch` bytes apart: its rows, or integers or scales of
/// groups.
struct CopiedPart {
  const void* data;
  index_t pieces, bytes, pitch;

  [[nodiscard]] index_t room() const { return whole_lines(pieces * bytes); }
  void copy(Range of, std::byte* to) const {
    for (index_t i = of.begin; i < of.end; ++i)
      std::memcpy(to + i * bytes, static_cast<const std::byte*>(data) + i * pitch, static_cast<std::size_t>(bytes));
  }
};

/// What is copied of `w`: elements, then scales where there are some.
[[nodiscard]] inline std::array<CopiedPart, 2> copied_parts(const WeightView& w) {
  if (!is_blocks(w.dtype)) return {CopiedPart{w.data, w.rows, bytes_of(w.dtype, w.cols), bytes_of(w.dtype, w.stride)}};
  constexpr auto size = static_cast<index_t>(sizeof(f16_t));
  const auto integers = [&](index_t cols) { return bytes_of(w.dtype, group_rows * cols); };
  return {CopiedPart{w.data, w.groups(), integers(w.cols), integers(w.stride)},
          CopiedPart{w.scales, w.groups(), w.scales_of(w.cols) * size, w.scales_of(w.stride) * size}};
}

[[nodiscard]] inline index_t bytes_of_copy(const WeightView& w) {
  const auto [elements, scales] = copied_parts(w);
  return elements.room() + scales.room();
}

/// Copies `w` to `memory`, shared among the workers as products share rows: who reads a row touches it first.
[[nodiscard]] inline WeightView copy_weight(Worker& worker, const WeightView& w, std::byte* memory) {
  const auto [elements, scales] = copied_parts(w);
  const Range mine = worker.share(elements.pieces);
  elements.copy(mine, memory);
  WeightView copy = w;
  copy.stride = w.cols;
  copy.data = memory;
  if (is_blocks(w.dtype)) {
    scales.copy(mine, memory + elements.room());
    copy.scales = reinterpret_cast<const f16_t*>(memory + elements.room());
  }
  return copy;
}

}  // namespace detail

/// The weights of a whole model, and which of them a rank has copies of. Moves are cheap.
class HeldWeights {
 public:
  HeldWeights(ModelWeights weights, index_t head_dim) : weights_(std::move(weights)), head_dim_(head_dim) {}

  /// Copies what steps with `slice` read, the rank's rows of lm_head with it. Throws Error where there is no memory.
  void copy(const WeightSlice& slice, Team& team) {
    std::vector<LayerWeights> copies;
    for (const LayerWeights& layer : weights_.layers) copies.push_back(slice_of(layer, slice, head_dim_));
    WeightView head = weights_.lm_head.row_range(slice.vocab);
    std::vector<WeightView*> all{&head};
    for (LayerWeights& w : copies)
      all.insert(all.end(), {&w.q_proj, &w.k_proj, &w.v_proj, &w.o_proj, &w.gate_proj, &w.up_proj, &w.down_proj});
    index_t bytes = 0;
    for (const WeightView* w : all) bytes += detail::bytes_of_copy(*w);
    memory_ = Buffer<std::byte>(bytes);
    std::vector<WeightView> places(all.size());
    team.run([&](Worker& worker) {
      std::byte* next = memory_.data();
      for (std::size_t i = 0; i < all.size(); ++i) {
        const WeightView copied = detail::copy_weight(worker, *all[i], next);
        next += detail::bytes_of_copy(*all[i]);
        if (worker.index() == 0) places[i] = copied;
      }
    });
    for (std::size_t i = 0; i < all.size(); ++i) *all[i] = places[i];
    copies_ = std::move(copies);
    copied_head_ = head;
    copied_ = slice;
  }

  /// Of a step with this slice.
  [[nodiscard]] LayerWeights layer(index_t l, const WeightSlice& slice) const {
    const auto at = static_cast<std::size_t>(l);
    return has_copy_of(slice) ? copies_[at] : slice_of(weights_.layers[at], slice, head_dim_);
  }
  /// A rank's rows of lm_head.
  [[nodiscard]] WeightView lm_head(Range vocab) const {
    return !copies_.empty() && copied_.vocab == vocab ? copied_head_ : weights_.lm_head.row_range(vocab);
  }
  [[nodiscard]] const WeightView& embedding() const { return weights_.embedding; }
  [[nodiscard]] std::span<const float> final_norm() const { return weights_.final_norm; }
  /// Of the copies.
  [[nodiscard]] std::size_t bytes() const { return memory_.bytes(); }

 private:
  [[nodiscard]] bool has_copy_of(const WeightSlice& slice) const { return !copies_.empty() && copied_ == slice; }

  ModelWeights weights_;
  index_t head_dim_;
  Buffer<std::byte> memory_;
  std::vector<LayerWeights> copies_;
  WeightView copied_head_;
  WeightSlice copied_;
};

}  // namespace tessera
