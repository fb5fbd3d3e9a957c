#pragma once
// Memory that ends where a page ends: one element too far, in either direction, is a fault.

#include <sys/mman.h>

#include <cstddef>
#include <span>

#include <tessera/core/error.hpp>

namespace tessera {

class GuardedPage {
 public:
  static constexpr std::size_t size = 4096;

  GuardedPage() {
    base_ = static_cast<std::byte*>(::mmap(nullptr, 3 * size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    require(base_ != MAP_FAILED && ::mprotect(base_ + size, size, PROT_READ | PROT_WRITE) == 0, "no page to guard");
  }
  GuardedPage(const GuardedPage&) = delete;
  GuardedPage& operator=(const GuardedPage&) = delete;
  ~GuardedPage() { ::munmap(base_, 3 * size); }

  /// The last n elements before the end of the page.
  template <class T>
  [[nodiscard]] T* last(std::size_t n) const {
    return reinterpret_cast<T*>(base_ + 2 * size) - n;
  }
  /// The first elements of the page.
  template <class T>
  [[nodiscard]] T* first() const {
    return reinterpret_cast<T*>(base_ + size);
  }

 private:
  std::byte* base_;
};

}  // namespace tessera
