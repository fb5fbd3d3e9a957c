// The stored element types against their definition, for every one of their 65,536 values.
#include "catch.hpp"

#include <cmath>

#include <tessera/core/types.hpp>

using namespace tessera;

namespace {

/// IEEE 754's own words: (-1)^s x 2^(e - bias) x 1.m, and 0.m at the least exponent.
double value_of(std::uint32_t bits, int exponent_bits, int mantissa_bits) {
  const int bias = (1 << (exponent_bits - 1)) - 1;
  const auto mantissa = static_cast<double>(bits & ((1U << mantissa_bits) - 1U));
  const auto exponent = static_cast<int>(bits >> mantissa_bits & ((1U << exponent_bits) - 1U));
  const double sign = (bits >> (exponent_bits + mantissa_bits) & 1U) != 0 ? -1 : 1;
  if (exponent == (1 << exponent_bits) - 1) return mantissa == 0 ? sign * INFINITY : NAN;
  const double whole = std::ldexp(1.0, mantissa_bits);
  if (exponent == 0) return sign * std::ldexp(mantissa / whole, 1 - bias);
  return sign * std::ldexp(1 + mantissa / whole, exponent - bias);
}

bool same(double expected, float found) {
  if (std::isnan(expected)) return std::isnan(found);
  return expected == found && std::signbit(expected) == std::signbit(found);
}

/// Every value comes back from f32, and what lies between two of them goes to the nearer one, from the middle to the
/// even one.
template <class T, class Round>
int wrong_roundings(Round&& round, int exponent_bits, int mantissa_bits) {
  int wrong = 0;
  for (std::uint32_t bits = 0; bits < 0x8000U - 1; ++bits) {
    const T low{static_cast<std::uint16_t>(bits)}, high{static_cast<std::uint16_t>(bits + 1)};
    const double a = value_of(bits, exponent_bits, mantissa_bits);
    if (!std::isfinite(a)) continue;
    const double b = value_of(bits + 1, exponent_bits, mantissa_bits);
    const double middle =
        std::isfinite(b) ? (a + b) / 2 : a + (a - value_of(bits - 1, exponent_bits, mantissa_bits)) / 2;
    const auto tie = static_cast<float>(middle);
    const std::uint16_t even = bits % 2 == 0 ? low.bits : high.bits;
    for (const float sign : {1.0F, -1.0F}) {
      const auto negative = static_cast<std::uint16_t>(sign < 0 ? 0x8000U : 0U);
      wrong += round(sign * static_cast<float>(a)).bits != (low.bits | negative);
      if (!std::isfinite(tie)) continue;  // above the largest f32
      wrong += round(sign * tie).bits != (even | negative);
      wrong += round(sign * std::nextafter(tie, 0.0F)).bits != (low.bits | negative);
      wrong += round(sign * std::nextafter(tie, INFINITY)).bits != (high.bits | negative);
    }
  }
  return wrong;
}

}  // namespace

TEST_CASE("every bf16 and f16 is widened to its value") {
  int wrong = 0;
  for (std::uint32_t bits = 0; bits < 0x10000U; ++bits) {
    const auto stored = static_cast<std::uint16_t>(bits);
    wrong += !same(value_of(bits, 8, 7), to_float(bf16_t{stored}));
    wrong += !same(value_of(bits, 5, 10), to_float(f16_t{stored}));
  }
  CHECK(wrong == 0);
}

TEST_CASE("rounding to bf16 and f16 takes the nearest value, of two the even one") {
  CHECK(wrong_roundings<bf16_t>(to_bf16, 8, 7) == 0);
  CHECK(wrong_roundings<f16_t>(to_f16, 5, 10) == 0);
  CHECK(std::isnan(to_float(to_bf16(NAN))));
  CHECK(std::isnan(to_float(to_f16(NAN))));
  CHECK(to_float(to_f16(1e6F)) == INFINITY);
  CHECK(to_float(to_f16(-INFINITY)) == -INFINITY);
}
