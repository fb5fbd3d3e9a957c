#pragma once
// Conversations as the text that a model was trained on: the chat formats of the supported families, built in.
//
// A model's template is a Jinja program; none is run here. The template is recognised by what it says, and the format
// it has renders in C++, equal to what the template would give.

#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include <tessera/text/chat_renderers.hpp>
#include <tessera/text/chat_template.hpp>

namespace tessera {

/// The chat format of a model.
class ChatFormat {
 public:
  /// Reads the template of a model folder. Throws Error if it has none, or one of an unknown format.
  [[nodiscard]] static ChatFormat load(const std::filesystem::path& folder) {
    return ChatFormat(text::read_chat_template(folder), folder.string());
  }

  /// Recognises a template; `where` is for messages.
  explicit ChatFormat(const text::ChatTemplate& source, const std::string& where = "chat_template") {
    constexpr std::string_view remedy =
        "; without a chat format a model still continues text: give the prompt itself, with the marks of its format, "
        "to `tessera generate --prompt`";
    require(!source.source.empty(), where, ": expected a chat template (chat_template.jinja, or chat_template in ",
            "tokenizer_config.json), found none", remedy);
    const text::CanonicalTemplate canonical(source.source);
    const bool known = recognise_deepseek(canonical) || recognise_llama3(canonical) || recognise_llama2(canonical) ||
                       recognise_qwen3(canonical) || recognise_chatml(canonical);
    require(known, where, ": expected a chat template of a known format (ChatML, Qwen2, Qwen2.5, Qwen3, ",
            "DeepSeek-R1-Distill, Llama 2, Llama 3), found another, beginning '", excerpt(source.source), '\'', remedy);
    if (!source.bos_token.empty()) bos_ = source.bos_token;
    if (!source.eos_token.empty()) eos_ = source.eos_token;
  }

  /// chatml, qwen3, deepseek-r1-distill, llama2 or llama3.
  [[nodiscard]] std::string_view name() const { return name_; }

  /// Whether ChatOptions::thinking makes a difference.
  [[nodiscard]] bool has_thinking_switch() const { return thinking_switch_; }
  /// Whether ChatOptions::date does.
  [[nodiscard]] bool has_date() const { return dated_; }

  /// The conversation as text; with `add_generation_prompt` the beginning of the assistant's answer follows. Equal to
  /// transformers' apply_chat_template. The text has its own BOS: encode it without special tokens.
  /// Throws Error for an empty conversation, an unknown role, or an order of roles that the format does not have.
  [[nodiscard]] std::string render(std::span<const ChatMessage> messages, bool add_generation_prompt,
                                   const ChatOptions& options = {}) const {
    require(!messages.empty(), "chat: expected a message at least, found none");
    for (const ChatMessage& message : messages) {
      const bool known = message.role == "system" || message.role == "user" || message.role == "assistant";
      require(known, "chat: expected roles system, user, assistant, found '", message.role, '\'');
    }
    return render_(*this, messages, add_generation_prompt, options);
  }

 private:
  using Render = std::string (*)(const ChatFormat&, std::span<const ChatMessage>, bool, const ChatOptions&);

  static std::string excerpt(std::string_view source) {
    std::string out(source.substr(0, 60));
    for (char& c : out)
      if (static_cast<unsigned char>(c) < 0x20 || static_cast<unsigned char>(c) >= 0x7F) c = ' ';
    return out;
  }

  bool recognise_deepseek(const text::CanonicalTemplate& t) {
    if (!t.has("'<｜User｜>' + message['content']") || !t.has("{{bos_token}}{{ns.system_prompt}}")) return false;
    if (t.has("is_first_sp")) return false;
    if (!t.has("content.split('</think>')[-1]") || !t.has("'<｜Assistant｜>' + content + '<｜end▁of▁sentence｜>'"))
      return false;
    name_ = "deepseek-r1-distill";
    bos_ = "<｜begin▁of▁sentence｜>";
    if (t.has("{{'<｜Assistant｜><think>\\n'}}")) {
      prompt_ = "<｜Assistant｜><think>\n";
    } else if (t.has("{{'<｜Assistant｜>'}}")) {
      prompt_ = "<｜Assistant｜>";
    } else {
      return false;
    }
    // A later edition closes the thinking at once unless enable_thinking is set.
    thinking_switch_ = t.has("{% if not enable_thinking %}{{ '</think>' }}");
    render_ = [](const ChatFormat& f, std::span<const ChatMessage> messages, bool answer, const ChatOptions& options) {
      const bool closed = f.thinking_switch_ && !options.thinking.value_or(false);
      return text::render_deepseek(messages, f.bos_, answer ? f.prompt_ + (closed ? "</think>" : "") : "");
    };
    return true;
  }

