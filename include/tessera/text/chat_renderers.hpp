#pragma once
// What each chat template writes, as a function of the conversation.

#include <chrono>
#include <ctime>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include <tessera/text/unicode.hpp>

namespace tessera {

/// One turn of a conversation; UTF-8.
struct ChatMessage {
  std::string role;  ///< system, user or assistant
  std::string content;
};

/// What a template may be told beside the conversation.
struct ChatOptions {
  std::optional<bool> thinking;     ///< transformers' enable_thinking; unset: as the template has it
  std::optional<std::string> date;  ///< as Llama 3.x writes it, "26 Jul 2024"; unset: as the template has it
};

namespace text {

/// Python's str.strip(): what str.isspace() takes is White_Space and the separators U+001C to U+001F.
[[nodiscard]] inline std::string_view strip(std::string_view text) {
  const auto space = [](char32_t c) { return is_white_space(c) || (c >= 0x1C && c <= 0x1F); };
  while (!text.empty()) {
    const Utf8Step step = utf8_step(text, 0);
    if (!space(step.code_point)) break;
    text.remove_prefix(step.length);
  }
  while (!text.empty()) {
    const std::size_t last = previous_code_point(text, text.size());
    if (!space(utf8_step(text, last).code_point)) break;
    text.remove_suffix(text.size() - last);
  }
  return text;
}

/// As Python's lstrip("\\n").
[[nodiscard]] inline std::string_view strip_newlines_left(std::string_view text) {
  text.remove_prefix(std::min(text.size(), text.find_first_not_of('\n')));
  return text;
}
/// As Python's rstrip("\\n").
[[nodiscard]] inline std::string_view strip_newlines_right(std::string_view text) {
  return text.substr(0, text.find_last_not_of('\n') + 1);
}

/// The part after the last `mark`; all of it if there is none.
[[nodiscard]] inline std::string_view after_last(std::string_view text, std::string_view mark) {
  const std::size_t at = text.rfind(mark);
  return at == std::string_view::npos ? text : text.substr(at + mark.size());
}

/// Today as "26 Jul 2024", in local time and English.
[[nodiscard]] inline std::string date_of_today() {
  const std::time_t now = std::chrono::system_clock::to_time_t(std::chrono::system_clock::now());
  std::tm local{};
  ::localtime_r(&now, &local);
  constexpr std::string_view months = "JanFebMarAprMayJunJulAugSepOctNovDec";
  return concat(local.tm_mday < 10 ? "0" : "", local.tm_mday, ' ',
                months.substr(3 * static_cast<std::size_t>(local.tm_mon), 3), ' ', local.tm_year + 1900);
}

/// One message between ChatML's marks.
[[nodiscard]] inline std::string chatml_message(std::string_view role, std::string_view content) {
  return concat("<|im_start|>", role, '\n', content, "<|im_end|>\n");
}

/// ChatML: each message between marks. Qwen2 and Qwen2.5 begin with a system prompt of their own where there is none.
[[nodiscard]] inline std::string render_chatml(std::span<const ChatMessage> messages, std::string_view default_system,
                                               bool answer) {
  std::string out;
  if (!default_system.empty() && messages.front().role != "system") out += chatml_message("system", default_system);
  for (const ChatMessage& message : messages) out += chatml_message(message.role, message.content);
  if (answer) out += "<|im_start|>assistant\n";
  return out;
}

/// Qwen3: ChatML; what the assistant thought is left out up to the last question, and written in one way after it.
[[nodiscard]] inline std::string render_qwen3(std::span<const ChatMessage> messages, std::string_view prompt) {
  const std::size_t n = messages.size();
  std::size_t last_question = n - 1;
  for (std::size_t i = n; i-- > 0;) {
    const std::string_view content = messages[i].content;
    const bool tool_result = content.starts_with("<tool_response>") && content.ends_with("</tool_response>");
    if (messages[i].role == "user" && !tool_result) {
      last_question = i;
      break;
    }
  }
  std::string out;
  for (std::size_t i = 0; i < n; ++i) {
    std::string_view content = messages[i].content;
    if (messages[i].role != "assistant") {
      out += chatml_message(messages[i].role, content);
      continue;
    }
    std::string_view thoughts;
    if (const std::size_t close = content.find("</think>"); close != std::string_view::npos) {
      thoughts = strip_newlines_right(content.substr(0, close));
      thoughts = strip_newlines_left(after_last(thoughts, "<think>"));
      content = strip_newlines_left(after_last(content, "</think>"));
    }
    if (i > last_question && (i + 1 == n || !thoughts.empty())) {
      thoughts = strip_newlines_left(strip_newlines_right(thoughts));
      out += chatml_message("assistant", concat("<think>\n", thoughts, "\n</think>\n\n", strip_newlines_left(content)));
    } else {
      out += chatml_message("assistant", content);
    }
  }
  return out.append(prompt);
}

/// DeepSeek-R1-Distill: the last system message stands first, without a mark; thoughts are left out.
[[nodiscard]] inline std::string render_deepseek(std::span<const ChatMessage> messages, std::string_view bos,
                                                 std::string_view prompt) {
  std::string_view system;
  for (const ChatMessage& message : messages)
    if (message.role == "system") system = message.content;
  std::string out = concat(bos, system);
  for (const ChatMessage& message : messages) {
    if (message.role == "user") out += concat("<｜User｜>", message.content);
    if (message.role == "assistant")
      out += concat("<｜Assistant｜>", after_last(message.content, "</think>"), "<｜end▁of▁sentence｜>");
  }
  return out.append(prompt);
}

/// Llama 3: a header for each message. From 3.1 on, with `date`, there always is a system message, which begins with
/// it.
[[nodiscard]] inline std::string render_llama3(std::span<const ChatMessage> messages, std::string_view bos,
                                               const std::optional<std::string>& date, bool answer) {
  const auto header = [](std::string_view role) {
    return concat("<|start_header_id|>", role, "<|end_header_id|>\n\n");
  };
  std::string out(bos);
  if (date) {
    out += concat(header("system"), "Cutting Knowledge Date: December 2023\nToday Date: ", *date, "\n\n");
    if (messages.front().role == "system") {
      out += strip(messages.front().content);
      messages = messages.subspan(1);
    }
    out += "<|eot_id|>";
  }
  for (const ChatMessage& message : messages) out += concat(header(message.role), strip(message.content), "<|eot_id|>");
  if (answer) out += header("assistant");
  return out;
}

/// Llama 2: the system prompt stands in the first question; questions and answers alternate. There is no generation
/// prompt: a question's end is one.
[[nodiscard]] inline std::string render_llama2(std::span<const ChatMessage> messages, std::string_view bos,
                                               std::string_view eos) {
  std::optional<std::string> system;
  if (messages.front().role == "system") {
    system = messages.front().content;
    messages = messages.subspan(1);
  }
  std::string out;
  for (std::size_t i = 0; i < messages.size(); ++i) {
    const std::string_view expected = i % 2 == 0 ? "user" : "assistant";
    require(messages[i].role == expected, "chat: expected roles user and assistant in turn, found '", messages[i].role,
            "' as message ", i + 1, " after the system prompt");
    std::string content = messages[i].content;
    if (i == 0 && system) content = concat("<<SYS>>\n", *system, "\n<</SYS>>\n\n", content);
    if (i % 2 == 0) {
      out += concat(bos, "[INST] ", strip(content), " [/INST]");
    } else {
      out += concat(' ', strip(content), ' ', eos);
    }
  }
  return out;
}

}  // namespace text
}  // namespace tessera
