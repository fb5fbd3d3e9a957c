#pragma once
// What a translation unit tells of itself: its instruction set, and where its own kernels are.

#include <string_view>

#include <tessera/core/types.hpp>

struct Unit {
  using Kernel = void (*)(const float* x, const float* weight, float eps, tessera::index_t n, float* out);
  std::string_view isa;
  Kernel simd;
  Kernel scalar;
};
