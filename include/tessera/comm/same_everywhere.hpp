#pragma once
// What must be equal on all ranks of a job and comes to each by a way of its own: a command line, a folder of files.

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <tessera/comm/agree.hpp>

namespace tessera {

/// Something that a rank knows, under a name that is the same on all.
struct Fact {
  std::string name;
  std::string value;
};

namespace detail {

/// Rank 0's text or vector, on every rank, whatever size it had there. Collective.
template <class Whole>
void broadcast_whole(Communicator& comm, Whole& whole) {
  auto size = static_cast<index_t>(whole.size());
  comm.broadcast(std::span(&size, 1), 0);
  whole.resize(static_cast<std::size_t>(size));
  comm.broadcast(std::span(whole), 0);
}

/// Facts as one text; neither names nor values are trusted to be free of anything.
[[nodiscard]] inline std::string joined(std::span<const Fact> facts) {
  std::string text;
  for (const Fact& fact : facts)
    for (const std::string& part : {fact.name, fact.value}) text += concat(part.size(), ':', part);
  return text;
}

/// Takes back what joined() made.
[[nodiscard]] inline std::vector<Fact> facts_of(std::string_view text) {
  const auto next = [&] {
    const std::size_t colon = text.find(':');
    const std::size_t size = std::stoull(std::string(text.substr(0, colon)));
    std::string part(text.substr(colon + 1, size));
    text.remove_prefix(colon + 1 + size);
    return part;
  };
  std::vector<Fact> facts;
  while (!text.empty()) {
    std::string name = next();
    facts.push_back({std::move(name), next()});
  }
  return facts;
}

/// Throws Error that names the first fact in which `mine` is not `expected`.
inline void compare(std::span<const Fact> mine, std::span<const Fact> expected, std::string_view what) {
  const auto value_in = [](std::span<const Fact> facts, std::string_view name) {
    for (const Fact& fact : facts)
      if (fact.name == name) return fact.value.empty() ? "nothing" : fact.value.substr(0, 200);
    return std::string("none");
  };
  for (const auto& facts : {expected, mine})
    for (const Fact& fact : facts)
      if (const std::string there = value_in(expected, fact.name), here = value_in(mine, fact.name); there != here)
        fail(what, " differ between ranks: ", fact.name, ": expected ", there, " as on rank 0, found ", here);
}

}  // namespace detail

/// Throws AgreedError on every rank unless all know the same facts as rank 0: it names the first that differs, both
/// values, and the lowest rank that knows another, with its host. `what` is what they are facts of. Collective.
inline void require_same_everywhere(Communicator comm, std::string_view what, std::span<const Fact> facts) {
  if (comm.size() == 1) return;
  std::string text = detail::joined(facts);
  {
    const detail::TimeoutScope patient(comm, 0);  // as agree: what was read before may have taken long on one rank
    detail::broadcast_whole(comm, text);
  }
  const std::vector<Fact> expected = detail::facts_of(text);
  agree(comm, [&] { detail::compare(facts, expected, what); });
}

}  // namespace tessera
