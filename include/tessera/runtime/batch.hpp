#pragma once
// Many prompts, of unequal lengths, through one model: as many at a time as it has sequences, each step a ragged batch.

#include <algorithm>
#include <vector>

#include <tessera/runtime/sampler.hpp>

namespace tessera {

/// What one step did.
struct StepCounts {
  index_t prompt_tokens = 0;  ///< taken by prefill
  index_t new_tokens = 0;     ///< drawn
};

/// Continues prompts until each has come to its end. A sequence of the model that becomes free goes to the next
/// prompt, so that prefill of one and decode of others share a step. A text does not depend on its company, but for
/// the rounding of logits: draws are keyed by the number of the prompt.
///
/// At the beginning the cache of sequence s holds a prefix of prompt s: nothing, in a fresh model.
template <class Model>
class BatchGeneration {
 public:
  /// Text number n draws as sequence `first_sequence` + n. Throws Error for an empty prompt, or one without room.
  BatchGeneration(Model& model, Sampler& sampler, std::vector<std::vector<token_t>> prompts, index_t max_new_tokens,
                  index_t first_sequence = 0)
      : model_(model), sampler_(sampler), first_sequence_(first_sequence), max_new_tokens_(max_new_tokens) {
    const Limits& limits = model_.limits();
    require(max_new_tokens >= 1, "generation: expected to make at least one token, found ", max_new_tokens);
    for (std::vector<token_t>& prompt : prompts) {
      const auto length = static_cast<index_t>(prompt.size());
      require(length > 0, "prompt ", texts_.size(), ": expected at least one token, found none");
      require(length <= limits.max_positions, "prompt ", texts_.size(), " has ", length, " tokens; there is room for ",
              limits.max_positions);
      prompt.reserve(prompt.size() + static_cast<std::size_t>(std::min(max_new_tokens, limits.max_positions)));
      texts_.push_back({std::move(prompt), length, -1});
    }
    for (index_t s = 0; s < limits.max_sequences; ++s) admit(s);
  }

  [[nodiscard]] bool done() const { return active_.empty(); }

  /// Runs one step and calls on_token(number of the prompt, id) for each token drawn; a text ends when that returns
  /// false, at max_new_tokens, and where the model has no more positions. All ranks must return the same.
  template <class OnToken>
  StepCounts step(OnToken&& on_token) {
    StepCounts counts;
    chunks_.clear(), draws_.clear(), drawn_.clear();
    index_t spare = model_.limits().max_tokens - static_cast<index_t>(active_.size());
    for (const std::size_t n : active_) {
      const Text& text = texts_[n];
      const index_t done = model_.length(text.sequence);
      const index_t rest = static_cast<index_t>(text.tokens.size()) - done;
      const index_t count = 1 + std::min(rest - 1, spare);
      spare -= count - 1;
      counts.prompt_tokens += std::max<index_t>(0, std::min(text.prompt, done + count) - done);
      const bool last = count == rest;
      const std::span<const token_t> tokens = text.tokens;
      chunks_.push_back({text.sequence, tokens.subspan(static_cast<std::size_t>(done), static_cast<std::size_t>(count)),
                         last ? Wanted::last : Wanted::none});
      if (!last) continue;
      draws_.push_back({first_sequence_ + static_cast<index_t>(n), tokens});
      drawn_.push_back(n);
    }
    ids_.resize(draws_.size());
    const Logits logits = model_.step(chunks_);
    if (!draws_.empty()) sampler_(model_.comm(), logits, draws_, ids_);
    counts.new_tokens = static_cast<index_t>(ids_.size());
    for (std::size_t i = 0; i < drawn_.size(); ++i) append(drawn_[i], ids_[i], on_token);
    return counts;
  }

 private:
  struct Text {
    std::vector<token_t> tokens;
    index_t prompt;    // tokens of it
    index_t sequence;  // of the model, while it is active
  };

  /// Gives a sequence to the next prompt, if there is one.
  void admit(index_t sequence) {
    if (next_ == texts_.size()) return;
    texts_[next_].sequence = sequence;
    active_.push_back(next_++);
  }

  template <class OnToken>
  void append(std::size_t n, token_t id, OnToken& on_token) {
    Text& text = texts_[n];
    text.tokens.push_back(id);
    const auto length = static_cast<index_t>(text.tokens.size());
    const bool more =
        on_token(n, id) && length - text.prompt < max_new_tokens_ && length <= model_.limits().max_positions;
    if (more) return;
    active_.erase(std::find(active_.begin(), active_.end(), n));
    if (next_ == texts_.size()) return;
    model_.truncate(text.sequence, 0);
    admit(text.sequence);
  }

  Model& model_;
  Sampler& sampler_;
  index_t first_sequence_;
  index_t max_new_tokens_;
  std::vector<Text> texts_;
  std::vector<std::size_t> active_, drawn_;
  std::size_t next_ = 0;
  std::vector<Chunk> chunks_;
  std::vector<Draw> draws_;
  std::vector<token_t> ids_;
};

}  // namespace tessera
