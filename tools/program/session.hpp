#pragma once
// From options to a model that is ready to run, with what went wrong said once, before anything is loaded.

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <tessera/comm/recording.hpp>
#include <tessera/runtime/footprint.hpp>
#include <tessera/runtime/generate.hpp>
#include <tessera/text/tokenizer.hpp>

#include "program/chat_style.hpp"
#include "program/model_options.hpp"
#include "program/rank_setup.hpp"

namespace tessera::program {

/// What the ranks know before the model is made.
struct Opened {
  ModelConfig config;
  StoredTypes stored;
  ModelWeights weights;
  index_t bytes_before = 0;            ///< of this process's own memory, before the model was made
  Placement placement;                 ///< of this rank, which has taken its cores
  std::optional<Tokenizer> tokenizer;  ///< if the prompt or the result is text
};

/// Reads the folder and checks that the policy can use so many ranks. Collective: all ranks throw the same Error.
[[nodiscard]] Opened open_model(Communicator comm, const ModelOptions& options, bool needs_tokenizer);

/// What `act` returns on rank 0, on every rank; when it throws there, all throw AgreedError with its text. Collective.
[[nodiscard]] std::string text_of_first(Communicator comm, const std::function<std::string()>& act);

/// Throws Error for an id that the vocabulary does not have.
void require_ids(std::span<const token_t> ids, const ModelConfig& config);

/// The ids that rank 0 has: what each rank makes of a text may hang on its clock or time zone. Collective.
[[nodiscard]] std::vector<token_t> ids_of_first(Communicator comm, std::vector<token_t> ids);

/// The prompt as ids, those of rank 0, checked against the vocabulary and the model's positions with room for
/// `new_tokens` more. With `chat` the text is a message, wrapped as the model's chat template does.
[[nodiscard]] std::vector<token_t> prompt_ids(const Communicator& comm, const Opened& opened,
                                              const ModelOptions& options, const PromptOptions& prompt,
                                              index_t new_tokens, const ChatStyle* chat = nullptr);

/// The same for each line of the file that `prompt` names, which rank 0 reads, or for the one prompt that it is.
[[nodiscard]] std::vector<std::vector<token_t>> all_prompt_ids(const Communicator& comm, const Opened& opened,
                                                               const ModelOptions& options, const PromptOptions& prompt,
                                                               index_t new_tokens, const ChatStyle* chat);

/// Ranks on this rank's machine. Collective.
[[nodiscard]] int ranks_here(Communicator comm);

/// Says on standard error of rank 0 what a model runs on, unless it is to be quiet: `policies` in the words of the
/// options.
void report(AnyModel& model, const ModelOptions& options, const RankSetup& setup, const std::string& policies);

/// A model, and what its communicator has been asked to do.
struct RecordedModel {
  std::unique_ptr<AnyModel> model;
  std::shared_ptr<Ledger> ledger;
};

/// Makes the model with room for `positions` positions of each of `sequences` sequences, and reports it.
/// `trace` has a lane for each thread of this rank's placement; `wanted`: the rows of a prompt that get logits.
[[nodiscard]] RecordedModel make_model(const Communicator& comm, const Opened& opened, const ModelOptions& options,
                                       index_t positions, index_t longest_prompt, index_t sequences = 1,
                                       Trace* trace = nullptr, Wanted wanted = Wanted::last);

/// Ends a run. Throws AgreedError where files of the weights were changed under it (require_unchanged); says in the
/// same place what is known now only: the error of activations that travelled in fewer bits. Collective.
void end_run(AnyModel& model, const Opened& opened, const ModelOptions& options);

/// Says there what a rank was planned to keep for itself and what it keeps, of the rank that keeps the most.
/// Collective.
void report_memory(AnyModel& model, const Opened& opened, const ModelOptions& options);

/// Reads a prompt, and writes the logits of all its tokens on the way as `logits` f32 [T, V], beside `input_ids` i64
/// [T], to a safetensors file; returns the last row's best id. No rank holds more than whole_rows of them. Collective.
[[nodiscard]] token_t dump_logits(AnyModel& model, std::span<const token_t> prompt, const std::string& file);

}  // namespace tessera::program
