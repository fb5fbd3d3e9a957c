// tessera chat-ranks: the ranks of a chat, as `tessera chat` starts them. Rank 0 speaks with it, see chat.hpp.
#include <poll.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <deque>
#include <memory>
#include <string>

#include <fmt/format.h>

#include <tessera/runtime/load_weights.hpp>
#include <tessera/simd/isa.hpp>

#include "commands.hpp"
#include "conversation.hpp"
#include "loading.hpp"

namespace tessera::tools {

namespace {

/// Lines of standard input, without blocking where nothing has come; rank 0 alone has one.
class Mailbox {
 public:
  /// Takes what has come; waits for something when `wait` is set.
  void fetch(bool wait) {
    pollfd input{STDIN_FILENO, POLLIN, 0};
    while (!closed_ && ::poll(&input, 1, wait ? -1 : 0) > 0) {
      char bytes[4096];
      const ssize_t n = ::read(STDIN_FILENO, bytes, sizeof bytes);
      if (n < 0 && errno == EINTR) continue;
      closed_ = n <= 0;
      if (n > 0) held_.append(bytes, static_cast<std::size_t>(n));
      for (std::size_t end = 0; (end = held_.find('\n')) != std::string::npos; held_.erase(0, end + 1))
        lines_.push_back(parse_json(held_.substr(0, end), "a line of `tessera chat`"));
      wait = false;
    }
  }

  [[nodiscard]] bool closed() const { return closed_; }

  /// The next line; null when there is none.
  Json take() {
    if (lines_.empty()) return nullptr;
    Json line = std::move(lines_.front());
    lines_.pop_front();
    return line;
  }

  /// Whether the answer is to end; takes the line that says so.
  bool wants_stop() {
    fetch(false);
    const bool stop = !lines_.empty() && lines_.front().contains("stop");
    if (stop) lines_.pop_front();
    return stop || closed_;
  }

 private:
  std::string held_;
  std::deque<Json> lines_;
  bool closed_ = false;
};

/// What to do next, the same on all ranks.
struct Request {
  enum Kind : index_t { quit, clear, ask };
  Kind kind = quit;
  std::string text;
};

/// Rank 0 waits for the person, the others for rank 0: as long as it takes.
Request next_request(Communicator& comm, Mailbox& mailbox) {
  const detail::TimeoutScope patient(comm, 0);
  Request request;
  if (comm.rank() == 0) {
    Json line;
    while ((line = mailbox.take()).is_null() || line.contains("stop")) {  // a stop that came after the end
      if (line.is_null() && mailbox.closed()) break;
      if (line.is_null()) mailbox.fetch(true);
    }
    if (line.contains("clear")) request.kind = Request::clear;
    if (line.contains("ask")) request = {Request::ask, line["ask"].get<std::string>()};
  }
  std::array<index_t, 2> head = {request.kind, static_cast<index_t>(request.text.size())};
  comm.broadcast(std::span<index_t>(head), 0);
  request.kind = static_cast<Request::Kind>(head[0]);
  request.text.resize(static_cast<std::size_t>(head[1]));
  comm.broadcast(std::span(request.text), 0);
  return request;
}

int chat_ranks(Communicator comm, ChatCommand command) {
  command.model.quiet = true;
  Conversation conversation(comm, command);
  const auto tell = [&](const Json& line) {
    if (comm.rank() == 0) fmt::print("{}\n", line_of(line)), std::fflush(stdout);
  };
  load_into_memory(comm, conversation.weights(), program::ranks_here(comm) == comm.size(),
                   [&](index_t done, index_t total) {
                     tell({{"load", {done, total}}});
                   });
  const Limits& limits = conversation.model().limits();
  tell({{"ready", fmt::format("{}, {} rank{} of {} thread{} ({}), context of {} tokens, {}", command.model.model,
                              comm.size(), comm.size() == 1 ? "" : "s", conversation.model().threads(),
                              conversation.model().threads() == 1 ? "" : "s", compiled_isa(), limits.max_positions,
                              program::description(conversation.sampling()))}});
  Mailbox mailbox;
  const AnswerEvents events{.read =
                                [&](index_t done, index_t total) {
                                  tell({{"read", {done, total}}});
                                },
                            .text =
                                [&](const std::string& piece) {
                                  tell({{"text", piece}});
                                },
                            .stop =
                                [&] {
                                  char stop = comm.rank() == 0 && mailbox.wants_stop() ? 1 : 0;
                                  comm.broadcast(std::span<char>(&stop, 1), 0);
                                  return stop != 0;
                                }};
  for (;;) {
    Request request = next_request(comm, mailbox);
    if (request.kind == Request::quit) return 0;
    if (request.kind == Request::clear) {
      conversation.clear();
      continue;
    }
    Json last;
    try {
      const Answer answer = conversation.ask(std::move(request.text), events);
      last = {{"end", answer.end}, {"summary", answer.summary}};
    } catch (const AgreedError& error) {
      last = {{"failed", error.what()}};
    }
    try {
      require_unchanged(comm, conversation.weights());
    } catch (const AgreedError& error) {
      tell({{"fatal", error.what()}});  // said by who shows the answer, behind it
      return error.status();
    }
    tell(last);
  }
}

}  // namespace

void add_chat_ranks(CLI::App& app, Action& action) {
  CLI::App* command = app.add_subcommand("chat-ranks", "The ranks of a chat, as `tessera chat` starts them");
  command->group("");  // not for people
  const auto options = std::make_shared<ChatCommand>();
  add_chat_options(*command, *options);
  command->callback(
      [options, &action] { action = [options](const Communicator& comm) { return chat_ranks(comm, *options); }; });
}

}  // namespace tessera::tools
