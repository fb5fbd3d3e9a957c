#pragma once
// What a person types, line by line: edited and remembered on a terminal, plain from anywhere else.

#include <functional>
#include <memory>
#include <string>

namespace tessera::tools {

/// A line, or what came in its place.
struct TypedLine {
  enum Kind { text, interrupted, end };
  Kind kind = end;
  std::string line;  ///< without its end; when interrupted, what had been typed
};

class LineReader {
 public:
  LineReader() = default;
  LineReader(const LineReader&) = delete;
  LineReader& operator=(const LineReader&) = delete;
  virtual ~LineReader() = default;

  /// Waits for a line; `interrupted` is asked several times a second, and ends the wait when it says so.
  virtual TypedLine read(const std::string& prompt, const std::function<bool()>& interrupted) = 0;
};

/// The editor of libedit when standard input and output are a terminal and the build has it, with the history of the
/// last chats; else a reader without editing, which shows the prompt on a terminal alone.
[[nodiscard]] std::unique_ptr<LineReader> make_line_reader();

}  // namespace tessera::tools
