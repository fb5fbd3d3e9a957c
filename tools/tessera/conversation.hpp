#pragma once
// A conversation on all ranks: the messages so far, and the cache that already holds most of the next prompt.

#include <algorithm>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <tessera/comm/agree.hpp>
#include <tessera/text/chat_format.hpp>

#include "chat.hpp"
#include "program/run_times.hpp"
#include "program/session.hpp"
#include "program/text_stream.hpp"

namespace tessera::tools {

/// What happens while an answer is made; every rank calls these at the same places.
struct AnswerEvents {
  std::function<void(index_t done, index_t total)> read;  ///< tokens of the prompt that are not in the cache
  std::function<void(const std::string&)> text;
  std::function<bool()> stop;  ///< after each step; the same on all ranks
};

struct Answer {
  std::string_view end;  ///< one of chat_end
  std::string summary;
  index_t prefilled = 0;  ///< tokens of the prompt that the cache did not hold
};

class Conversation {
 public:
  /// Sizes the model for `command.context` positions, or as many as it has. Collective.
  Conversation(Communicator comm, const ChatCommand& command)
      : comm_(std::move(comm)), opened_(program::open_model(comm_, command.model, true)), stops_(command.stops) {
    sampling_ = agree(comm_, [&] {
      format_.emplace(program::chat_format(command.model.model, command.style));
      return program::chosen_sampling(command.sampling, read_generation_config(command.model.model));
    });
    const index_t context = std::min(command.context, opened_.config.max_positions);
    max_new_tokens_ = command.max_new_tokens > 0 ? command.max_new_tokens : context;
    options_ = command.style.options();
    if (command.style.system) messages_.push_back({"system", *command.style.system});
    first_messages_ = messages_.size();
    auto made = program::make_model(comm_, opened_, command.model, context, context);
    model_ = std::move(made.model), ledger_ = std::move(made.ledger);
  }

  [[nodiscard]] const ModelWeights& weights() const { return opened_.weights; }
  [[nodiscard]] const AnyModel& model() const { return *model_; }
  [[nodiscard]] const Sampling& sampling() const { return sampling_; }

  /// Forgets all but the system message.
  void clear() {
    messages_.resize(first_messages_);
    ++number_;  // the same question gets another draw
  }

  /// Answers a message. When it does not fit, it is not taken. Throws AgreedError, on all ranks, for a message that
  /// cannot be rendered. Collective.
  Answer ask(std::string question, const AnswerEvents& events) {
    messages_.push_back({"user", std::move(question)});
    std::vector<token_t> prompt;
    try {
      prompt = program::ids_of_first(comm_, agree(comm_, [&] { return rendered(); }));
    } catch (const AgreedError&) {
      messages_.pop_back();
      throw;
    }
    if (static_cast<index_t>(prompt.size()) > model_->limits().max_positions) {
      messages_.pop_back();
      return {chat_end::no_room, {}, 0};
    }
    return generate(std::move(prompt), events);
  }

 private:
  [[nodiscard]] std::vector<token_t> rendered() const {
    std::vector<token_t> ids = opened_.tokenizer->encode(format_->render(messages_, true, options_), false);
    program::require_ids(ids, opened_.config);
    return ids;
  }

  /// Cuts the cache back to what it shares with the prompt; returns how much that is. The last token of a prompt runs
  /// again in any case: its logits are wanted.
  index_t keep_common_prefix(const std::vector<token_t>& prompt) {
    const auto held = cached_.begin() + static_cast<std::ptrdiff_t>(model_->length(0));
    const auto differs = std::mismatch(cached_.begin(), held, prompt.begin(), prompt.end() - 1).first;
    const index_t common = differs - cached_.begin();
    model_->truncate(0, common);
    return common;
  }

  Answer generate(std::vector<token_t> prompt, const AnswerEvents& events) {
    const index_t rest = static_cast<index_t>(prompt.size()) - keep_common_prefix(prompt);
    cached_ = prompt;
    program::RunTimes times(*ledger_);
    program::TextStream stream(&*opened_.tokenizer, opened_.config.eos_token_ids, stops_);
    std::string text;
    const auto show = [&](const std::string& piece) {
      text += piece;
      if (!piece.empty()) events.text(piece);
    };
    Sampler sampler(sampling_);
    BatchGeneration generation(*model_, sampler, {std::move(prompt)}, max_new_tokens_, number_);
    bool stopped = false;
    while (!generation.done() && !stopped) {
      times.measure([&] {
        return generation.step([&](std::size_t, token_t id) {
          cached_.push_back(id);
          show(stream.push(id));
          return !stream.ended();
        });
      });
      if (times.prefilled() < rest) events.read(times.prefilled(), rest);
      stopped = events.stop();
    }
    show(stream.flush());
    messages_.push_back({"assistant", text});
    const std::string_view end = stream.ended()                    ? chat_end::complete
                                 : stopped                         ? chat_end::stopped
                                 : times.made() >= max_new_tokens_ ? chat_end::length
                                                                   : chat_end::full;
    return {end, times.brief(), times.prefilled()};
  }

  Communicator comm_;
  program::Opened opened_;
  std::optional<ChatFormat> format_;
  Sampling sampling_;
  ChatOptions options_;
  std::vector<std::string> stops_;
  std::vector<ChatMessage> messages_;
  std::size_t first_messages_ = 0;
  std::vector<token_t> cached_;  // what the cache holds, and at most one token more
  std::unique_ptr<AnyModel> model_;
  std::shared_ptr<Ledger> ledger_;
  index_t max_new_tokens_ = 0;
  index_t number_ = 0;
};

}  // namespace tessera::tools
