#pragma once
// A chat is two programs: one that keeps the terminal, and the ranks, which it starts. They send each other lines of
// JSON: under MPICH's launcher no rank has a terminal, and a second Ctrl-C there would end the job.
//
// To the ranks: {"ask": TEXT}, {"clear": true}, {"stop": true}; the end of the stream ends them.
// From rank 0: {"load": [DONE, TOTAL]} while weights come from the disk, {"ready": TEXT} once; then for each question
// {"read": [DONE, TOTAL]} while a long prompt is read,
// {"text": PIECE} as the answer is made, and at its end {"end": REASON, "summary": TEXT}, or {"failed": TEXT}.
// While it waits, rank 0 may be stopped at any time: a {"stop"} that comes after the end is dropped.

#include <string>
#include <string_view>
#include <vector>

#include <tessera/io/json.hpp>

#include "program/chat_style.hpp"
#include "program/cli.hpp"
#include "program/model_options.hpp"
#include "program/sampling_options.hpp"

namespace tessera::tools {

/// What both programs are started with.
struct ChatCommand {
  program::ModelOptions model;
  program::SamplingOptions sampling;
  program::ChatStyle style;
  std::vector<std::string> stops;
  index_t context = 4096;
  index_t max_new_tokens = 0;  // 0: as far as the context goes
  int ranks = 1;
  std::string mpiexec;  // command and options
};

/// Why an answer ended.
namespace chat_end {
inline constexpr std::string_view complete = "complete";
inline constexpr std::string_view stopped = "stopped";  // by {"stop": true}
inline constexpr std::string_view length = "length";    // max_new_tokens
inline constexpr std::string_view full = "full";        // the context has no more room
inline constexpr std::string_view no_room = "no room";  // the question does not fit, and was not taken
}  // namespace chat_end

/// One of these lines. What is no UTF-8, of a folder's name or of what was typed, is replaced: JSON has no other text.
[[nodiscard]] inline std::string line_of(const Json& message) {
  return message.dump(-1, ' ', false, Json::error_handler_t::replace);
}

void add_chat_options(CLI::App& app, ChatCommand& command);

}  // namespace tessera::tools
