#pragma once
// The lines of `tessera tokenize`: what each of them becomes.

#include <iosfwd>
#include <optional>
#include <string>

#include <tessera/text/chat_format.hpp>
#include <tessera/text/tokenizer.hpp>

namespace tessera::tools {

struct TokenizeOptions {
  std::string model;
  bool no_special = false;
  bool decode = false;
  bool render = false;
};

/// Answers lines of JSON with the tokenizer or the chat format of a model's folder.
class LineAnswers {
 public:
  explicit LineAnswers(const TokenizeOptions& options);

  /// Reads `in` to its end and writes a line for each. Throws Error that names the line which it cannot answer.
  void answer(std::istream& in, std::ostream& out) const;

 private:
  [[nodiscard]] text::Json answer(const text::JsonReader& line) const;

  TokenizeOptions options_;
  std::optional<Tokenizer> tokenizer_;
  std::optional<ChatFormat> format_;
};

}  // namespace tessera::tools
