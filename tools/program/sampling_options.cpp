#include "program/sampling_options.hpp"

#include "program/finite_range.hpp"

namespace tessera::program {

void add_sampling_options(CLI::App& app, SamplingOptions& options) {
  constexpr const char* group = "Sampling (defaults: the model's generation_config.json)";
  app.add_flag("--greedy", options.greedy, "Always the likeliest token")->group(group);
  app.add_option("--temperature", options.temperature,
                 "Above 1 flattens the distribution, below sharpens it; 0: greedy")
      ->check(finite_range(sampling_limits::temperature))
      ->type_name("T")
      ->group(group);
  app.add_option("--top-k", options.top_k, "Only the K likeliest tokens; 0: all")
      ->check(CLI::Range(index_t{0}, index_t{1} << 30))
      ->type_name("K")
      ->group(group);
  app.add_option("--top-p", options.top_p, "Only the likeliest tokens, up to this probability together")
      ->check(finite_range(sampling_limits::top_p))
      ->type_name("P")
      ->group(group);
  app.add_option("--min-p", options.min_p, "Only tokens with this share of the likeliest one's probability")
      ->check(finite_range(sampling_limits::min_p))
      ->type_name("P")
      ->group(group);
  app.add_option("--repetition-penalty", options.repetition_penalty, "Above 1: tokens that occurred become less likely")
      ->check(finite_range(sampling_limits::repetition_penalty))
      ->type_name("X")
      ->group(group);
  app.add_option("--seed", options.seed, "The same seed gives the same text, on any number of ranks")
      ->type_name("N")
      ->group(group)
      ->capture_default_str();
}

void add_stop_option(CLI::App& app, std::vector<std::string>& stops) {
  app.add_option("--stop", stops, "End before this text; may be given several times")
      ->type_name("TEXT")
      ->expected(1)
      ->take_all()
      ->check([](const std::string& stop) {
        return stop.empty() ? std::string("expected a text, found an empty one") : std::string();
      });
}

Sampling chosen_sampling(const SamplingOptions& options, const GenerationDefaults& defaults) {
  Sampling sampling;
  sampling.repetition_penalty = options.repetition_penalty.value_or(defaults.repetition_penalty);
  sampling.seed = options.seed;
  const bool asked = options.temperature || options.top_k || options.top_p || options.min_p;
  if (options.greedy || !(asked || defaults.do_sample)) {
    sampling.temperature = 0;
  } else {
    sampling.temperature = options.temperature.value_or(defaults.temperature);
    sampling.top_k = options.top_k.value_or(defaults.top_k);
    sampling.top_p = options.top_p.value_or(defaults.top_p);
    sampling.min_p = options.min_p.value_or(defaults.min_p);
  }
  check(sampling);
  return sampling;
}

std::string description(const Sampling& sampling) {
  std::string text = sampling.greedy() ? "greedy" : concat("temperature ", sampling.temperature);
  if (!sampling.greedy() && sampling.top_k > 0) text += concat(", top-k ", sampling.top_k);
  if (!sampling.greedy() && sampling.top_p < 1) text += concat(", top-p ", sampling.top_p);
  if (!sampling.greedy() && sampling.min_p > 0) text += concat(", min-p ", sampling.min_p);
  if (sampling.repetition_penalty != 1) text += concat(", repetition penalty ", sampling.repetition_penalty);
  if (!sampling.greedy()) text += concat(", seed ", sampling.seed);
  return text;
}

}  // namespace tessera::program
