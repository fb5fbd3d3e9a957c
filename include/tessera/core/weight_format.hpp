#pragma once
// WeightFormat: what the elements of a weight matrix are. `Stored` leaves them as the file has them; the others keep
// blocks of 32 consecutive weights of a row as small integers with a scale of their own (docs/quantisation.md).

#include <algorithm>
#include <array>
#include <cmath>
#include <concepts>
#include <cstring>
#include <string_view>

#include <tessera/core/view.hpp>

namespace tessera {

/// A format of blocks. `encode` turns 32 weights into `bytes` bytes and `planes` f16 numbers (a scale, and a minimum
/// where there are two); `decode` turns them back. Where they lie in a matrix: WeightView.
/// Law: a block is encoded by itself, so rows and whole blocks of columns of an encoded matrix are the encoding of
/// those of the matrix. Encoding what was decoded changes a weight by rounding of the scale only. For weights below
/// 2^22 that are not all denormal an element is off by half a step at most, (max |w|) / 254 in 8 bits and (max - min) /
/// 30 in 4, or the sum of squares over the block is less than with that step.
template <class F>
concept BlockFormat = requires(const float* weights, float* decoded, std::uint8_t* integers, f16_t* scales,
                               const std::uint8_t* from, const f16_t* by) {
  { F::name } -> std::convertible_to<std::string_view>;
  requires is_blocks(F::dtype) && F::bytes == bytes_of(F::dtype, weight_block) && F::planes >= 1;
  { F::encode(weights, integers, scales) } -> std::same_as<void>;
  { F::decode(from, by, decoded) } -> std::same_as<void>;
};

/// What a weight is kept as: one of the formats of blocks, or as the file has it.
template <class F>
concept WeightFormat = BlockFormat<F> ||(!is_blocks(DType::f32) && requires {
  { F::name } -> std::convertible_to<std::string_view>;
  requires F::as_stored;
});

/// bf16, f16 or f32, as in the file.
struct Stored {
  static constexpr std::string_view name = "stored";
  static constexpr bool as_stored = true;
};

namespace detail {

/// The f16 next to `value`, finite: a block of larger weights would lose them all to infinity.
[[nodiscard]] inline f16_t finite_f16(float value) { return to_f16(std::clamp(value, -65504.0F, 65504.0F)); }

/// The step that a stored scale stands for, inverted; 0 for a block of zeros.
[[nodiscard]] inline float inverse_or_zero(float step) { return step != 0.0F ? 1.0F / step : 0.0F; }

}  // namespace detail

/// weight = scale * q, q from -127 to 127: 8.5 bits a weight.
struct Int8Blocks {
  static constexpr std::string_view name = "int8";
  static constexpr DType dtype = DType::int8_blocks;
  static constexpr index_t bytes = weight_block;
  static constexpr index_t planes = 1;

  static void encode(const float* weights, std::uint8_t* integers, f16_t* scales) {
    float largest = 0;
    float zero = 0;  // stays one unless a weight is infinite or not a number
    for (index_t i = 0; i < weight_block; ++i) {
      largest = std::max(largest, std::abs(weights[i]));
      zero += 0.0F * weights[i];
    }
    require(zero == 0.0F, "a weight is not finite: it has no 8-bit form");
    *scales = detail::finite_f16(largest / 127.0F);
    const float inverse = detail::inverse_or_zero(to_float(*scales));
    for (index_t i = 0; i < weight_block; ++i) {
      // A scale that was rounded down asks for a little more than 127.
      const float q = std::clamp(std::rint(weights[i] * inverse), -127.0F, 127.0F);
      integers[i] = static_cast<std::uint8_t>(static_cast<std::int8_t>(q));
    }
  }
  static void decode(const std::uint8_t* integers, const f16_t* scales, float* weights) {
    const float scale = to_float(*scales);
    for (index_t i = 0; i < weight_block; ++i)
      weights[i] = scale * static_cast<float>(static_cast<std::int8_t>(integers[i]));
  }
};

/// weight = minimum + scale * q, q from 0 to 15: 5 bits a weight. Byte j holds weight j in its low half and weight j +
/// 16 in its high half, so that a register of bytes becomes two of consecutive weights by a mask and a shift.
struct Int4Blocks {
  static constexpr std::string_view name = "int4";
  static constexpr DType dtype = DType::int4_blocks;
  static constexpr index_t bytes = weight_block / 2;
  static constexpr index_t planes = 2;

