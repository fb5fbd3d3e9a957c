#include "line_reader.hpp"

#include <poll.h>
#include <termios.h>
#include <unistd.h>

#include <cerrno>
#include <clocale>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cwchar>
#include <filesystem>

#ifdef TESSERA_LIBEDIT
#include <histedit.h>
#endif

namespace tessera::tools {

namespace {

/// The next byte of standard input: 1, 0 at the end, -1 when interrupted.
int next_byte(char& byte, const std::function<bool()>& interrupted, const std::function<void()>& waiting) {
  for (;;) {
    if (interrupted()) return -1;
    waiting();
    pollfd input{STDIN_FILENO, POLLIN, 0};
    // A signal that comes before poll does not end it: look again soon.
    if (::poll(&input, 1, 200) <= 0) continue;
    const ssize_t n = ::read(STDIN_FILENO, &byte, 1);
    if (n >= 0) return static_cast<int>(n);
    if (errno != EINTR && errno != EAGAIN) return 0;
  }
}

class PlainLines final : public LineReader {
 public:
  TypedLine read(const std::string& prompt, const std::function<bool()>& interrupted) override {
    if (::isatty(STDIN_FILENO) == 1) std::fputs(prompt.c_str(), stdout), std::fflush(stdout);
    std::string line;
    for (char byte = 0;; line += byte) {
      const int got = next_byte(byte, interrupted, [] {});
      if (got < 0) return {TypedLine::interrupted, line};
      if (got == 0 && line.empty()) return {TypedLine::end, {}};
      if (got != 0 && byte != '\n') continue;
      if (!line.empty() && line.back() == '\r') line.pop_back();  // as Windows ends lines
      return {TypedLine::text, line};
    }
  }
};

#ifdef TESSERA_LIBEDIT

/// Where the lines of earlier chats are kept; empty where there is no home.
std::filesystem::path history_file() {
  const char* state = std::getenv("XDG_STATE_HOME");
  const char* home = std::getenv("HOME");
  if (state != nullptr && *state == '/') return std::filesystem::path(state) / "tessera" / "chat_history";
  if (home != nullptr && *home == '/') return std::filesystem::path(home) / ".local/state/tessera/chat_history";
  return {};
}

/// Between two lines, too, what is typed is not shown and stays as it is: it belongs to the next line. libedit shows
/// its prompt before it has the terminal, so that a quick Ctrl-D would else be lost.
class KeepTypedAhead {
 public:
  KeepTypedAhead() {
    if (::tcgetattr(STDIN_FILENO, &before_) == 0) take();
  }
  KeepTypedAhead(const KeepTypedAhead&) = delete;
  KeepTypedAhead& operator=(const KeepTypedAhead&) = delete;
  ~KeepTypedAhead() {
    if (changed_) ::tcsetattr(STDIN_FILENO, TCSADRAIN, &before_);
  }

  void take() {
    termios now = before_;
    now.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO);
    now.c_cc[VMIN] = 1, now.c_cc[VTIME] = 0;
    changed_ = ::tcsetattr(STDIN_FILENO, TCSADRAIN, &now) == 0;
  }

 private:
  termios before_{};
  bool changed_ = false;
};

/// Set when the process goes on after Ctrl-Z: a shell has had the terminal meanwhile.
volatile std::sig_atomic_t continued = 0;

class EditedLines final : public LineReader {
 public:
  EditedLines() : history_(::history_init()), editor_(::el_init("tessera", stdin, stdout, stderr)) {
    ::el_set(editor_, EL_CLIENTDATA, this);
    ::el_set(editor_, EL_PROMPT, &prompt_of);
    ::el_set(editor_, EL_EDITOR, "emacs");
    // Between two lines libedit gives the terminal back line by line and with echo, unless it is told otherwise.
    ::el_set(editor_, EL_SETTY, "-x", "-icanon", "-echo", nullptr);
    ::el_set(editor_, EL_GETCFN, &next_character);
    ::el_set(editor_, EL_HIST, ::history, history_);
    struct sigaction action {};
    action.sa_handler = [](int) { continued = 1; };
    ::sigaction(SIGCONT, &action, nullptr);
    ::el_set(editor_, EL_BIND, "^R", "em-inc-search-prev", nullptr);
    HistEvent event;
    ::history(history_, &event, H_SETSIZE, 1000);
    ::history(history_, &event, H_SETUNIQUE, 1);
    if (!file_.empty()) ::history(history_, &event, H_LOAD, file_.c_str());
  }
  ~EditedLines() override {
    ::el_end(editor_);
    ::history_end(history_);
  }

