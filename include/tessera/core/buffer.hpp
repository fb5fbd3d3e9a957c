#pragma once
// Owned memory for activations and caches: aligned to a cache line, on huge pages where it is large.

#include <sys/mman.h>

#include <cstddef>
#include <cstring>
#include <new>
#include <span>
#include <utility>

#include <tessera/core/view.hpp>

namespace tessera {

/// `size` zeroed elements of a trivial type. Those of 64 KiB or more have pages of their own, taken on first touch; a
/// smaller one is of the heap, for each system call of a process makes its other threads wait. Moves are cheap, there
/// is no copy. Errors: not enough memory, by figures.
template <class T>
class Buffer {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  Buffer() = default;
  explicit Buffer(index_t size) : size_(size) {
    require(size >= 0 && size <= static_cast<index_t>(PTRDIFF_MAX / sizeof(T)), "buffer: impossible size ", size);
    if (size == 0) return;
    void* memory = bytes() < own_pages ? zeroed() : mapped();
    if (memory == nullptr) {
      size_ = 0;
      fail("out of memory: ", static_cast<double>(size) * sizeof(T) / 1e9, " GB more were asked for");
    }
    data_ = static_cast<T*>(memory);
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
    if (data_ == nullptr) return;
    if (bytes() < own_pages)
      ::operator delete(data_, alignment);
    else
      ::munmap(data_, bytes());
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
  [[nodiscard]] void* zeroed() const {
    void* memory = ::operator new(bytes(), alignment, std::nothrow);
    return memory == nullptr ? nullptr : std::memset(memory, 0, bytes());
  }
  [[nodiscard]] void* mapped() const {
    // Room that is never touched takes nothing, and is not to be refused: logits of all rows, of which few are wanted.
    void* memory = ::mmap(nullptr, bytes(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) return nullptr;
    if (bytes() >= huge_page) ::madvise(memory, bytes(), MADV_HUGEPAGE);
    return memory;
  }

  static constexpr std::align_val_t alignment{64};  // a cache line, and the widest vector
  static constexpr std::size_t own_pages = std::size_t{64} << 10;
  static constexpr std::size_t huge_page = std::size_t{2} << 20;
  T* data_ = nullptr;
  index_t size_ = 0;
};

}  // namespace tessera
