#pragma once
// What the machine can do at most, measured by the program that reports shares of it: fused multiply-adds of one
// backend on all threads of a team, and reads of memory far larger than any cache.

#include <algorithm>
#include <chrono>
#include <span>
#include <utility>

#include <tessera/parallel/team.hpp>
#include <tessera/simd/backend.hpp>

#include "program/memory_file.hpp"

namespace tessera::program {

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

/// FLOP/s of independent fused multiply-adds in registers, two for a lane, on all threads of the team: the most of
/// `times` measurements of `steps` rounds.
template <SimdBackend B>
double fma_peak(Team& team, int steps = 1 << 20, int times = 20) {
  constexpr index_t chains = 10;  // latency 4, two a cycle, and some to spare; they fit into 16 registers
  const double seconds = shortest(times, [&] {
    team.run([&](Worker&) {
      volatile float opaque = 0.999F;  // keeps the compiler from knowing the fixed point
      const auto factor = B::broadcast(opaque);
      [&]<index_t... I>(std::integer_sequence<index_t, I...>) {
        typename B::f32 sums[] = {B::broadcast(static_cast<float>(I) * opaque)...};  // equal chains would be merged
        for (int i = 0; i < steps; ++i) ((sums[I] = B::fma(sums[I], factor, factor)), ...);
        keep((B::reduce_add(sums[I]) + ...));
      }
      (std::make_integer_sequence<index_t, chains>{});
    });
  });
  return 2.0 * static_cast<double>(chains * steps * B::width * team.threads()) / seconds;
}

/// Bytes a second that all threads of the team read together, each its part of `data`: the most of `times`.
inline double read_bandwidth(Team& team, std::span<const float> data, int times = 8) {
  using B = XsimdBackend<>;
  constexpr index_t W = B::width;
  const double seconds = shortest(times, [&] {
    team.run([&](Worker& worker) {
      const Range mine = worker.share(static_cast<index_t>(data.size()), 4 * W);
      typename B::f32 sums[4] = {B::zero(), B::zero(), B::zero(), B::zero()};
      for (index_t i = mine.begin; i + 4 * W <= mine.end; i += 4 * W)
        for (index_t v = 0; v < 4; ++v) sums[v] = B::add(sums[v], B::load(data.data() + i + v * W));
      keep(B::reduce_add(B::add(B::add(sums[0], sums[1]), B::add(sums[2], sums[3]))));
    });
  });
  return static_cast<double>(data.size_bytes()) / seconds;
}

/// Limits of one machine for one number of threads.
struct MachinePeak {
  double flops = 0;             ///< f32 fused multiply-adds, two for a lane, a second
  double file_bandwidth = 0;    ///< bytes a second out of a mapped file in the page cache
  double buffer_bandwidth = 0;  ///< bytes a second out of a buffer on huge pages

  [[nodiscard]] double bandwidth() const { return std::max(file_bandwidth, buffer_bandwidth); }
};

inline constexpr index_t peak_bytes = index_t{1} << 30;

/// Measures the team's limits, reading `bytes` of memory: a second or two for a gibibyte.
template <SimdBackend B = XsimdBackend<>>
MachinePeak measure_peak(Team& team, index_t bytes = peak_bytes) {
  const index_t floats = bytes / static_cast<index_t>(sizeof(float));
  // Every thread writes, and so first touches, what it is going to read.
  const auto fill = [&](float* data) {
    team.run([&](Worker& worker) {
      const Range mine = worker.share(floats, 4 * B::width);
      std::fill(data + mine.begin, data + mine.end, 1.0F);
    });
  };
  MachinePeak peak;
  peak.flops = fma_peak<B>(team);
  {
    const MemoryFile file(bytes);
    fill(static_cast<float*>(file.data()));
    peak.file_bandwidth = read_bandwidth(team, {static_cast<const float*>(file.data()), std::size_t(floats)});
  }
  {
    const Buffer<float> buffer(floats);
    fill(buffer.data());
    peak.buffer_bandwidth = read_bandwidth(team, buffer.span());
  }
  return peak;
}

}  // namespace tessera::program
