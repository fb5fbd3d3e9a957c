#pragma once
// A prompt through the model in chunks, then one token after another.

#include <algorithm>
#include <vector>

#include <tessera/runtime/vocabulary.hpp>

namespace tessera {

/// Runs `prompt` through `model` in chunks that fit its limits; calls progress(tokens done) after each. Returns the
/// logits of the last token. Throws Error for an empty prompt.
template <class Model, class Progress>
Logits prefill(Model& model, index_t sequence, std::span<const token_t> prompt, Progress&& progress) {
  require(!prompt.empty(), "prompt: expected at least one token, found none");
  const auto chunk_size = static_cast<std::size_t>(model.limits().max_tokens);
  Logits logits;
  for (std::size_t done = 0; done < prompt.size();) {
    const std::size_t count = std::min(chunk_size, prompt.size() - done);
    const bool last = done + count == prompt.size();
    const Chunk chunk{sequence, prompt.subspan(done, count), last ? Wanted::last : Wanted::none};
    logits = model.step({&chunk, 1});
    done += count;
    progress(static_cast<index_t>(done));
  }
  return logits;
}

/// Greedy decoding of one sequence: calls on_token(id) for each new token until it returns false. The cache then holds
/// the prompt and all tokens but the last.
template <class Model, class OnToken>
void generate_greedily(Model& model, index_t sequence, std::span<const token_t> prompt, index_t max_new_tokens,
                       OnToken&& on_token) {
  if (max_new_tokens <= 0) return;
  Argmax argmax;
  token_t next = 0;
  argmax(model.comm(), prefill(model, sequence, prompt, [](index_t) {}), {&next, 1});
  for (index_t n = 1; on_token(next) && n < max_new_tokens; ++n) {
    const Chunk chunk{sequence, {&next, 1}, Wanted::last};
    argmax(model.comm(), model.step({&chunk, 1}), {&next, 1});
  }
}

}  // namespace tessera
