// tessera chat: keeps the terminal, starts the ranks, and relays lines, text and interrupts between them. See chat.hpp.
#include "chat.hpp"

#include <csignal>
#include <filesystem>
#include <memory>
#include <optional>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include <tessera/comm/agree.hpp>

#include "commands.hpp"
#include "interruption.hpp"
#include "job.hpp"
#include "line_reader.hpp"
#include "progress.hpp"

namespace tessera::tools {

namespace {

constexpr std::string_view help =
    "/clear begins a new conversation, /exit ends the program, /help shows this.\n"
    "A line that ends in \\ goes on in the next. Ctrl-C interrupts an answer; at the\n"
    "prompt it drops what is typed, or ends the program where nothing is.\n";

/// The arguments with every value in its option's word: `--stop=:`. Where a `:` stands alone mpiexec takes what follows
/// for another program to start.
std::vector<std::string> in_one_word_each(const CLI::App& app, const std::vector<std::string>& arguments) {
  std::vector<std::string> words;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    words.push_back(arguments[i]);
    const CLI::Option* option = arguments[i].starts_with("--") ? app.get_option_no_throw(arguments[i]) : nullptr;
    const bool takes_value = option != nullptr && option->get_items_expected_min() > 0;
    // CLI11 takes `--system=` for an option whose value is the next word.
    if (takes_value && i + 1 < arguments.size() && !arguments[i + 1].empty()) words.back() += '=' + arguments[++i];
  }
  return words;
}

/// The command that starts the ranks: one needs no launcher.
std::vector<std::string> ranks_command(const ChatCommand& command, const std::vector<std::string>& arguments) {
  std::vector<std::string> all;
  if (command.ranks > 1) {
    std::istringstream words(command.mpiexec);
    for (std::string word; words >> word;) all.push_back(word);
    if (all.empty()) throw UsageError("--ranks: this build has no MPI, so that a chat has one rank");
    all.insert(all.end(), {"-n", std::to_string(command.ranks)});
  }
  all.push_back(std::filesystem::read_symlink("/proc/self/exe").string());
  all.emplace_back("chat-ranks");
  all.insert(all.end(), arguments.begin(), arguments.end());
  return all;
}

class Chat {
 public:
  Chat(const ChatCommand& command, const std::vector<std::string>& arguments)
      : quiet_(command.model.quiet), job_(ranks_command(command, arguments)) {}

  int run() {
    std::optional<Json> ready = next_event(true);
    for (std::optional<Progress> loading; ready && ready->contains("load"); ready = next_event(true)) {
      if (quiet_) continue;
      if (!loading) loading.emplace("loading", (*ready)["load"][1].get<index_t>());
      loading->advance_to((*ready)["load"][0].get<index_t>());
      loading->show();
    }
    if (!ready) return end();
    if (!quiet_) fmt::print(stderr, "{}\n{}", (*ready)["ready"].get<std::string>(), terminal_ ? help : "");
    const std::unique_ptr<LineReader> reader = make_line_reader();
    const auto interrupted = [this] { return signals_.pending() != 0 || job_.ends_unasked(); };
    std::string message;
    for (;;) {
      TypedLine typed = reader->read(message.empty() ? "> " : "... ", interrupted);
      if (typed.kind == TypedLine::end) {
        if (::isatty(STDIN_FILENO) == 1) fmt::print("\n");  // the line of the prompt is still open
        break;
      }
      if (typed.kind == TypedLine::interrupted) {
        fmt::print("\n");
        while (job_.ended() && next_event(false)) {  // the launcher's last words
        }
        if (job_.ended() || signals_.pending() != SIGINT || (typed.line.empty() && message.empty())) break;
        signals_.forget();
        message.clear();
        continue;
      }
      if (!typed.line.empty() && typed.line.back() == '\\') {
        typed.line.back() = '\n';
        message += typed.line;
        continue;
      }
      message += typed.line;
      if (message == "/exit" || message == "/quit") break;
      if (!message.empty()) handle(message);
      if (job_.ended()) break;
      message.clear();
    }
    if (signals_.pending() == SIGINT && !job_.ended()) signals_.forget();  // the person's way to end it
    const bool gone = job_.ended() && signals_.pending() == 0;
    const int status = end();
    require(!gone, fatal_.empty() ? concat("the ranks have ended, with status ", status) : fatal_);
    return status;
  }

 private:
  /// Does what a message asks for.
  void handle(const std::string& message) {
    if (message == "/clear") {
      job_.send(line_of({{"clear", true}}));
      if (!quiet_) fmt::print(stderr, "(a new conversation)\n");
    } else if (message == "/help") {
      fmt::print(stderr, "{}", help);
    } else if (message[0] == '/' && message.find_first_of(" \n") == std::string::npos) {
      fmt::print(stderr, "{} is no command: expected /clear, /exit or /help\n", message);
    } else {
      ask(message);
    }
  }

