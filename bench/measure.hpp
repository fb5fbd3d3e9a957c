#pragma once
// What the benchmarks share: the median of their iterations as a share of the machine's limits.

#include <benchmark/benchmark.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <string>
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

inline void report_flops(benchmark::State& state, const program::MachinePeak& peak, double flops_per_second) {
  state.counters["GFLOP/s"] = flops_per_second / 1e9;
  state.counters["%_of_FMA_peak"] = 100 * flops_per_second / peak.flops;
}

inline void report_bytes(benchmark::State& state, const program::MachinePeak& peak, double bytes_per_second) {
  state.counters["GB/s"] = bytes_per_second / 1e9;
  state.counters["%_of_read_bandwidth"] = 100 * bytes_per_second / peak.bandwidth();
}

/// The options that every benchmark has.
struct CommonOptions {
  std::vector<int> threads;
  index_t peak_mib = program::peak_bytes >> 20;

  explicit CommonOptions(CLI::App& app) {
    for (int n = 1; n < default_threads(); n *= 2) threads.push_back(n);
    threads.push_back(default_threads());
    app.add_option("--threads", threads, "Numbers of threads, e.g. 1,2 (default: 1, 2, 4, ... and all cores)")
        ->delimiter(',')
        ->check(CLI::Range(1, 1024));
    app.add_option("--peak-mib", peak_mib, "MiB that are read to find the machine's bandwidth")
        ->check(CLI::Range(1, 1 << 20))
        ->capture_default_str();
  }
};

/// The limits for each number of threads, which become part of the report.
inline std::map<int, program::MachinePeak> measure_peaks(const CommonOptions& options) {
  std::map<int, program::MachinePeak> peaks;
  for (const int threads : options.threads) {
    Team team(threads);  // one team at a time: with more workers than cores nobody spins
    const program::MachinePeak& peak = peaks[threads] = program::measure_peak(team, options.peak_mib << 20);
    const std::string of = concat(" of ", threads, threads == 1 ? " thread" : " threads");
    benchmark::AddCustomContext("FMA peak" + of, concat(peak.flops / 1e9, " GFLOP/s"));
    benchmark::AddCustomContext("reads of a mapped file" + of, concat(peak.file_bandwidth / 1e9, " GB/s"));
    benchmark::AddCustomContext("reads of huge pages" + of, concat(peak.buffer_bandwidth / 1e9, " GB/s"));
  }
  benchmark::AddCustomContext("instruction set", std::string(compiled_isa()));
  return peaks;
}

}  // namespace tessera::bench
