#pragma once
// Weights from a counter: element i of a tensor is a function of (seed, tensor's name, i) alone, so that a checkpoint
// is the same whatever number of threads writes it, in whatever order.

#include <bit>
#include <cstdint>
#include <string_view>
#include <type_traits>

#include <tessera/core/types.hpp>

namespace tessera::tools {

/// The finaliser of SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, OOPSLA 2014).
[[nodiscard]] constexpr std::uint64_t mix(std::uint64_t z) {
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9U;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBU;
  return z ^ (z >> 31);
}

/// The stream of a tensor: FNV-1a of its name, mixed with the seed.
[[nodiscard]] constexpr std::uint64_t stream_of(std::uint64_t seed, std::string_view name) {
  std::uint64_t hash = 0xCBF29CE484222325U;
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3U;
  return mix(hash ^ mix(seed));
}

/// Number `i` of a stream, with mean 0 and deviation 1, close to normal (the sum of four uniform numbers: Irwin-Hall),
/// within 3.47 of 0. Made of integers up to one product: the same bits with every compiler and instruction set.
[[nodiscard]] constexpr float random_normal(std::uint64_t stream, std::uint64_t i) {
  const std::uint64_t bits = mix(stream + (i + 1) * 0x9E3779B97F4A7C15U);
  const auto sum =
      static_cast<std::int32_t>((bits & 0xFFFF) + ((bits >> 16) & 0xFFFF) + ((bits >> 32) & 0xFFFF) + (bits >> 48));
  constexpr float deviation = 37837.2276F;  // 65536 / sqrt(3): four times the variance of one 16-bit number, its root
  return static_cast<float>(sum - 2 * 0xFFFF) * (1.0F / deviation);
}

template <class T>
[[nodiscard]] constexpr T rounded_to(float value) {
  if constexpr (std::is_same_v<T, bf16_t>) {
    return to_bf16(value);
  } else if constexpr (std::is_same_v<T, f16_t>) {
    return to_f16(value);
  } else {
    return value;
  }
}

/// Elements [begin, begin + count) of a tensor. Norm weights lie around 1, all others around 0, with deviation 0.02:
/// the `initializer_range` of the published configurations.
template <class T>
void random_elements(std::uint64_t seed, std::string_view tensor, index_t begin, index_t count, T* out) {
  const std::uint64_t stream = stream_of(seed, tensor);
  const float mean = tensor.ends_with("norm.weight") ? 1.0F : 0.0F;
  for (index_t i = 0; i < count; ++i) {
    out[i] = rounded_to<T>(mean + 0.02F * random_normal(stream, static_cast<std::uint64_t>(begin + i)));
  }
}

}  // namespace tessera::tools
