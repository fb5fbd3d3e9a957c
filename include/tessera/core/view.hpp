#pragma once
// Views of matrices that somebody else owns: activations (f32) and weights (as in the file).

#include <string_view>
#include <type_traits>

#include <tessera/core/partition.hpp>

namespace tessera {

/// A row-major matrix; `stride` counts elements between rows.
template <class T>
struct MatrixView {
  T* data = nullptr;
  index_t rows = 0;
  index_t cols = 0;
  index_t stride = 0;

  MatrixView() = default;
  MatrixView(T* data_, index_t rows_, index_t cols_, index_t stride_)
      : data(data_), rows(rows_), cols(cols_), stride(stride_) {}
  MatrixView(T* data_, index_t rows_, index_t cols_) : MatrixView(data_, rows_, cols_, cols_) {}

  /// A mutable view is a view of constants where one is asked for.
  template <class U>
    requires(std::is_same_v<const U, T>)
  MatrixView(const MatrixView<U>& other) : MatrixView(other.data, other.rows, other.cols, other.stride) {}

  [[nodiscard]] T* row(index_t i) const { return data + i * stride; }
  [[nodiscard]] MatrixView row_range(Range r) const { return {data + r.begin * stride, r.size(), cols, stride}; }
  [[nodiscard]] MatrixView col_range(Range c) const { return {data + c.begin, rows, c.size(), stride}; }
};

/// [rows, cols] floats that may be written.
using Activations = MatrixView<float>;
/// [rows, cols] floats that may be read.
using ConstActivations = MatrixView<const float>;

/// Consecutive weights of a row that share a scale, in the formats that have one.
inline constexpr index_t weight_block = 32;

/// What the products with a weight are computed in: f32; for one in blocks also 8-bit integers, to which activations
/// are then rounded block by block; for one in bf16 also that, on backends that have such products
/// (simd/bf16_pairs.hpp). A property of the weight, so that every step computes alike.
enum class Arithmetic : std::uint8_t { f32, int8, bf16 };

/// A weight matrix [out, in], row-major as checkpoints store it; `stride` counts elements between rows. One in blocks
/// has f16 scales as well, [out][planes][stride / 32] (core/weight_format.hpp), and its columns are cut between blocks.
struct WeightView {
  const void* data = nullptr;
  DType dtype = DType::f32;
  index_t rows = 0;
  index_t cols = 0;
  index_t stride = 0;
  const f16_t* scales = nullptr;
  Arithmetic arithmetic = Arithmetic::f32;

  [[nodiscard]] bool empty() const { return rows == 0 || cols == 0; }
  [[nodiscard]] const void* at(index_t row, index_t col) const {
    return static_cast<const char*>(data) + bytes_of(dtype, row * stride + col);
  }
  /// Scales of a row: one for each block, then as many minima where the format has some.
  [[nodiscard]] const f16_t* row_scales(index_t row) const { return scales + row * scale_stride(); }
  [[nodiscard]] WeightView row_range(Range r) const {
    WeightView part = *this;
    part.data = at(r.begin, 0);
    part.rows = r.size();
    if (scales != nullptr) part.scales = row_scales(r.begin);
    return part;
  }
  /// Throws Error if the weight is in blocks, and the range would cut one.
  [[nodiscard]] WeightView col_range(Range c) const {
    WeightView part = *this;
    part.data = at(0, c.begin);
    part.cols = c.size();
    if (scales != nullptr) {
      require(c.begin % weight_block == 0 && c.end % weight_block == 0, "columns ", c.begin, " to ", c.end,
              " of a weight in blocks: expected multiples of ", weight_block);
      part.scales = scales + c.begin / weight_block;
    }
    return part;
  }
  template <class T>
  [[nodiscard]] const T* row_as(index_t row) const {
    return static_cast<const T*>(at(row, 0));
  }
  [[nodiscard]] index_t blocks_per_row() const { return stride / weight_block; }  ///< stored: a plane of scales
  [[nodiscard]] index_t scale_stride() const { return (dtype == DType::int4_blocks ? 2 : 1) * blocks_per_row(); }
};

/// Returns `m` if it has the expected shape, else throws Error naming it; a shape comment that executes.
template <class View>
View expect_shape(View m, index_t rows, index_t cols, std::string_view name) {
  require(m.rows == rows && m.cols == cols, name, ": expected [", rows, ", ", cols, "], found [", m.rows, ", ", m.cols,
          "]");
  return m;
}

}  // namespace tessera
