#pragma once
// What generation took: the line that closes a program.

#include <chrono>
#include <string>

#include <fmt/format.h>

#include <tessera/comm/recording.hpp>
#include <tessera/runtime/batch.hpp>

namespace tessera::program {

/// Times the steps of a generation. A step that takes tokens of a prompt is prefill, also when others decode in it.
class RunTimes {
 public:
  /// `ledger` records the communicator of the model that takes the steps.
  explicit RunTimes(const Ledger& ledger) : ledger_(ledger) {}

  /// Runs `step`, which returns its StepCounts, and adds it up.
  template <class Step>
  StepCounts measure(Step&& step) {
    const double before = ledger_.total().microseconds;
    const Clock::time_point begin = Clock::now();
    const StepCounts counts = step();
    const double seconds = std::chrono::duration<double>(Clock::now() - begin).count();
    communication_ += (ledger_.total().microseconds - before) * 1e-6;
    if (made_ == 0) first_token_ += seconds;
    made_ += counts.new_tokens;
    Part& part = counts.prompt_tokens > 0 ? prefill_ : decode_;
    part.tokens += counts.prompt_tokens > 0 ? counts.prompt_tokens : counts.new_tokens;
    part.seconds += seconds;
    return counts;
  }

  /// New tokens so far.
  [[nodiscard]] index_t made() const { return made_; }
  /// Tokens of prompts so far.
  [[nodiscard]] index_t prefilled() const { return prefill_.tokens; }
  [[nodiscard]] double seconds() const { return prefill_.seconds + decode_.seconds; }

  /// The line that closes an answer of a chat.
  [[nodiscard]] std::string brief() const {
    return fmt::format("{} tokens, {:.1f} tok/s, first after {:.2f} s, communication {:.0f} %", made_, decode_.rate(),
                       first_token_, communication_share());
  }

  /// The line that closes a program: tokens, seconds and rates of both phases, the time to the first token, the share
  /// of communication.
  [[nodiscard]] std::string summary() const {
    return fmt::format(
        "{} new tokens in {:.2f} s: prefill {}, decode {}, first token after {:.3f} s, "
        "communication {:.1f} % of the time",
        made_, seconds(), prefill_.text(), decode_.text(), first_token_, communication_share());
  }

 private:
  using Clock = std::chrono::steady_clock;

  struct Part {
    index_t tokens = 0;
    double seconds = 0;

    [[nodiscard]] double rate() const { return seconds > 0 ? static_cast<double>(tokens) / seconds : 0; }
    [[nodiscard]] std::string text() const {
      return fmt::format("{} in {:.2f} s ({:.1f} tok/s)", tokens, seconds, rate());
    }
  };

  /// In percent of all steps.
  [[nodiscard]] double communication_share() const { return seconds() > 0 ? 100 * communication_ / seconds() : 0; }

  const Ledger& ledger_;
  Part prefill_, decode_;
  double communication_ = 0;  // seconds, in steps
  index_t made_ = 0;
  double first_token_ = 0;
};

}  // namespace tessera::program
