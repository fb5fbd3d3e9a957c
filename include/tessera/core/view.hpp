#pragma once
// Views of matrices that somebody else owns: activations (f32) and weights (f32, bf16 or f16, as in the file).

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

using Activations = MatrixView<float>;
using ConstActivations = MatrixView<const float>;

/// A weight matrix [out, in], row-major as checkpoints store it; `stride` counts elements between rows.
struct WeightView {
  const void* data = nullptr;
  DType dtype = DType::f32;
  index_t rows = 0;
  index_t cols = 0;
  index_t stride = 0;

  [[nodiscard]] bool empty() const { return rows == 0 || cols == 0; }
  [[nodiscard]] const void* at(index_t row, index_t col) const {
    return static_cast<const char*>(data) + (row * stride + col) * bytes_of(dtype);
  }
  [[nodiscard]] WeightView row_range(Range r) const { return {at(r.begin, 0), dtype, r.size(), cols, stride}; }
  [[nodiscard]] WeightView col_range(Range c) const { return {at(0, c.begin), dtype, rows, c.size(), stride}; }
  template <class T>
  [[nodiscard]] const T* row_as(index_t row) const {
    return static_cast<const T*>(at(row, 0));
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
