#pragma once
// Random weights in memory that nobody may read past, and their products in double precision.
#include <sys/mman.h>
#include <unistd.h>

#include <cmath>
#include <random>
#include <vector>

#include <tessera/core/view.hpp>

namespace tessera::test {

/// Memory that ends where a page without access begins: whoever reads or writes past its end is killed.
class FencedMemory {
 public:
  explicit FencedMemory(index_t bytes) : page_(::sysconf(_SC_PAGESIZE)), size_(ceil_div(bytes, page_) * page_ + page_) {
    void* all =
        ::mmap(nullptr, static_cast<std::size_t>(size_), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    require(all != MAP_FAILED, "out of memory");
    memory_ = static_cast<char*>(all);
    require(::mprotect(memory_ + size_ - page_, static_cast<std::size_t>(page_), PROT_NONE) == 0, "mprotect failed");
    begin_ = memory_ + size_ - page_ - bytes;
  }
  FencedMemory(const FencedMemory&) = delete;
  FencedMemory& operator=(const FencedMemory&) = delete;
  ~FencedMemory() { ::munmap(memory_, static_cast<std::size_t>(size_)); }
  template <class T>
  [[nodiscard]] T* as() const {
    return reinterpret_cast<T*>(begin_);
  }

 private:
  index_t page_, size_;
  char* memory_ = nullptr;
  char* begin_ = nullptr;
};

template <class T>
T random_element(std::mt19937& random) {
  if constexpr (std::is_same_v<T, f16_t>) {
    // A sign, an exponent that makes values of 0 (subnormal) to 2, and a mantissa.
    const std::uint32_t bits = random();
    const std::uint32_t exponent = bits % 16;
    return {static_cast<std::uint16_t>((bits & 0x83FFU) | (exponent << 10))};
  } else {
    const float value = std::normal_distribution<float>()(random);
    if constexpr (std::is_same_v<T, bf16_t>)
      return to_bf16(value);
    else
      return value;
  }
}

/// A random matrix of weights [rows, cols] whose rows lie `gap` elements apart, and its values in double.
struct RandomWeight {
  RandomWeight(index_t rows, index_t cols, index_t gap, DType dtype, std::mt19937& random)
      : memory(((rows - 1) * (cols + gap) + cols) * bytes_of(dtype)),
        view{memory.as<char>(), dtype, rows, cols, cols + gap},
        values(static_cast<std::size_t>(rows * cols)) {
    with_type_of(dtype, [&](auto type) {
      using T = decltype(type);
      for (index_t r = 0; r < rows; ++r) {
        auto* row = memory.as<T>() + r * view.stride;
        for (index_t c = 0; c < cols; ++c) {
          row[c] = random_element<T>(random);
          values[static_cast<std::size_t>(r * cols + c)] = to_float(row[c]);
        }
      }
    });
  }

  FencedMemory memory;
  WeightView view;
  std::vector<double> values;
};

struct Reference {
  double value = 0;
  double magnitude = 0;  ///< the sum of the terms' magnitudes: what rounding errors are in proportion to
};

inline Reference dot(const float* x, const RandomWeight& weight, index_t row) {
  Reference sum;
  for (index_t k = 0; k < weight.view.cols; ++k) {
    const double term = double{x[k]} * weight.values[static_cast<std::size_t>(row * weight.view.cols + k)];
    sum.value += term;
    sum.magnitude += std::abs(term);
  }
  return sum;
}

inline std::vector<float> random_floats(index_t n, std::mt19937& random) {
  std::vector<float> v(static_cast<std::size_t>(n));
  std::normal_distribution<float> normal;
  for (float& f : v) f = normal(random);
  return v;
}

/// The unit roundoff of f32.
inline constexpr double unit_roundoff = 0x1p-24;

}  // namespace tessera::test
