#pragma once
// What the benchmarks share: the median of their iterations as a share of the machine's limits.

#include <benchmark/benchmark.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <initializer_list>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "program/cli.hpp"
#include "program/machine_peak.hpp"

namespace tessera::bench {

/// Bytes of the last level of cache; 32 MiB where the system does not say.
inline index_t last_cache_bytes() {
  index_t bytes = 0;
#ifdef _SC_LEVEL3_CACHE_SIZE
  bytes = std::max<index_t>(::sysconf(_SC_LEVEL2_CACHE_SIZE), ::sysconf(_SC_LEVEL3_CACHE_SIZE));
#endif
  return bytes > 0 ? bytes : index_t{32} << 20;
}

inline double median(std::vector<double> values) {
  if (values.empty()) return 0;
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

/// Calls f once an iteration, which returns the seconds that count; returns their median: on a machine that others use,
/// a mean tells about the others. For benchmarks that UseManualTime().
template <class F>
double median_seconds(benchmark::State& state, F&& f) {
  std::vector<double> seconds;
  for (auto _ : state) {
    seconds.push_back(f());
    state.SetIterationTime(seconds.back());
  }
  return median(std::move(seconds));
}

/// The machine's limits while something else is measured. What a virtual core gets, and what its neighbours leave of
/// the memory, changes by half within seconds: a share is of what was possible just before.
class Limits {
 public:
  enum Of { flops, bytes };

  /// `memory`: to be read, much more than the caches hold.
  Limits(Team& team, std::span<const float> memory) : team_(team), memory_(memory) {}

  /// As median_seconds, and reports the work of a call, in flops or bytes, as a rate and as a share of the limit.
  template <class F>
  void measure(benchmark::State& state, std::initializer_list<std::pair<Of, double>> work, F&& f) {
    std::map<Of, double> now;
    std::map<Of, std::vector<double>> possible;  // in the time of a call
    double since = pause;
    const double seconds = median_seconds(state, [&] {
      if (since >= pause) {
        since = 0;
        for (const auto& [of, amount] : work) now[of] = measure(of);
      }
      const double taken = f();
      since += taken;
      for (const auto& [of, amount] : work) possible[of].push_back(now[of] * taken);
      return taken;
    });
    for (const auto& [of, amount] : work) {
      state.counters[of == flops ? "GFLOP/s" : "GB/s"] = amount / seconds / 1e9;
      state.counters[of == flops ? "%_of_FMA_peak" : "%_of_read_bandwidth"] = 100 * amount / median(possible[of]);
    }
  }

 private:
  static constexpr double pause = 0.02;           // seconds between two looks at the limits
  static constexpr std::size_t window = 1 << 24;  // floats read in one look

  [[nodiscard]] double measure(Of of) {
    if (of == flops) return program::fma_peak<XsimdBackend<>>(team_, 1 << 17, 3);
    const std::size_t count = std::min(window, memory_.size());
    if (at_ + count > memory_.size()) at_ = 0;
    const double rate = program::read_bandwidth(team_, memory_.subspan(at_, count), 1);
    at_ += count;
    return rate;
  }

  Team& team_;
  std::span<const float> memory_;
  std::size_t at_ = 0;
};

/// The options that every benchmark has.
struct CommonOptions {
  std::vector<int> threads;
  index_t peak_mib = program::peak_bytes >> 20;

  explicit CommonOptions(CLI::App& app) {
    app.add_option("--threads", threads, "Numbers of threads, e.g. 1,2 (default: 1, 2, 4, ... and all cores)")
        ->delimiter(',')
        ->check(CLI::Range(1, most_threads));
    app.add_option("--peak-mib", peak_mib, "MiB that are read to find the machine's bandwidth")
        ->check(CLI::Range(1, 1 << 20))
        ->capture_default_str();
    app.parse_complete_callback([this] {
      if (!threads.empty()) return;
      try {
        for (int n = 1; n < default_threads(); n *= 2) threads.push_back(n);
        threads.push_back(default_threads());
      } catch (const Error& error) {  // of OMP_NUM_THREADS
        throw CLI::ValidationError(error.what());
      }
    });
  }
  CommonOptions(const CommonOptions&) = delete;
  CommonOptions& operator=(const CommonOptions&) = delete;
};

/// Memory that shows what reading takes, and the limits of each number of threads as a part of the report.
inline Buffer<float> measure_peaks(const CommonOptions& options) {
  const index_t bytes = options.peak_mib << 20;
  for (const int threads : options.threads) {
    Team team(threads);  // one team at a time: with more workers than cores nobody spins
    const program::MachinePeak peak = program::measure_peak(team, bytes);
    const std::string of = concat(" of ", threads, threads == 1 ? " thread" : " threads");
    benchmark::AddCustomContext("FMA peak" + of, concat(peak.flops / 1e9, " GFLOP/s"));
    benchmark::AddCustomContext("reads of a mapped file" + of, concat(peak.file_bandwidth / 1e9, " GB/s"));
    benchmark::AddCustomContext("reads of huge pages" + of, concat(peak.buffer_bandwidth / 1e9, " GB/s"));
  }
  benchmark::AddCustomContext("instruction set", std::string(compiled_isa()));
  Buffer<float> memory(bytes / static_cast<index_t>(sizeof(float)));
  std::fill_n(memory.data(), memory.size(), 1.0F);
  return memory;
}

/// A program of benchmarks: `add(options, memory)` registers them once the machine's limits are known; `memory` is to
/// be read. `text` says what it does, behind its name and a colon. Returns the exit status.
template <class Add>
int run(int argc, char** argv, const std::string& text, Add&& add) {
  benchmark::Initialize(&argc, argv);
  CLI::App app(text);
  const CommonOptions options(app);
  CLI11_PARSE(app, argc, argv);
  try {
    const Buffer<float> memory = measure_peaks(options);
    add(options, memory.span());
    benchmark::RunSpecifiedBenchmarks();
  } catch (const Error& error) {
    std::fprintf(stderr, "%s: error: %s\n", text.substr(0, text.find(':')).c_str(), error.what());
    return 1;
  }
  return 0;
}

}  // namespace tessera::bench
