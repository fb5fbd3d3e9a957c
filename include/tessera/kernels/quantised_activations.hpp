#pragma once
// Activations in 8 bits: blocks of 32 along a row, each with a scale of its own and what its products begin with.

#include <cmath>
#include <cstring>

#include <tessera/core/view.hpp>
#include <tessera/parallel/worker.hpp>
#include <tessera/simd/byte_dots.hpp>

namespace tessera {

/// T rows of whole blocks: x = scale * q, q from -127 to 127. A block with a number that is not finite has scale NaN.
struct QuantisedActivations {
  const std::int8_t* integers = nullptr;  ///< [T, cols]
  const float* scales = nullptr;          ///< [T, cols / 32]
  const float* sums = nullptr;            ///< [T, cols / 32], of the rounded x: what a minimum of weights is times
  const std::int32_t* starts = nullptr;   ///< [T, cols / 32], ByteDots::start() of the integers
  index_t rows = 0;
  index_t cols = 0;

  [[nodiscard]] index_t blocks() const { return cols / weight_block; }
  [[nodiscard]] QuantisedActivations row_range(Range r) const {
    return {integers + r.begin * cols,
            scales + r.begin * blocks(),
            sums + r.begin * blocks(),
            starts + r.begin * blocks(),
            r.size(),
            cols};
  }
  /// Rows, from the first of `c`'s columns on; the stride stays cols.
  [[nodiscard]] const std::int8_t* at(index_t row, index_t block) const {
    return integers + row * cols + block * weight_block;
  }
};

/// 32 numbers as integers; returns their scale. Rounds to nearest, ties to even: the same on every backend.
template <SimdBackend B>
float quantise_block(const float* x, std::int8_t* q, std::int32_t& sum) {
  constexpr index_t W = B::width;
  auto largest = B::zero();
  auto zeros = B::zero();  // stays so unless a number is not finite
  for (index_t i = 0; i < weight_block; i += W) {
    const auto v = B::load(x + i);
    largest = B::max(largest, B::max(v, B::sub(B::zero(), v)));
    zeros = B::add(zeros, B::mul(v, B::zero()));
  }
  const float most = B::reduce_max(largest);
  const bool finite = B::reduce_add(zeros) == 0.0F;
  constexpr float tiny = 1e-30F;  // below, the inverse of a step would not be finite
  sum = 0;
  if (!finite || most < tiny) {
    for (index_t i = 0; i < weight_block; ++i) q[i] = 0;
    return finite ? 0.0F : NAN;
  }
  // Adding 1.5 x 2^23 leaves the nearest integer in the lowest bits.
  const auto inverse = B::broadcast(127.0F / most);
  const auto magic = B::broadcast(0x1.8p23F);
  std::int32_t bits[weight_block];
  for (index_t i = 0; i < weight_block; i += W) {
    float lanes[W];
    B::store(lanes, B::add(B::mul(B::load(x + i), inverse), magic));
    std::memcpy(bits + i, lanes, sizeof lanes);
  }
  for (index_t i = 0; i < weight_block; ++i) {
    q[i] = static_cast<std::int8_t>(bits[i]);
    sum += q[i];
  }
  return most / 127.0F;
}

/// Collective. x [T, K], K in whole blocks, in memory of the team.
template <SimdBackend B>
[[nodiscard]] QuantisedActivations quantise_activations(Worker& worker, ConstActivations x) {
  static_assert(weight_block % B::width == 0);
  const index_t blocks = x.cols / weight_block;
  constexpr index_t floats_per_block = weight_block / 4 + 3;
  auto* memory = worker.shared_scratch<float>(x.rows * blocks * floats_per_block, TeamMemory::converted);
  float* scales = memory + x.rows * blocks * (weight_block / 4);
  float* sums = scales + x.rows * blocks;
  auto* starts = reinterpret_cast<std::int32_t*>(sums + x.rows * blocks);
  auto* integers = reinterpret_cast<std::int8_t*>(memory);
  const Range mine = worker.share(x.rows * blocks);
  for (index_t i = mine.begin; i < mine.end; ++i) {
    std::int32_t sum = 0;
    scales[i] = quantise_block<B>(x.row(i / blocks) + i % blocks * weight_block, integers + i * weight_block, sum);
    sums[i] = scales[i] * static_cast<float>(sum);
    starts[i] = ByteDots<B>::start(sum);
  }
  worker.barrier();
  return {integers, scales, sums, starts, x.rows, x.cols};
}

}  // namespace tessera
