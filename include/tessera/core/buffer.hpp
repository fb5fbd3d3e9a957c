#pragma once
// Owned memory for activations and caches: aligned to a cache line, on huge pages where it is large.

#include <sys/mman.h>

#include <cstddef>
#include <new>
#include <span>
#include <utility>

#include <tessera/core/view.hpp>

namespace tessera {

/// `size` zeroed elements of a trivial type in pages of their own; pages are taken on first touch. Moves are cheap,
/// there is no copy.
template <class T>
class Buffer {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  Buffer() = default;
  explicit Buffer(index_t size) : size_(size) {
    require(size >= 0 && size <= static_cast<index_t>(PTRDIFF_MAX / sizeof(T)), "buffer: impossible size ", size);
    if (size == 0) return;
    void* memory = ::mmap(nullptr, bytes(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
      size_ = 0;
      fail("out of memory: ", static_cast<double>(size) * sizeof(T) / 1e9, " GB more were asked for");
    }
    data_ = static_cast<T*>(memory);
    if (bytes() >= huge_page) ::madvise(memory, bytes(), MADV_HUGEPAGE);
  }
  Buffer(Buffer&& other) noexcept : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  Buffer& operator=(Buffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  ~Buffer() {
    if (data_ != nullptr) ::munmap(data_, bytes());
  }

  [[nodiscard]] T* data() const { return data_; }
  [[nodiscard]] index_t size() const { return size_; }
  [[nodiscard]] std::size_t bytes() const { return static_cast<std::size_t>(size_) * sizeof(T); }
  [[nodiscard]] std::span<T> span() const { return {data_, static_cast<std::size_t>(size_)}; }
  T& operator[](index_t i) const { return data_[i]; }

  /// The first rows x cols elements as a matrix.
  [[nodiscard]] MatrixView<T> matrix(index_t rows, index_t cols) const {
    require(rows * cols <= size_, "buffer: expected room for [", rows, ", ", cols, "], found ", size_, " elements");
    return {data_, rows, cols};
  }

 private:
  static constexpr std::size_t huge_page = std::size_t{2} << 20;
  T* data_ = nullptr;
  index_t size_ = 0;
};

}  // namespace tessera
