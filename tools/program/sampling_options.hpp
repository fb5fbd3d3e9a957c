#pragma once
// How the next token is chosen: by the command line, where it says nothing by generation_config.json.

#include <optional>
#include <string>
#include <vector>

#include <tessera/io/generation_config.hpp>
#include <tessera/runtime/sampling.hpp>

#include "program/cli.hpp"

namespace tessera::program {

struct SamplingOptions {
  std::optional<double> temperature;
  std::optional<index_t> top_k;
  std::optional<double> top_p;
  std::optional<double> min_p;
  std::optional<double> repetition_penalty;
  std::uint64_t seed = 0;
  bool greedy = false;
};

void add_sampling_options(CLI::App& app, SamplingOptions& options);

/// --stop, each of which is some text.
void add_stop_option(CLI::App& app, std::vector<std::string>& stops);

/// The model's defaults under the options. A model whose file does not ask for sampling is greedy until an option asks
/// for it. Throws Error for a value out of its range.
[[nodiscard]] Sampling chosen_sampling(const SamplingOptions& options, const GenerationDefaults& defaults);

/// "greedy", or "temperature 0.6, top-k 20, seed 0".
[[nodiscard]] std::string description(const Sampling& sampling);

}  // namespace tessera::program
