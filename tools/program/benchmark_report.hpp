#pragma once
// Rows of a benchmark as a table for people, or as CSV or JSON for programs.

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "program/benchmark.hpp"

namespace tessera::program {

/// What all rows of a run have in common.
struct BenchmarkSetting {
  std::string model, mode, method, parallel_strategy, decode_strategy, attention_algo, simd, isa, dtype, transport;
  index_t world_size = 1;
  index_t threads = 1;  ///< of each rank
  index_t chunk = 0;
  AttentionBlocks attention;
  CacheType cache = CacheType::f32;
  bool copies_weights = false;
  index_t bytes_weights = 0;    ///< of the whole model
  double seconds_mpi_init = 0;  ///< from the start of main, or of the process where that is known
  double seconds_load = 0;      ///< from there on, until the weights can be used
  double seconds_make = 0;      ///< and until the model can take a step
  double verified_error = 0;    ///< against the scalar reference, in standard deviations of a row of logits
};

/// A field and its value as JSON writes it.
using BenchmarkFields = std::vector<std::pair<std::string_view, std::string>>;
[[nodiscard]] BenchmarkFields fields_of(const BenchmarkSetting& setting, const BenchmarkRow& row);

/// `format`: markdown, csv or json (an array of objects).
[[nodiscard]] std::string report(std::string_view format, const BenchmarkSetting& setting,
                                 const std::vector<BenchmarkRow>& rows);

}  // namespace tessera::program