  bool recognise_llama3(const text::CanonicalTemplate& t) {
    constexpr std::string_view message =
        "'<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + message['content'] | trim + "
        "'<|eot_id|>'";
    if (!t.has(message) || !t.has("'<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}")) return false;
    const bool dated = t.has("'Cutting Knowledge Date: December 2023\\n'") &&
                       t.has("'Today Date: ' + date_string + '\\n\\n'") && t.has("{{ bos_token }}") &&
                       t.has("date_string = '26 Jul 2024'");
    const bool plain = t.has("{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}");
    if (dated == plain || t.has("'<|image|>'")) return false;
    name_ = "llama3";
    bos_ = "<|begin_of_text|>";
    always_prompts_ = !t.has("{% if add_generation_prompt %}");
    dated_ = dated;
    date_today_ = t.has("strftime_now('%d %b %Y')");
    render_ = [](const ChatFormat& f, std::span<const ChatMessage> messages, bool answer, const ChatOptions& options) {
      std::optional<std::string> date;
      if (f.dated_) date = options.date.value_or(f.date_today_ ? text::date_of_today() : "26 Jul 2024");
      return text::render_llama3(messages, f.bos_, date, answer || f.always_prompts_);
    };
    return true;
  }

  bool recognise_llama2(const text::CanonicalTemplate& t) {
    const bool known = t.has("'<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content']") &&
                       t.has("{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}") &&
                       t.has("{{ ' ' + content.strip() + ' ' + eos_token }}") && t.has("raise_exception");
    if (!known || t.has("true == true") || t.has("USE_DEFAULT_PROMPT")) return false;
    name_ = "llama2";
    bos_ = "<s>";
    eos_ = "</s>";
    render_ = [](const ChatFormat& f, std::span<const ChatMessage> messages, bool, const ChatOptions&) {
      return text::render_llama2(messages, f.bos_, f.eos_);
    };
    return true;
  }

  bool recognise_qwen3(const text::CanonicalTemplate& t) {
    const bool known =
        t.has("'\\n<think>\\n' + reasoning_content.strip('\\n') + '\\n</think>\\n\\n' + content.lstrip('\\n')") &&
        t.has("{% if loop.last or (not loop.last and reasoning_content) %}") &&
        t.has("{% if loop.index0 > ns.last_query_index %}") && t.has(".split('</think>')[-1].lstrip('\\n')") &&
        !t.has("preserve_thinking") && !t.has("You are a helpful assistant");
    if (!known) return false;
    name_ = "qwen3";
    thinking_switch_ =
        t.has("{% if enable_thinking is defined and enable_thinking is false %}{{ '<think>\\n\\n</think>\\n\\n' }}");
    prompt_ = t.has("{{ '<|im_start|>assistant\\n<think>\\n' }}") ? "<|im_start|>assistant\n<think>\n"
                                                                  : "<|im_start|>assistant\n";
    render_ = [](const ChatFormat& f, std::span<const ChatMessage> messages, bool answer, const ChatOptions& options) {
      const bool empty_thoughts = f.thinking_switch_ && !options.thinking.value_or(true);
      return text::render_qwen3(messages, answer ? f.prompt_ + (empty_thoughts ? "<think>\n\n</think>\n\n" : "") : "");
    };
    return true;
  }

  bool recognise_chatml(const text::CanonicalTemplate& t) {
    constexpr std::string_view message =
        "'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n'";
    if (!t.has(message) || !t.has("{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"))
      return false;
    // What would change a text, or a conversation, beyond what the loop over the messages says.
    for (const std::string_view other : {"think", "reasoning", "trim", "strip(", "bos_token", "eos_token",
                                         "raise_exception", "upper", "lower", "replace", "render_content"})
      if (t.has(other)) return false;
    name_ = "chatml";
    const bool has_default = t.find_literal("<|im_start|>system\n", "<|im_end|>\n", default_system_);
    if (has_default && !t.has("messages[0]['role']")) return false;
    render_ = [](const ChatFormat& f, std::span<const ChatMessage> messages, bool answer, const ChatOptions&) {
      return text::render_chatml(messages, f.default_system_, answer);
    };
    return true;
  }

  std::string_view name_;
  std::string bos_;
  std::string eos_;
  std::string prompt_;
  std::string default_system_;
  bool thinking_switch_ = false;
  bool dated_ = false;
  bool date_today_ = false;
  bool always_prompts_ = false;
  Render render_ = nullptr;
};

}  // namespace tessera
