#pragma once
// Llama 3's rescaling of a rotary embedding, recovered from what it does to each frequency: GGUF files have no more.

#include <cmath>
#include <span>
#include <string_view>

#include <tessera/kernels/rope.hpp>

namespace tessera {

/// The rescaling of a rotary embedding of base `theta` that divides the frequency of pair i by factors[i]. Other
/// numbers of the configuration may do the same to all pairs of a head: those of the model's author where their
/// original context is a whole number of tokens and two pairs at least lie between the ranges, else some. Throws Error,
/// naming `where` and the first pair, for factors that are not of Llama 3's form.
[[nodiscard]] inline RopeConfig rope_of_factors(double theta, std::span<const float> factors, std::string_view where) {
  const auto pairs = static_cast<index_t>(factors.size());
  const auto factor_at = [&](index_t i) { return double{factors[static_cast<std::size_t>(i)]}; };
  // In turns per position, the inverse of a wavelength; decreasing with i.
  const RopeConfig plain{.theta = theta};
  const auto turns = [&](index_t i) {
    const double frequency = i < 0 ? 2 * rope_frequency(plain, 0, 2 * pairs) : rope_frequency(plain, i, 2 * pairs);
    return frequency / (2 * std::numbers::pi);
  };
  RopeConfig rope = plain;
  rope.factor = factor_at(pairs - 1);
  // Short waves are kept, long ones stretched by the whole factor, and `smooth` falls from 1 to 0 between the two.
  const auto is_between = [&](double f) { return f > 1 + 1e-6 && f < rope.factor * (1 - 1e-6); };
  const auto smooth = [&](index_t i) { return (1 / factor_at(i) - 1 / rope.factor) / (1 - 1 / rope.factor); };
  index_t first = 0, end = 0;
  while (first < pairs && factor_at(first) <= 1 + 1e-6) ++first;
  for (end = first; end < pairs && is_between(factor_at(end));) ++end;

  if (first < pairs) {
    double low = 0, high = 0;  // turns per position where smooth is 0, and 1
    if (end - first >= 2) {
      const double slope = (smooth(first) - smooth(end - 1)) / (turns(first) - turns(end - 1));
      low = turns(first) - smooth(first) / slope;
      high = low + 1 / slope;
    } else {  // a narrow range between the neighbours does the same
      const double middle = end > first ? turns(first) : (turns(first) + turns(first - 1)) / 2;
      const double s = end > first ? smooth(first) : 0.5;
      const double width = std::min(turns(first - 1) - middle, middle - (end < pairs ? turns(end) : 0.0)) / 2;
      low = middle - s * width;
      high = low + width;
    }
    const double context = std::round(1 / low);
    const bool is_whole = context >= 1 && context < 1 << 30 && std::abs(1 / low / context - 1) < 1e-6;
    rope.original_max_positions = is_whole ? static_cast<index_t>(context) : 8192;
    const auto scaled = [&](double x) {  // without what f32 factors leave of rounding
      x *= static_cast<double>(rope.original_max_positions);
      return std::abs(std::round(x * 1000) / 1000 / x - 1) < 1e-6 ? std::round(x * 1000) / 1000 : x;
    };
    rope.low_freq_factor = scaled(low), rope.high_freq_factor = scaled(high);
  }
  for (index_t i = 0; i < pairs; ++i) {
    const double found = rope_frequency(plain, i, 2 * pairs) / rope_frequency(rope, i, 2 * pairs);
    require(rope.factor >= 1 && std::abs(found - factor_at(i)) <= 1e-4 * found, where,
            ": expected frequencies divided as by Llama 3, found ", factors[static_cast<std::size_t>(i)], " for pair ",
            i, " of ", pairs);
  }
  return rope;
}

}  // namespace tessera
