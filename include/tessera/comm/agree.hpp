#pragma once
// Ranks agree on whether a step without communication succeeded: one text and one exit status for all of them.

#include <unistd.h>

#include <algorithm>
#include <exception>
#include <new>
#include <optional>
#include <string>
#include <type_traits>
#include <vector>

#include <tessera/comm/communicator.hpp>

namespace tessera {

/// A wrong command line: a program that ends for it returns 2, for any other error 1.
class UsageError : public Error {
 public:
  using Error::Error;
};

/// What every rank throws when the ranks have agreed that one of them failed; the same on all.
class AgreedError : public Error {
 public:
  AgreedError(const std::string& text, int status) : Error(text), status_(status) {}
  [[nodiscard]] int status() const { return status_; }

 private:
  int status_;
};

namespace detail {

struct Fault {
  int status = 0;  // 0: none
  std::string text;
};

/// The exception in flight as an exit status and a text.
[[nodiscard]] inline Fault current_fault() {
  try {
    throw;
  } catch (const AgreedError& error) {
    return {error.status(), error.what()};
  } catch (const UsageError& error) {
    return {2, error.what()};
  } catch (const std::bad_alloc&) {
    return {1, "out of memory"};
  } catch (const std::exception& error) {
    return {1, error.what()};
  } catch (...) {
    return {1, "an exception of unknown type"};
  }
}

[[nodiscard]] inline std::string host_name() {
  char name[256] = {};
  return ::gethostname(name, sizeof name - 1) == 0 ? name : "?";
}

/// Puts a deadline in place of the communicator's for a while.
class TimeoutScope {
 public:
  TimeoutScope(Communicator comm, double seconds) : comm_(std::move(comm)), before_(comm_.timeout()) {
    comm_.set_timeout(seconds);
  }
  TimeoutScope(const TimeoutScope&) = delete;
  TimeoutScope& operator=(const TimeoutScope&) = delete;
  ~TimeoutScope() { comm_.set_timeout(before_); }

 private:
  Communicator comm_;
  double before_;
};

/// The lowest failing rank's fault, on every rank; status 0 when none failed. Collective.
[[nodiscard]] inline Fault agree_on_fault(Communicator& comm, const Fault& mine) {
  struct Summary {
    index_t status;
    index_t text_bytes;
  };
  const auto ranks = static_cast<std::size_t>(comm.size());
  const std::string where = concat(" (rank ", comm.rank(), " of ", comm.size(), " on ", host_name(), ")");
  const std::string text = mine.status == 0 ? "" : mine.text.substr(0, 4000) + where;
  const Summary summary{mine.status, static_cast<index_t>(text.size())};
  std::vector<Summary> all(ranks);
  const std::vector<index_t> one_each(ranks, 1);
  comm.allgather<Summary>(std::span(&summary, 1), std::span(all), one_each);
  const auto lowest = std::find_if(all.begin(), all.end(), [](const Summary& each) { return each.status != 0; });
  if (lowest == all.end()) return {};

  const auto root = static_cast<int>(lowest - all.begin());
  std::string agreed(static_cast<std::size_t>(lowest->text_bytes), ' ');
  if (comm.rank() == root) agreed = text;
  comm.broadcast(std::span(agreed), root);
  // Where it happened says nothing when it happened everywhere.
  const bool everywhere = std::all_of(all.begin(), all.end(), [](const Summary& each) { return each.status != 0; });
  if (everywhere) agreed.erase(agreed.rfind(" (rank "));
  return {static_cast<int>(lowest->status), agreed};
}

}  // namespace detail

/// How long ranks that are done wait for the others: loading may take long on one of them.
enum class Patience { endless, of_communicator };

/// Runs `act` on every rank and returns its result; when any rank threw, all throw AgreedError with the lowest failing
/// rank's text. Collective; `act` itself does not communicate.
template <class Act>
auto agree(Communicator comm, Act&& act, Patience patience = Patience::endless) {
  using Result = std::invoke_result_t<Act&>;
  using Kept = std::conditional_t<std::is_void_v<Result>, char, Result>;
  std::optional<Kept> result;
  detail::Fault mine;
  try {
    if constexpr (std::is_void_v<Result>) {
      act();
    } else {
      result.emplace(act());
    }
  } catch (...) {
    mine = detail::current_fault();
  }
  const detail::TimeoutScope scope(comm, patience == Patience::endless ? 0 : comm.timeout());
  const detail::Fault agreed = detail::agree_on_fault(comm, mine);
  if (agreed.status != 0) throw AgreedError(agreed.text, agreed.status);
  if constexpr (!std::is_void_v<Result>) return std::move(*result);
}

}  // namespace tessera
