#pragma once
// The check of an option that is no whole number.

#include <string>

#include <tessera/core/error.hpp>
#include <tessera/core/sampling_limits.hpp>

#include "program/cli.hpp"

namespace tessera::program {

/// A number from range.least to range.most. CLI::Range lets NaN pass, which is neither less nor more than anything.
inline CLI::Validator finite_range(NumberRange range) {
  return CLI::Validator(
      [range](std::string& text) {
        double number = 0;
        if (CLI::detail::lexical_cast(text, number) && range.contains(number)) return std::string();
        return concat("expected a number from ", range.least, " to ", range.most, ", found ", text);
      },
      concat("FLOAT in [", range.least, " - ", range.most, "]"));
}
inline CLI::Validator finite_range(double least, double most) { return finite_range({least, most}); }

}  // namespace tessera::program
