#pragma once
// Random numbers without a state: a counter-based generator, whose output is a function of a key and a counter.

#include <array>
#include <cstdint>

namespace tessera {

/// Philox4x32-10: 128 random bits of a counter under a key.
/// Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011, section 3.3.
[[nodiscard]] constexpr std::array<std::uint32_t, 4> philox(std::array<std::uint32_t, 4> counter,
                                                            std::array<std::uint32_t, 2> key) {
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t a = std::uint64_t{0xD2511F53} * counter[0];
    const std::uint64_t b = std::uint64_t{0xCD9E8D57} * counter[2];
    counter = {static_cast<std::uint32_t>(b >> 32) ^ counter[1] ^ key[0], static_cast<std::uint32_t>(b),
               static_cast<std::uint32_t>(a >> 32) ^ counter[3] ^ key[1], static_cast<std::uint32_t>(a)};
    key = {key[0] + 0x9E3779B9, key[1] + 0xBB67AE85};
  }
  return counter;
}

/// A number in [0, 1) of 53 random bits for a position of a sequence: the same on every rank, in every order.
[[nodiscard]] constexpr double uniform(std::uint64_t seed, std::uint64_t sequence, std::uint64_t position) {
  const auto low = [](std::uint64_t x) { return static_cast<std::uint32_t>(x); };
  const auto high = [](std::uint64_t x) { return static_cast<std::uint32_t>(x >> 32); };
  const auto bits = philox({low(position), high(position), low(sequence), high(sequence)}, {low(seed), high(seed)});
  const std::uint64_t wide = (std::uint64_t{bits[1]} << 32 | bits[0]) >> 11;
  return static_cast<double>(wide) * 0x1p-53;
}

}  // namespace tessera
