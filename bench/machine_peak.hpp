#pragma once
// What the machine can do at most, measured by the program that reports shares of it: fused multiply-adds of one
// backend on all threads of a team, and reads of a buffer far larger than any cache.

#include <algorithm>
#include <chrono>
#include <utility>

#include <tessera/parallel/team.hpp>
#include <tessera/simd/backend.hpp>

namespace tessera::bench {

/// Seconds of the shortest of `times` calls of f.
template <class F>
double shortest(int times, F&& f) {
  double best = 1e300;
  for (int i = 0; i < times; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    f();
    best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
  }
  return best;
}

/// Keeps a result that nobody reads.
inline void keep(float value) { asm volatile("" : : "g"(value) : "memory"); }

/// FLOP/s of independent fused multiply-adds in registers, two for a lane; measured once.
template <SimdBackend B>
double fma_peak(Team& team) {
  static const double peak = [&] {
    constexpr index_t chains = 10;  // latency 4, two a cycle, and some to spare; they fit into 16 registers
    constexpr int steps = 1 << 20;
    const double seconds = shortest(20, [&] {
      team.run([&](Worker&) {
        volatile float opaque = 0.999F;  // keeps the compiler from knowing the fixed point
        const auto factor = B::broadcast(opaque);
        [&]<index_t... I>(std::integer_sequence<index_t, I...>) {
          typename B::f32 sums[] = {B::broadcast(static_cast<float>(I) * opaque)...};  // equal chains would be merged
          for (int i = 0; i < steps; ++i) ((sums[I] = B::fma(sums[I], factor, factor)), ...);
          keep((B::reduce_add(sums[I]) + ...));
        }(std::make_integer_sequence<index_t, chains>{});
      });
    });
    return 2.0 * chains * steps * static_cast<double>(B::width) * team.threads() / seconds;
  }();
  return peak;
}

/// Bytes a second that all threads read together from 1 GiB on huge pages; measured once.
inline double read_bandwidth(Team& team) {
  static const double bandwidth = [&] {
    using B = XsimdBackend<>;
    constexpr index_t W = B::width;
    const Buffer<float> buffer(index_t{1} << 28);
    const auto on_own_part = [&](auto&& f) {
      team.run([&](Worker& worker) { f(worker.share(buffer.size(), 1 << 19)); });
    };
    on_own_part([&](Range mine) { std::fill(buffer.data() + mine.begin, buffer.data() + mine.end, 1.0F); });
    const double seconds = shortest(8, [&] {
      on_own_part([&](Range mine) {
        typename B::f32 sums[4] = {B::zero(), B::zero(), B::zero(), B::zero()};
        for (index_t i = mine.begin; i < mine.end; i += 4 * W)
          for (index_t v = 0; v < 4; ++v) sums[v] = B::add(sums[v], B::load(buffer.data() + i + v * W));
        keep(B::reduce_add(B::add(B::add(sums[0], sums[1]), B::add(sums[2], sums[3]))));
      });
    });
    return static_cast<double>(buffer.bytes()) / seconds;
  }();
  return bandwidth;
}

}  // namespace tessera::bench