  /// Searches for the scale and minimum of least squared error: ranges that leave out outer weights, each followed by
  /// least squares of the weights over the integers that it gives. On normal weights the error is 10 % below that of
  /// the plain range, and 14 % below that of 16 levels around zero.
  static void encode(const float* weights, std::uint8_t* integers, f16_t* scales) {
    const auto [low, high] = std::minmax_element(weights, weights + weight_block);
    Block best;
    for (int a = 0; a < ranges; ++a)
      for (int b = 0; b < ranges; ++b) {
        const float begin = *low * (1.0F - 0.1F * static_cast<float>(a));
        const float end = *high * (1.0F - 0.1F * static_cast<float>(b));
        Block block = assign(weights, (end - begin) / 15.0F, begin);
        if (block.error < best.error) best = block;
        for (int refit = 0; refit < refits; ++refit) {
          block = assign_refitted(weights, block);
          if (block.error < best.error) best = block;
        }
      }
    scales[0] = best.scale;
    scales[1] = best.minimum;
    for (std::size_t i = 0; i < bytes; ++i)
      integers[i] = static_cast<std::uint8_t>(static_cast<int>(best.q[i]) | static_cast<int>(best.q[i + bytes]) << 4);
  }
  static void decode(const std::uint8_t* integers, const f16_t* scales, float* weights) {
    const float scale = to_float(scales[0]);
    const float minimum = to_float(scales[1]);
    for (index_t i = 0; i < bytes; ++i) {
      weights[i] = minimum + scale * static_cast<float>(integers[i] & 15);
      weights[i + bytes] = minimum + scale * static_cast<float>(integers[i] >> 4);
    }
  }

 private:
  static constexpr int ranges = 3;
  static constexpr int refits = 2;

  struct Block {
    f16_t scale{};
    f16_t minimum{};
    float error = INFINITY;
    std::array<float, weight_block> q{};
  };

  static Block assign(const float* weights, float scale, float minimum) {
    Block block;
    block.scale = finite_f16(scale);
    block.minimum = finite_f16(minimum);
    const float step = to_float(block.scale);
    const float from = to_float(block.minimum);
    const float inverse = detail::inverse_or_zero(step);
    float errors[8] = {};  // eight sums, so that the loop is one of vectors
    for (std::size_t i = 0; i < weight_block; ++i) {
      block.q[i] = std::clamp(std::rint((weights[i] - from) * inverse), 0.0F, 15.0F);
      const float error = from + step * block.q[i] - weights[i];
      errors[i % 8] += error * error;
    }
    block.error = 0;
    for (const float e : errors) block.error += e;
    require(std::isfinite(block.error), "a weight is not finite, or far too large: it has no 4-bit form");
    return block;
  }

  /// Least squares of weights over (q, 1), then q anew.
  static Block assign_refitted(const float* weights, const Block& block) {
    float q_sum = 0, q_squares = 0, sum = 0, products = 0;
    for (std::size_t i = 0; i < weight_block; ++i) {
      q_sum += block.q[i];
      q_squares += block.q[i] * block.q[i];
      sum += weights[i];
      products += block.q[i] * weights[i];
    }
    constexpr auto n = static_cast<float>(weight_block);
    const float determinant = n * q_squares - q_sum * q_sum;
    if (determinant <= 0) return block;  // all alike: one level serves them
    const float scale = (n * products - q_sum * sum) / determinant;
    return assign(weights, scale, (sum - scale * q_sum) / n);
  }