  void ask(const std::string& message) {
    job_.send(line_of({{"ask", message}}));
    std::optional<Progress> reading;
    while (const std::optional<Json> event = next_event(false)) {
      if (event->contains("read") && !quiet_) {
        if (!reading) reading.emplace("reading", (*event)["read"][1].get<index_t>(), tokens);
        reading->advance_to((*event)["read"][0].get<index_t>());
        reading->show();
        continue;
      }
      reading.reset();
      if (event->contains("text")) show((*event)["text"].get<std::string>());
      if (event->contains("failed")) fmt::print(stderr, "{}\n", (*event)["failed"].get<std::string>());
      if (event->contains("fatal")) fmt::print("\n");
      if (event->contains("end")) close_answer(*event);
      if (event->contains("end") || event->contains("failed")) return;
    }
  }

  void show(const std::string& text) const {
    for (const char c : text) {
      // A model may have learnt sequences that command a terminal.
      const bool control = (static_cast<unsigned char>(c) < 0x20 && c != '\n' && c != '\t') || c == 0x7F;
      if (!terminal_ || !control) std::fputc(c, stdout);
    }
    std::fflush(stdout);
  }

  void close_answer(const Json& event) const {
    const auto end = event["end"].get<std::string>();
    if (end != chat_end::no_room) fmt::print("\n"), std::fflush(stdout);
    if (end == chat_end::stopped) fmt::print(stderr, "(interrupted)\n");
    if (end == chat_end::length) fmt::print(stderr, "(--max-new-tokens reached)\n");
    if (end == chat_end::full)
      fmt::print(stderr, "(the context is full: /clear begins a new conversation, --context N makes more room)\n");
    if (end == chat_end::no_room)
      fmt::print(stderr,
                 "(no room for this message in the context: /clear begins a new conversation, --context N "
                 "makes more room)\n");
    if (!quiet_ && terminal_ && !event["summary"].get<std::string>().empty())
      fmt::print(stderr, "\033[2m{}\033[0m\n", event["summary"].get<std::string>());
  }

  /// What rank 0 says next; nothing when the ranks are gone or to go. Ctrl-C asks them to stop; before the first
  /// answer, and when they do not stop, another one ends them.
  std::optional<Json> next_event(bool loading) {
    bool asked = loading;
    for (;;) {
      // Signals first: while an answer streams there is always a line.
      if (const int signal = signals_.pending(); signal == SIGINT && !asked) {
        signals_.forget();
        asked = true;
        job_.send(line_of({{"stop", true}}));
      } else if (signal != 0) {
        job_.terminate();
        return std::nullopt;
      }
      if (const auto line = job_.receive(std::chrono::milliseconds(200))) {
        if (line->starts_with('{')) {
          Json event = parse_json(*line, "a line of rank 0");
          if (event.contains("fatal")) fatal_ = event["fatal"].get<std::string>();
          return event;
        }
        fmt::print(stderr, "{}\n", *line);  // the launcher's own words, which it also says here
      }
      if (job_.ended()) return std::nullopt;
    }
  }

  int end() {
    const int status = job_.finish();
    return signals_.pending() != 0 ? 128 + signals_.pending() : status;
  }

  bool quiet_;
  bool terminal_ = ::isatty(STDOUT_FILENO) == 1;
  std::string fatal_;  // why the ranks end, where they said so
  Interruption signals_;
  Job job_;
};

}  // namespace

void add_chat_options(CLI::App& app, ChatCommand& command) {
  program::add_model_options(app, command.model);
  app.add_option("--ranks", command.ranks, "Processes that share the model")
      ->check(CLI::Range(1, 1 << 16))
      ->type_name("N")
      ->capture_default_str();
  command.mpiexec = TESSERA_MPIEXEC;
  app.add_option("--mpiexec", command.mpiexec, "What starts them, with its options, e.g. \"mpiexec.mpich -f hosts\"")
      ->type_name("COMMAND")
      ->capture_default_str();
  app.add_option("--context", command.context, "Tokens that a conversation has room for, up to what the model has")
      ->check(CLI::Range(index_t{1}, index_t{1} << 30))
      ->type_name("N")
      ->capture_default_str();
  app.add_option("--max-new-tokens", command.max_new_tokens, "End an answer after so many tokens (default: no limit)")
      ->check(CLI::Range(index_t{1}, index_t{1} << 30))
      ->type_name("N");
  program::add_stop_option(app, command.stops);
  program::add_chat_style_options(app, command.style);
  program::add_sampling_options(app, command.sampling);
}

void add_chat(CLI::App& app, Action& action, std::vector<std::string> arguments) {
  CLI::App* subcommand = app.add_subcommand("chat", "Talk with a model");
  const auto command = std::make_shared<ChatCommand>();
  add_chat_options(*subcommand, *command);
  subcommand->footer(
      "/clear begins a new conversation, /exit (or Ctrl-D) ends the program, Ctrl-C interrupts an answer.\n\n"
      "  tessera chat --model examples/demo-model\n"
      "  tessera chat --model DIR --ranks 4 --system 'Answer briefly.' --temperature 0.7");
  subcommand->callback([command, subcommand, arguments = std::move(arguments), &action] {
    action = [command, arguments = in_one_word_each(*subcommand, arguments)](const Communicator&) {
      std::signal(SIGPIPE, SIG_IGN);  // ranks that are gone are noticed by what they do not say
      return Chat(*command, arguments).run();
    };
  });
}

}  // namespace tessera::tools
