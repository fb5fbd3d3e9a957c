#pragma once
// From options to a model that is ready to run, with what went wrong said once, before anything is loaded.

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <tessera/runtime/generate.hpp>
#include <tessera/text/tokenizer.hpp>

#include "program/model_options.hpp"

namespace tessera::program {

/// What the ranks know before the model is made.
struct Opened {
  ModelConfig config;
  ModelWeights weights;
  std::optional<Tokenizer> tokenizer;  ///< if the prompt or the result is text
};

/// Reads the folder and checks that the policy can use so many ranks. Collective: all ranks throw the same Error.
[[nodiscard]] Opened open_model(Communicator comm, const ModelOptions& options, bool needs_tokenizer);

/// The prompt as ids, checked against the vocabulary and the model's positions with room for `new_tokens` more.
/// `chat` wraps the text as the model's chat template does.
[[nodiscard]] std::vector<token_t> prompt_ids(Communicator comm, const Opened& opened, const ModelOptions& options,
                                              const PromptOptions& prompt, index_t new_tokens, bool chat);

/// Makes the model with room for `positions` positions of each of `sequences` sequences, and says on standard error
/// what it runs on.
[[nodiscard]] std::unique_ptr<AnyModel> make_model(Communicator comm, const Opened& opened, const ModelOptions& options,
                                                   index_t positions, index_t longest_prompt, index_t sequences = 1);

/// Writes `logits` f32 [T, V] and `input_ids` i64 [T] as safetensors.
void write_logits(const std::string& file, std::span<const token_t> ids, std::span<const float> logits, index_t vocab);

/// Prefill with the logits of all rows on rank 0, for write_logits; returns them with the last row's best id.
struct WholePrefill {
  std::vector<float> logits;  ///< [T, V] on rank 0, empty elsewhere
  token_t next = 0;
};
[[nodiscard]] WholePrefill prefill_all(AnyModel& model, std::span<const token_t> prompt);

}  // namespace tessera::program
