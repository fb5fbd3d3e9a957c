#pragma once
// The text of new tokens as they come, and where it ends.

#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <tessera/text/stop_strings.hpp>
#include <tessera/text/tokenizer.hpp>

namespace tessera::program {

/// Turns tokens into text up to an end: one of the model's end-of-text ids, or a stop string.
class TextStream {
 public:
  /// Without a tokenizer (which must outlive the stream) there is no text, and only ids end it.
  TextStream(const Tokenizer* tokenizer, std::vector<token_t> eos, std::vector<std::string> stops = {})
      : eos_(std::move(eos)), stops_(std::move(stops)) {
    if (tokenizer != nullptr) decoder_ = tokenizer->stream_decoder(true);
  }

  /// The text that this token decides; nothing for an end-of-text id.
  [[nodiscard]] std::string push(token_t id) {
    if (std::find(eos_.begin(), eos_.end(), id) != eos_.end()) {
      at_eos_ = true;
      return {};
    }
    return decoder_ ? stops_.push(decoder_->push(id)) : std::string();
  }

  /// Whether the text has come to its end by itself.
  [[nodiscard]] bool ended() const { return at_eos_ || stops_.found(); }

  /// What is left when no more tokens come.
  [[nodiscard]] std::string flush() {
    if (!decoder_) return {};
    const std::string decided = stops_.push(decoder_->flush());
    return decided + stops_.flush();
  }

 private:
  std::vector<token_t> eos_;
  StopStrings stops_;
  std::optional<StreamDecoder> decoder_;
  bool at_eos_ = false;
};

}  // namespace tessera::program
