#pragma once
// The options that every program with a model has: which model, which prompt, which policies, how many threads.

#include <optional>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include <tessera/runtime/combinations.hpp>

namespace tessera::program {

/// Where the model is and how it is split.
struct ModelOptions {
  std::string model;  ///< folder of the checkpoint
  std::string parallel_strategy = "headwise";
  std::string attention_algo = "online_softmax";
  std::string simd = "native";
  int threads = 0;  ///< 0: the cores this rank may use, or OMP_NUM_THREADS
  index_t chunk = 512;
  double timeout = 600;
};

/// What the model reads first.
struct PromptOptions {
  std::string text;
  std::string ids;  ///< "1,2,3": needs no tokenizer
  bool has_text = false;

  [[nodiscard]] bool as_ids() const { return !has_text; }
};

void add_model_options(CLI::App& app, ModelOptions& options);
void add_prompt_options(CLI::App& app, PromptOptions& options);

/// The ids in "1,2,3". Throws Error that shows the piece that is no id.
[[nodiscard]] std::vector<token_t> parse_ids(const std::string& text);

/// The table row that the options name. Throws Error that lists the shipped names.
[[nodiscard]] const Combination& chosen_combination(const ModelOptions& options);

}  // namespace tessera::program
