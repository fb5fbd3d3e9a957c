#pragma once
// Tensors that a caller owns, seen in the manner of std::mdspan, which C++20 does not have yet.

#include <array>
#include <concepts>
#include <cstddef>

#include <tessera/core/types.hpp>

namespace tessera {

/// A strided view of `Rank` dimensions over elements that a `T*` reaches; strides count elements. std::mdspan with any
/// strided layout is one, and so is TensorView.
template <class V, class T, std::size_t Rank>
concept MdspanLike = requires(const V& view, std::size_t dimension) {
  requires V::rank()
  == Rank;
  { view.data_handle() } -> std::convertible_to<T*>;
  { view.extent(dimension) } -> std::convertible_to<index_t>;
  { view.stride(dimension) } -> std::convertible_to<index_t>;
};

/// The least that models MdspanLike: a pointer, extents and strides.
template <class T, std::size_t Rank>
class TensorView {
 public:
  /// Row-major elements without gaps.
  TensorView(T* data, std::array<index_t, Rank> extents) : data_(data), extents_(extents) {
    index_t stride = 1;
    for (std::size_t d = Rank; d-- > 0; stride *= extents_[d]) strides_[d] = stride;
  }
  TensorView(T* data, std::array<index_t, Rank> extents, std::array<index_t, Rank> strides)
      : data_(data), extents_(extents), strides_(strides) {}
  /// What any other view of that many dimensions shows.
  template <MdspanLike<T, Rank> V>
    requires(!std::same_as<V, TensorView>)
  TensorView(const V& view) : data_(view.data_handle()) {  // NOLINT(google-explicit-constructor): a view of a view
    for (std::size_t d = 0; d < Rank; ++d) {
      extents_[d] = static_cast<index_t>(view.extent(d));
      strides_[d] = static_cast<index_t>(view.stride(d));
    }
  }

  [[nodiscard]] static constexpr std::size_t rank() { return Rank; }
  [[nodiscard]] T* data_handle() const { return data_; }
  [[nodiscard]] index_t extent(std::size_t dimension) const { return extents_[dimension]; }
  [[nodiscard]] index_t stride(std::size_t dimension) const { return strides_[dimension]; }

  template <std::convertible_to<index_t>... Index>
    requires(sizeof...(Index) == Rank)
  [[nodiscard]] T& operator()(Index... index) const {
    std::size_t d = 0;
    index_t at = 0;
    ((at += static_cast<index_t>(index) * strides_[d++]), ...);
    return data_[at];
  }

 private:
  T* data_;
  std::array<index_t, Rank> extents_{};
  std::array<index_t, Rank> strides_{};
};

static_assert(MdspanLike<TensorView<float, 3>, const float, 3>);

}  // namespace tessera
