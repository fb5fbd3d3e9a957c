#pragma once
// For programs: a read from a mapped file that was cut short ends in a sentence with the file's name, not in a bare
// "Bus error". The library itself installs no handler.

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <string_view>

#include <tessera/io/mapping_table.hpp>

namespace tessera {

namespace detail {

inline char bus_error_speaker[128] = "tessera";
inline std::atomic<std::uint32_t> own_bus_error_word = 0;
inline std::atomic<std::uint32_t>* bus_error_word = &own_bus_error_word;

inline void say(const char* text) {
  std::size_t left = std::strlen(text);
  while (left > 0) {
    const ssize_t written = ::write(STDERR_FILENO, text, left);
    if (written <= 0) return;
    text += written;
    left -= static_cast<std::size_t>(written);
  }
}

/// Calls async-signal-safe functions only (man 7 signal-safety).
inline void on_bus_error(int number, siginfo_t* info, void*) {
  const MappingSlot* slot = info->si_code == BUS_ADRERR ? find_mapping(info->si_addr) : nullptr;
  if (slot == nullptr) {  // not ours: the access is repeated on return, and ends as it would have without us
    ::signal(number, SIG_DFL);
    return;
  }
  if (bus_error_word->exchange(1) != 0) {
    // Another thread or process is writing the sentence, and ends the job with it.
    ::sleep(1);
    ::_exit(1);
  }
  say(bus_error_speaker);
  say(": ");
  const char* path = slot->path;
  say(path != nullptr ? path : "a mapped file");
  say(": became shorter, or its disk failed, while it was in use\n");
  ::_exit(1);
}

}  // namespace detail

/// From now on a read past the end of a MappedFile that has shrunk prints "SPEAKER: PATH: became shorter..." to
/// standard error and ends the process with status 1. Call it first thing in main, and again once the rank is known
/// ("rank 1 of 2 on HOST"); `speaker` is cut to 127 bytes. Any other bus error ends as before.
///
/// Of processes that share `word`, which is 0 and stays valid, one prints; the others end a second later.
inline void install_bus_error_handler(std::string_view speaker,
                                      std::atomic<std::uint32_t>& word = detail::own_bus_error_word) {
  static_assert(std::atomic<std::uint32_t>::is_always_lock_free);
  const std::size_t length = std::min(speaker.size(), sizeof detail::bus_error_speaker - 1);
  std::memcpy(detail::bus_error_speaker, speaker.data(), length);
  detail::bus_error_speaker[length] = '\0';
  detail::bus_error_word = &word;
  struct sigaction action {};
  action.sa_sigaction = detail::on_bus_error;
  action.sa_flags = SA_SIGINFO;
  ::sigemptyset(&action.sa_mask);
  ::sigaction(SIGBUS, &action, nullptr);
}

}  // namespace tessera
