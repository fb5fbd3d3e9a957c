#include "program/benchmark_report.hpp"

#include <fmt/format.h>

namespace tessera::program {

namespace {

std::string text(std::string_view value) {
  std::string quoted = "\"";
  for (const char c : value) {
    if (c == '"' || c == '\\') quoted += '\\';
    quoted += static_cast<unsigned char>(c) < 0x20 ? ' ' : c;
  }
  return quoted + '"';
}

std::string number(double value) { return fmt::format("{:.6g}", value); }

std::string csv(const BenchmarkSetting& setting, const std::vector<BenchmarkRow>& rows) {
  std::string names;
  std::string lines;
  for (const BenchmarkRow& row : rows) {
    names.clear();
    for (const auto& [name, value] : fields_of(setting, row)) {
      lines += fmt::format("{}{}", names.empty() ? "" : ",", value);
      names += fmt::format("{}{}", names.empty() ? "" : ",", name);
    }
    lines += '\n';
  }
  return names + '\n' + lines;
}

std::string json(const BenchmarkSetting& setting, const std::vector<BenchmarkRow>& rows) {
  std::string array = "[";
  for (const BenchmarkRow& row : rows) {
    array += &row == &rows.front() ? "\n  {" : ",\n  {";
    bool first = true;
    for (const auto& [name, value] : fields_of(setting, row)) {
      array += fmt::format("{}\"{}\": {}", first ? "" : ", ", name, value);
      first = false;
    }
    array += '}';
  }
  return array + "\n]\n";
}

std::string markdown(const BenchmarkSetting& setting, const std::vector<BenchmarkRow>& rows) {
  const BenchmarkSetting& s = setting;
  std::string table = fmt::format(
      "{} ({}, {:.2f} GB of weights); path: mode {}, method {}, {} rank{} ({}) x {} thread{}, {}, decode {}, {}, {} "
      "({}), KV cache in {}{}{}\n",
      s.model, s.dtype, static_cast<double>(s.bytes_weights) / 1e9, s.mode, s.method, s.world_size,
      s.world_size == 1 ? "" : "s", s.transport, s.threads, s.threads == 1 ? "" : "s", s.parallel_strategy,
      s.decode_strategy, s.attention_algo, s.simd, s.isa, name_of(s.cache), s.copies_weights ? ", weights copied" : "",
      s.attention.queries + s.attention.keys == 0
          ? ""
          : fmt::format(", attention blocks of {} queries and {} keys (0: as the caches suggest)", s.attention.queries,
                        s.attention.keys));
  table += fmt::format(
      "MPI_Init {:.3f} s, then weights usable after {:.3f} s, model made after {:.3f} s; verified: largest error "
      "{:.1e} "
      "standard deviations\n\n",
      s.seconds_mpi_init, s.seconds_load, s.seconds_make, s.verified_error);
  table +=
      "| phase | prompt | gen | batch | tok/s | median s | min s | max s | first s | GFLOP/s peak | GB/s peak | % of "
      "peak | "
      "compute, communication, waiting % | private MB |\n"
      "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n";
  for (const BenchmarkRow& row : rows) {
    const double whole = std::max(row.split.total(), 1e-12) / 100;
    table += fmt::format(
        "| {}{} | {} | {} | {} | {:.2f} | {:.4f} | {:.4f} | {:.4f} | {:.4f} | {:.0f} | {:.1f} | {:.0f} | {:.0f}, "
        "{:.0f}, "
        "{:.0f} | {:.0f} |\n",
        name_of(row.of.phase), row.of.kv_cache ? "" : ", no KV cache", row.of.prompt_len, row.of.gen_len,
        row.of.batch_size, row.tokens_per_second(), row.seconds_median, row.seconds_min, row.seconds_max,
        row.seconds_first, row.peak.flops / 1e9, row.peak.bandwidth() / 1e9, row.percent_of_peak(),
        row.split.compute / whole, row.split.communication / whole, row.split.waiting / whole,
        static_cast<double>(row.bytes_private) / 1e6);
  }
  return table;
}

}  // namespace

BenchmarkFields fields_of(const BenchmarkSetting& setting, const BenchmarkRow& row) {
  const BenchmarkSetting& s = setting;
  return {
      {"phase", text(name_of(row.of.phase))},
      {"prompt_len", std::to_string(row.of.prompt_len)},
      {"gen_len", std::to_string(row.of.gen_len)},
      {"batch_size", std::to_string(row.of.batch_size)},
      {"kv_cache", row.of.kv_cache ? "true" : "false"},
      {"world_size", std::to_string(s.world_size)},
      {"threads", std::to_string(s.threads)},
      {"mode", text(s.mode)},
      {"method", text(s.method)},
      {"parallel_strategy", text(s.parallel_strategy)},
      {"decode_strategy", text(s.decode_strategy)},
      {"attention_algo", text(s.attention_algo)},
      {"simd", text(s.simd)},
      {"isa", text(s.isa)},
      {"transport", text(s.transport)},
      {"model", text(s.model)},
      {"dtype", text(s.dtype)},
      {"kv_cache_format", text(name_of(s.cache))},
      {"copies_weights", s.copies_weights ? "true" : "false"},
      {"chunk", std::to_string(s.chunk)},
      {"q_block_size", std::to_string(s.attention.queries)},
      {"kv_block_size", std::to_string(s.attention.keys)},
      {"tokens_per_second", number(row.tokens_per_second())},
      {"seconds_median", number(row.seconds_median)},
      {"seconds_min", number(row.seconds_min)},
      {"seconds_max", number(row.seconds_max)},
      {"seconds_first", number(row.seconds_first)},
      {"seconds_bound", number(row.seconds_bound)},
      {"percent_of_peak", number(row.percent_of_peak())},
      {"seconds_compute", number(row.split.compute)},
      {"seconds_communication", number(row.split.communication)},
      {"seconds_waiting", number(row.split.waiting)},
      {"bytes_private", std::to_string(row.bytes_private)},
      {"bytes_cache", std::to_string(row.bytes_cache)},
      {"bytes_weights", std::to_string(s.bytes_weights)},
      {"peak_flops", number(row.peak.flops)},
      {"peak_bytes_file", number(row.peak.file_bandwidth)},
      {"peak_bytes_buffer", number(row.peak.buffer_bandwidth)},
      {"seconds_mpi_init", number(s.seconds_mpi_init)},
      {"seconds_load", number(s.seconds_load)},
      {"seconds_make", number(s.seconds_make)},
      {"verified_error", number(s.verified_error)},
  };
}

std::string report(std::string_view format, const BenchmarkSetting& setting, const std::vector<BenchmarkRow>& rows) {
  if (format == "json") return json(setting, rows);
  if (format == "csv") return csv(setting, rows);
  return markdown(setting, rows);
}

}  // namespace tessera::program
