#pragma once
// What a checkpoint is, in a few numbers: to see that two machines have the same one without reading all of it.

#include <array>
#include <cstdint>
#include <string_view>

#include <tessera/io/checkpoint.hpp>

namespace tessera {

/// Sizes and hashes of a checkpoint. Not proof against somebody who wants two checkpoints to look alike.
struct Fingerprint {
  index_t files = 0;
  index_t bytes = 0;          ///< of all files
  std::uint64_t headers = 0;  ///< of every tensor's name, type, shape and place
  std::uint64_t sample = 0;   ///< of pieces of the data
};

namespace detail {

/// FNV-1a (http://www.isthe.com/chongo/tech/comp/fnv/), 64 bits.
class Fnv {
 public:
  void add(const void* data, std::size_t size) {
    const auto* bytes = static_cast<const unsigned char*>(data);
    for (std::size_t i = 0; i < size; ++i) hash_ = (hash_ ^ bytes[i]) * 0x100000001B3U;
  }
  void add(std::string_view text) { add(text.data(), text.size()), add(index_t{-1}); }
  void add(index_t number) { add(&number, sizeof number); }
  [[nodiscard]] std::uint64_t value() const { return hash_; }

 private:
  std::uint64_t hash_ = 0xCBF29CE484222325U;
};

}  // namespace detail

/// Reads the beginning of up to 128 tensors of each file, evenly among them, without touching the mapping. Throws Error
/// if a file has become too short.
[[nodiscard]] inline Fingerprint fingerprint(const Checkpoint& checkpoint) {
  constexpr std::size_t samples = 128;
  constexpr index_t most = 256;  // bytes of one: a few cache lines of weights, in which no two trainings agree
  Fingerprint print;
  detail::Fnv headers, sample;
  for (const Safetensors& file : checkpoint.files()) {
    ++print.files;
    print.bytes += file.file().size();
    const std::vector<TensorInfo>& tensors = file.tensors();
    for (const TensorInfo& tensor : tensors) {
      headers.add(tensor.name), headers.add(name_of(tensor.dtype)), headers.add(tensor.offset);
      for (const index_t extent : tensor.shape) headers.add(extent);
    }
    const std::size_t count = std::min(samples, tensors.size());
    for (std::size_t i = 0; i < count; ++i) {
      const TensorInfo& tensor = tensors[i * tensors.size() / count];
      std::array<char, most> bytes{};
      const index_t n = std::min(most, tensor.bytes);
      file.file().read(tensor.offset, bytes.data(), n);
      sample.add(bytes.data(), static_cast<std::size_t>(n));
    }
  }
  print.headers = headers.value();
  print.sample = sample.value();
  return print;
}

}  // namespace tessera
