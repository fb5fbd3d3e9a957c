#pragma once
// The options that every program with a model has: which model, which prompt, which policies, how many threads.

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <tessera/runtime/combination.hpp>
#include <tessera/runtime/weight_formats.hpp>

#include "program/cli.hpp"

namespace tessera::program {

/// Where the model is and how it is split.
struct ModelOptions {
  std::string model;                           ///< folder of the checkpoint
  std::string parallel_strategy = "headwise";  ///< a name of the table, or OUTER:NxINNER:M
  std::string decode_strategy;                 ///< empty: the one that the strategy comes with
  std::string attention_algo = "online_softmax";
  std::string simd = "native";
  int threads = 0;                  ///< 0: the cores this rank may use, or OMP_NUM_THREADS
  std::string weights = "stored";   ///< a name of WeightFormat: what the layers' weights are converted to
  std::string lm_head;              ///< the same for lm_head; empty: as the layers
  std::string arithmetic = "int8";  ///< or f32: what products with weights in blocks are computed in
  std::string compute = "f32";      ///< or bf16: what products with bf16 weights are computed in
  std::string kv_cache = "f32";     ///< a name of CacheFormat: what keys and values are stored as
  std::string shares;               ///< "3,1": how the ranks share the work; empty: equally
  index_t chunk = 512;
  std::string collectives = "auto";  ///< auto, mpi, shm, mpi-own: see add_model_options
  std::string wire = "f32";          ///< a name of WireFormat
  std::string overlap = "auto";      ///< auto, on, off
  std::string binding = "auto";      ///< auto, none
  double timeout = 600;
  bool copy_weights = false;   ///< each rank copies what decode reads of them into memory of its own
  bool ignore_memory = false;  ///< start even where the plan says that it will not fit
  bool quiet = false;          ///< says nothing on standard error but errors
};

/// What the model reads first.
struct PromptOptions {
  std::string text;
  std::string ids;   ///< "1,2,3": needs no tokenizer
  std::string file;  ///< a prompt per line
  bool has_text = false;

  [[nodiscard]] bool as_ids() const { return !has_text; }
};

/// All of them.
void add_model_options(CLI::App& app, ModelOptions& options);
/// Of these, how the ranks split the model; and what weights are converted to.
void add_sharding_options(CLI::App& app, ModelOptions& options);
void add_weight_options(CLI::App& app, ModelOptions& options);
/// What keys and values are stored as.
void add_cache_option(CLI::App& app, ModelOptions& options);
/// Those that choose no policies, for a program whose policies are fixed.
void add_run_options(CLI::App& app, ModelOptions& options);
/// `with_file` adds --prompt-file. One of the sources is required.
void add_prompt_options(CLI::App& app, PromptOptions& options, bool with_file = false);

/// The ids in "1,2,3", which `option` was given. Throws UsageError that shows the piece that is no id.
[[nodiscard]] std::vector<token_t> parse_ids(std::string_view option, const std::string& text);

/// The formats that the options ask for.
[[nodiscard]] WeightFormats chosen_formats(const ModelOptions& options);
[[nodiscard]] CacheType chosen_cache(const ModelOptions& options);

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
