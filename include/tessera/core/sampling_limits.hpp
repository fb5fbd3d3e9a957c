#pragma once
// What the parameters of sampling may be, wherever they are said: in a call, on a command line, in a file.

namespace tessera {

/// Numbers from `least` to `most`.
struct NumberRange {
  double least;
  double most;

  /// NaN lies in no range.
  [[nodiscard]] constexpr bool contains(double number) const { return number >= least && number <= most; }
};

namespace sampling_limits {

constexpr NumberRange temperature{0, 1000};
constexpr NumberRange top_p{0, 1};
constexpr NumberRange min_p{0, 1};
constexpr NumberRange repetition_penalty{1e-3, 1000};  ///< what is less or more makes infinities of logits

}  // namespace sampling_limits

}  // namespace tessera
