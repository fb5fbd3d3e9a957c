#pragma once
// What a person may ask of a chat beside its messages.

#include <filesystem>
#include <optional>
#include <string>

#include <tessera/comm/agree.hpp>
#include <tessera/text/chat_format.hpp>

#include "program/cli.hpp"

namespace tessera::program {

struct ChatStyle {
  std::optional<std::string> system;
  std::optional<std::string> date;
  bool no_think = false;

  [[nodiscard]] ChatOptions options() const {
    ChatOptions options;
    if (no_think) options.thinking = false;
    options.date = date;
    return options;
  }
};

/// The chat format of a model's folder. Throws UsageError where it has no use for what was asked.
[[nodiscard]] inline ChatFormat chat_format(const std::filesystem::path& folder, const ChatStyle& style) {
  ChatFormat format = ChatFormat::load(folder);
  const auto refuse = [&](const char* option, const char* expected) {
    throw UsageError(concat(option, ": expected a chat format with ", expected, ", found ", format.name(),
                            " without one; leave the option out"));
  };
  if (style.no_think && !format.has_thinking_switch()) refuse("--no-think", "a switch for thoughts");
  if (style.date && !format.has_date()) refuse("--date", "a date");
  return format;
}

inline void add_chat_style_options(CLI::App& app, ChatStyle& style) {
  constexpr const char* group = "Chat";
  app.add_option("--system", style.system, "What the model is told before the conversation")
      ->type_name("TEXT")
      ->group(group);
  app.add_option("--date", style.date, "The day it is, for Llama 3.x, e.g. \"26 Jul 2024\"")
      ->type_name("DATE")
      ->group(group);
  app.add_flag("--no-think", style.no_think, "No thoughts before the answer, for models with a switch (Qwen3)")
      ->group(group);
}

}  // namespace tessera::program
