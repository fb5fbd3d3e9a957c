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

/// Rows of a weight in blocks whose integers lie together: a vector of 32-bit sums of the widest instruction set.
inline constexpr index_t group_rows = 16;

/// A weight matrix [out, in]. As stored it is row-major; `stride` counts elements between rows.
///
/// In blocks it lies in groups of 16 rows, the last one filled up with zeros: integers [group][stride / 32][unit][16
/// rows][4 bytes], scales in f16 [group][stride / 32][plane][16 rows] (core/weight_format.hpp). So a unit of all rows
/// is one cache line, which is multiplied by four activations without any rearrangement, and products read one stream.
/// A view may begin within a group; its columns are cut between blocks.
struct WeightView {
  const void* data = nullptr;
  DType dtype = DType::f32;
  index_t rows = 0;
  index_t cols = 0;
  index_t stride = 0;
  const f16_t* scales = nullptr;
  Arithmetic arithmetic = Arithmetic::f32;
  index_t skipped = 0;  ///< in blocks: rows of the first group that are not of the view, 0 to 15

  [[nodiscard]] bool empty() const { return rows == 0 || cols == 0; }
  /// Of a weight as stored.
  [[nodiscard]] const void* at(index_t row, index_t col) const {
    return static_cast<const char*>(data) + bytes_of(dtype, row * stride + col);
  }
  template <class T>
  [[nodiscard]] const T* row_as(index_t row) const {
    return static_cast<const T*>(at(row, 0));
  }

  /// Of a weight in blocks: groups that hold a row of the view, and integers and scales of one in the view's columns.
  [[nodiscard]] index_t groups() const { return ceil_div(skipped + rows, group_rows); }
  [[nodiscard]] const std::uint8_t* group_integers(index_t group) const {
    return static_cast<const std::uint8_t*>(data) + group * bytes_of(dtype, group_rows * stride);
  }
  [[nodiscard]] const f16_t* group_scales(index_t group) const { return scales + group * scales_of(stride); }
  /// f16 numbers of `columns` columns of a group: a scale for each block and row, and a minimum where there is one.
  [[nodiscard]] index_t scales_of(index_t columns) const {
    return (dtype == DType::int4_blocks ? 2 : 1) * columns / weight_block * group_rows;
  }

  [[nodiscard]] WeightView row_range(Range r) const {
    WeightView part = *this;
    part.rows = r.size();
    if (!is_blocks(dtype)) {
      part.data = at(r.begin, 0);
    } else {
      const index_t row = skipped + r.begin;
      part.data = group_integers(row / group_rows);
      part.scales = group_scales(row / group_rows);
      part.skipped = row % group_rows;
    }
    return part;
  }
  /// Throws Error if the weight is in blocks, and the range would cut one.
  [[nodiscard]] WeightView col_range(Range c) const {
    WeightView part = *this;
    part.cols = c.size();
    if (!is_blocks(dtype)) {
      part.data = at(0, c.begin);
    } else {
      require(c.begin % weight_block == 0 && c.end % weight_block == 0, "columns ", c.begin, " to ", c.end,
              " of a weight in blocks: expected multiples of ", weight_block);
      part.data = group_integers(0) + bytes_of(dtype, group_rows * c.begin);
      part.scales = scales + scales_of(c.begin);
    }
    return part;
  }
  /// Of its elements and their scales; those that fill up groups are not counted.
  [[nodiscard]] index_t bytes() const {
    const index_t of_scales = is_blocks(dtype) ? rows * scales_of(cols) / group_rows : 0;
    return bytes_of(dtype, rows * cols) + of_scales * static_cast<index_t>(sizeof(f16_t));
  }
};

/// Returns `m` if it has the expected shape, else throws Error naming it; a shape comment that executes.
template <class View>
View expect_shape(View m, index_t rows, index_t cols, std::string_view name) {
  require(m.rows == rows && m.cols == cols, name, ": expected [", rows, ", ", cols, "], found [", m.rows, ", ", m.cols,
          "]");
  return m;
}

}  // namespace tessera
