#pragma once
// P ranks as P threads of one process: any P, for tests and debuggers.

#include <exception>
#include <memory>
#include <optional>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include <tessera/comm/communicator.hpp>
#include <tessera/comm/in_process_rank.hpp>

namespace tessera {

/// Runs a program's ranks as threads of this process.
class InProcess {
 public:
  /// Runs `body(communicator)` on `size` ranks; returns their results in rank order (nothing for void).
  /// When ranks throw, the others leave what they wait for, and the lowest failing rank's own exception is rethrown.
  template <class Body>
  static auto run(int size, Body&& body) {
    return run_transports(size, [&](InProcessRank rank) { return body(Communicator(std::move(rank))); });
  }

  /// The same with the bare transports, to build something else than a communicator on them.
  template <class Body>
  static auto run_transports(int size, Body&& body) {
    using Result = std::invoke_result_t<Body&, InProcessRank>;
    using Kept = std::conditional_t<std::is_void_v<Result>, char, Result>;
    require(size >= 1, "in process: expected at least one rank, found ", size);
    const auto world = std::make_shared<in_process::World>(size);
    std::vector<Outcome<Kept>> outcomes(static_cast<std::size_t>(size));

    const auto rank_main = [&](int rank) {
      Outcome<Kept>& outcome = outcomes[static_cast<std::size_t>(rank)];
      try {
        InProcessRank transport(world, world->root(), rank);
        if constexpr (std::is_void_v<Result>) {
          body(std::move(transport));
        } else {
          outcome.result.emplace(body(std::move(transport)));
        }
        world->leave(rank);
      } catch (const RankAborted& aborted) {
        outcome.aborted = std::current_exception();
        world->abort(aborted.what());
      } catch (const std::exception& fault) {
        outcome.fault = std::current_exception();
        world->abort(concat("rank ", rank, " of ", size, " failed: ", fault.what()));
      } catch (...) {
        outcome.fault = std::current_exception();
        world->abort(concat("rank ", rank, " of ", size, " failed"));
      }
    };

    {
      std::vector<std::jthread> threads;
      for (int rank = 1; rank < size; ++rank) threads.emplace_back(rank_main, rank);
      rank_main(0);  // on the caller's thread, so that a debugger finds one rank where it expects it
    }
    for (const auto& outcome : outcomes)
      if (outcome.fault != nullptr) std::rethrow_exception(outcome.fault);
    for (const auto& outcome : outcomes)
      if (outcome.aborted != nullptr) std::rethrow_exception(outcome.aborted);
    if constexpr (!std::is_void_v<Result>) {
      std::vector<Result> results;
      for (auto& outcome : outcomes) results.push_back(std::move(*outcome.result));
      return results;
    }
  }

 private:
  template <class Kept>
  struct Outcome {
    std::optional<Kept> result;
    std::exception_ptr fault;    // its own
    std::exception_ptr aborted;  // because of another rank
  };
};

}  // namespace tessera
