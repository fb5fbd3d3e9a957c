#pragma once
// The one order of every sum across ranks: rank 0 first, then 1, 2, ...

#include <algorithm>
#include <cstring>
#include <span>

#include <tessera/core/types.hpp>
#include <tessera/simd/isa.hpp>

namespace tessera {
inline namespace TESSERA_ISA {  // loops that the compiler turns into vectors: units of two instruction sets share none

/// sum[i] = part(0)[i] + part(1)[i] + ... + part(count - 1)[i], in that order. `sum` may be part 0.
template <class Part>
void sum_in_rank_order(int count, const Part& part, std::span<float> sum) {
  constexpr index_t block = 4096;  // the running sum stays in the first-level cache
  const auto n = static_cast<index_t>(sum.size());
  for (index_t begin = 0; begin < n; begin += block) {
    const index_t length = std::min(block, n - begin);
    float* to = sum.data() + begin;
    const float* first = part(0) + begin;
    if (to != first) std::memcpy(to, first, static_cast<std::size_t>(length) * sizeof(float));
    for (int p = 1; p < count; ++p) {
      const float* from = part(p) + begin;
      for (index_t i = 0; i < length; ++i) to[i] += from[i];
    }
  }
}

/// The same over parts that lie one after the other.
inline void sum_in_rank_order(int count, const float* parts, std::span<float> sum) {
  sum_in_rank_order(
      count, [&](int p) { return parts + p * static_cast<index_t>(sum.size()); }, sum);
}

}  // namespace TESSERA_ISA
}  // namespace tessera
