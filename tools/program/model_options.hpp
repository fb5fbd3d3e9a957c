#pragma once
// The options that every program with a model has: which model, which prompt, which policies, how many threads.

#include <optional>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include <tessera/runtime/combination.hpp>

namespace tessera::program {

/// Where the model is and how it is split.
struct ModelOptions {
  std::string model;                           ///< folder of the checkpoint
  std::string parallel_strategy = "headwise";  ///< a name of the table, or OUTER:NxINNER:M
  std::string decode_strategy;                 ///< empty: the one that the strategy comes with
  std::string attention_algo = "online_softmax";
  std::string simd = "native";
  int threads = 0;     ///< 0: the cores this rank may use, or OMP_NUM_THREADS
  std::string shares;  ///< "3,1": how the ranks share the work; empty: equally
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

/// The policies that the options name, for `ranks` ranks.
struct Policies {
  const Combination* combination = nullptr;
  index_t inner = 1;  ///< ranks of the inner dimension of a hybrid
  std::vector<double> shares;

  [[nodiscard]] Ranks ranks(const Communicator& comm) const { return {comm.rank(), comm.size(), shares, inner}; }
};

/// Throws Error that says which names are shipped, or which numbers fit.
[[nodiscard]] Policies chosen_policies(const ModelOptions& options, index_t ranks);

}  // namespace tessera::program