  static f16_t finite_f16(float value) { return detail::finite_f16(value); }
};

static_assert(WeightFormat<Stored> && BlockFormat<Int8Blocks> && BlockFormat<Int4Blocks>);

/// Calls `f` with a value of the format of blocks that `dtype` names.
template <class F>
decltype(auto) with_block_format(DType dtype, F&& f) {
  switch (dtype) {
    case DType::int8_blocks: return f(Int8Blocks{});
    case DType::int4_blocks: return f(Int4Blocks{});
    default: fail("expected a weight in blocks, found ", name_of(dtype));
  }
}

/// Calls `f` with a value of the format of that name. Throws Error that lists the names there are.
template <class F>
decltype(auto) with_format_named(std::string_view name, F&& f) {
  if (name == Int8Blocks::name) return f(Int8Blocks{});
  if (name == Int4Blocks::name) return f(Int4Blocks{});
  require(name == Stored::name, "weight format: expected stored, int8 or int4, found \"", name, '"');
  return f(Stored{});
}

namespace detail {

/// Units of four bytes of a block, `group_rows` of them apart in a matrix, and its scales likewise.
template <BlockFormat F>
struct LooseBlock {
  std::array<std::uint8_t, F::bytes> integers;
  std::array<f16_t, F::planes> scales;

  static constexpr index_t unit = 4;

  /// Calls f(place in the block, place in the group's integers) for the units of row `row` of a group.
  template <class Each>
  static void each_unit(index_t block, index_t row, Each&& f) {
    for (index_t u = 0; u < F::bytes; u += unit) f(u, (block * F::bytes + u) * group_rows + row * unit);
  }
  template <class Each>
  static void each_plane(index_t block, index_t row, Each&& f) {
    for (index_t p = 0; p < F::planes; ++p) f(static_cast<std::size_t>(p), (block * F::planes + p) * group_rows + row);
  }
};

}  // namespace detail

/// Row `row` of a weight in f32, one number at a time: for conversion, not for products.
inline void decode_row(const WeightView& weight, index_t row, float* out) {
  if (!is_blocks(weight.dtype)) {
    with_type_of(weight.dtype, [&]<class T>(T) {
      const T* in = weight.row_as<T>(row);
      for (index_t i = 0; i < weight.cols; ++i) out[i] = to_float(in[i]);
    });
    return;
  }
  with_block_format(weight.dtype, [&]<class F>(F) {
    using Block = detail::LooseBlock<F>;
    const index_t of_all = weight.skipped + row;
    const std::uint8_t* integers = weight.group_integers(of_all / group_rows);
    const f16_t* scales = weight.group_scales(of_all / group_rows);
    for (index_t b = 0; b < weight.cols / weight_block; ++b) {
      Block block;
      Block::each_unit(b, of_all % group_rows, [&](index_t u, index_t place) {
        std::memcpy(block.integers.data() + u, integers + place, Block::unit);
      });
      Block::each_plane(b, of_all % group_rows, [&](std::size_t p, index_t place) { block.scales[p] = scales[place]; });
      F::decode(block.integers.data(), block.scales.data(), out + b * weight_block);
    }
  });
}

/// Bytes, and f16 numbers, of a matrix in F; its last group of rows is filled up.
template <BlockFormat F>
struct BlockMatrix {
  index_t rows = 0;
  index_t cols = 0;  ///< whole blocks

  [[nodiscard]] index_t groups() const { return ceil_div(rows, group_rows); }
  [[nodiscard]] index_t integers() const { return groups() * bytes_of(F::dtype, group_rows * cols); }
  [[nodiscard]] index_t scales() const { return groups() * group_rows * F::planes * (cols / weight_block); }
};

/// Encodes row `row` of a matrix in F with `cols` columns (whole blocks), whose parts begin at `integers` and `scales`.
template <BlockFormat F>
void encode_row(const float* weights, index_t cols, index_t row, std::uint8_t* integers, f16_t* scales) {
  using Block = detail::LooseBlock<F>;
  const BlockMatrix<F> group{group_rows, cols};
  integers += row / group_rows * group.integers();
  scales += row / group_rows * group.scales();
  for (index_t b = 0; b < cols / weight_block; ++b) {
    Block block;
    F::encode(weights + b * weight_block, block.integers.data(), block.scales.data());
    Block::each_unit(b, row % group_rows, [&](index_t u, index_t place) {
      std::memcpy(integers + place, block.integers.data() + u, Block::unit);
    });
    Block::each_plane(b, row % group_rows, [&](std::size_t p, index_t place) { scales[place] = block.scales[p]; });
  }
}

}  // namespace tessera