  TypedLine read(const std::string& prompt, const std::function<bool()>& interrupted) override {
    prompt_ = prompt, interrupted_ = &interrupted, was_interrupted_ = false;
    int size = 0;
    const char* typed = ::el_gets(editor_, &size);
    if (was_interrupted_) {
      const LineInfo* line = ::el_line(editor_);
      TypedLine cut{TypedLine::interrupted, std::string(line->buffer, line->lastchar)};
      ::el_reset(editor_);
      return cut;
    }
    if (typed == nullptr || size <= 0) return {TypedLine::end, {}};
    std::string line(typed, static_cast<std::size_t>(size));
    while (!line.empty() && line.back() == '\n') line.pop_back();
    if (!line.empty()) remember(line);
    return {TypedLine::text, line};
  }

 private:
  static EditedLines& of(EditLine* editor) {
    void* self = nullptr;
    ::el_get(editor, EL_CLIENTDATA, &self);
    return *static_cast<EditedLines*>(self);
  }
  static char* prompt_of(EditLine* editor) { return of(editor).prompt_.data(); }

  /// libedit's own reader takes up to two signals to notice one.
  static int next_character(EditLine* editor, wchar_t* character) {
    EditedLines& self = of(editor);
    std::mbstate_t state{};
    for (char byte = 0;;) {
      const int got = next_byte(byte, *self.interrupted_, [&self, editor] {
        ::el_resize(editor);
        self.take_terminal_again();
      });
      if (got <= 0) {
        self.was_interrupted_ = got < 0;
        return got;
      }
      const std::size_t used = std::mbrtowc(character, &byte, 1, &state);
      if (used == static_cast<std::size_t>(-2)) continue;
      if (used != static_cast<std::size_t>(-1)) return 1;
      state = std::mbstate_t{};  // no character begins so: leave it out
    }
  }

  /// What a shell left of the terminal, while this process was stopped, is made what it was, and the line is shown.
  void take_terminal_again() {
    if (continued == 0) return;
    continued = 0;
    keep_.take();
    ::el_set(editor_, EL_PREP_TERM, 0);  // libedit believes that it still has the terminal, and would do nothing
    ::el_set(editor_, EL_PREP_TERM, 1);
    ::el_set(editor_, EL_REFRESH);
  }

  /// Saved at once: a chat may end by a signal.
  void remember(const std::string& line) {
    HistEvent event;
    ::history(history_, &event, H_ENTER, line.c_str());
    if (file_.empty()) return;
    std::error_code unwritable;  // then this chat's lines are remembered as long as it lasts
    std::filesystem::create_directories(file_.parent_path(), unwritable);
    if (!unwritable) ::history(history_, &event, H_SAVE, file_.c_str());
  }

  KeepTypedAhead keep_;  // before the editor, which takes the terminal as it finds it
  std::filesystem::path file_ = history_file();
  History* history_;
  EditLine* editor_;
  std::string prompt_;
  const std::function<bool()>* interrupted_ = nullptr;
  bool was_interrupted_ = false;
};

#endif

}  // namespace

std::unique_ptr<LineReader> make_line_reader() {
#ifdef TESSERA_LIBEDIT
  if (::isatty(STDIN_FILENO) == 1 && ::isatty(STDOUT_FILENO) == 1) {
    // Characters beyond ASCII need a locale that has them.
    std::setlocale(LC_CTYPE, "");
    if (MB_CUR_MAX == 1) std::setlocale(LC_CTYPE, "C.UTF-8");
    return std::make_unique<EditedLines>();
  }
#endif
  return std::make_unique<PlainLines>();
}

}  // namespace tessera::tools
