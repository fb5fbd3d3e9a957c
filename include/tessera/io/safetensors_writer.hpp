#pragma once
// Writes a safetensors file piece by piece, in bounded memory: shapes first, bytes in any order, then the name.

#include <algorithm>
#include <atomic>
#include <bit>
#include <map>
#include <numeric>
#include <span>
#include <tuple>
#include <utility>

#include <tessera/io/atomic_file.hpp>
#include <tessera/io/json.hpp>
#include <tessera/io/tensor_info.hpp>

namespace tessera {

/// A safetensors file under construction; it appears under its name when finish() returns, or not at all.
class SafetensorsWriter {
 public:
  using Metadata = std::map<std::string, std::string>;

  /// Takes the disk space of the whole file. Throws Error, naming the file, where that fails; or if two tensors have
  /// the same name.
  SafetensorsWriter(const std::filesystem::path& path, std::vector<TensorSpec> tensors, const Metadata& metadata = {})
      : file_(path), tensors_(std::move(tensors)), offsets_(tensors_.size()) {
    static_assert(std::endian::native == std::endian::little);
    // Whole cache lines first, then wide elements: so matrices begin on a line, and every tensor is aligned to its own
    // element size; otherwise in the order given.
    std::vector<std::size_t> order(tensors_.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::sort(order.begin(), order.end(), [this](std::size_t a, std::size_t b) {
      const auto rank = [this](std::size_t i) {
        return std::tuple(tensors_[i].bytes() % line != 0, -bytes_of(tensors_[i].dtype), i);
      };
      return rank(a) < rank(b);
    });
    Json header = Json::object();
    if (!metadata.empty()) header["__metadata__"] = metadata;
    index_t reached = 0;
    for (const std::size_t i : order) {
      const TensorSpec& tensor = tensors_[i];
      offsets_[i] = reached;
      require(!__builtin_add_overflow(reached, tensor.bytes(), &reached), path.string(), ": too large for a file");
      require(!header.contains(tensor.name), path.string(), ": two tensors are called ", excerpt(tensor.name));
      header[tensor.name] = {
          {"dtype", name_of(tensor.dtype)}, {"shape", tensor.shape}, {"data_offsets", {offsets_[i], reached}}};
    }
    std::string text = header.dump(-1, ' ', false, Json::error_handler_t::replace);
    constexpr auto prefix = sizeof(std::uint64_t);
    text.resize((prefix + text.size() + line - 1) / line * line - prefix, ' ');  // the data begins on a line, too
    const auto length = static_cast<std::uint64_t>(text.size());
    data_begin_ = static_cast<index_t>(sizeof length + text.size());
    data_bytes_ = reached;
    file_.reserve(data_begin_ + data_bytes_);
    file_.write(0, &length, sizeof length);
    file_.write(sizeof length, text.data(), static_cast<index_t>(text.size()));
  }

  [[nodiscard]] const std::vector<TensorSpec>& tensors() const { return tensors_; }

  /// Writes `count` bytes at byte `offset` of tensor `tensor`. May be called from several threads; every byte of every
  /// tensor is written exactly once.
  void write(std::size_t tensor, index_t offset, const void* data, index_t count) {
    const TensorSpec& spec = tensors_.at(tensor);
    require(offset >= 0 && count >= 0 && offset + count <= spec.bytes(), file_.path(), ": ", spec.name, ": bytes ",
            offset, " to ", offset + count, " lie outside its ", spec.bytes());
    file_.write(data_begin_ + offsets_[tensor] + offset, data, count);
    written_ += count;
  }

  /// Writes a whole tensor. Throws Error if the number of elements or their type is not the tensor's.
  template <class T>
  void write(std::size_t tensor, std::span<const T> values) {
    const TensorSpec& spec = tensors_.at(tensor);
    const auto bytes = static_cast<index_t>(values.size_bytes());
    require(spec.dtype == stored_type_of<T> && bytes == spec.bytes(), file_.path(), ": ", spec.name, ": expected ",
            spec.bytes(), " bytes of ", name_of(spec.dtype), ", got ", bytes, " of ", name_of(stored_type_of<T>));
    write(tensor, 0, values.data(), bytes);
  }

  /// Completes the file. Throws Error if bytes were left out or the disk is full; the file is absent then.
  void finish() {
    require(written_ == data_bytes_, file_.path(), ": expected ", data_bytes_, " bytes of tensors, ", written_.load(),
            " were written");
    file_.commit();
  }

 private:
  static constexpr index_t line = 64;  // bytes

  AtomicFile file_;
  std::vector<TensorSpec> tensors_;
  std::vector<index_t> offsets_;  // of each tensor, from the first byte of data
  index_t data_begin_ = 0;
  index_t data_bytes_ = 0;
  std::atomic<index_t> written_ = 0;
};

}  // namespace tessera
