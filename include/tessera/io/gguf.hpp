#pragma once
// The GGUF format of llama.cpp (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md): metadata by key, then
// tensors by name, some in blocks. Every number of the header is checked before it is used.

#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <utility>
#include <variant>
#include <vector>

#include <tessera/io/excerpt.hpp>
#include <tessera/io/gguf_types.hpp>
#include <tessera/io/mapped_file.hpp>
#include <tessera/io/tensor_info.hpp>

namespace tessera {

/// A value of the metadata: numbers of all kinds as integers where they are integers, arrays of numbers as doubles.
using GgufValue = std::variant<index_t, double, bool, std::string, std::vector<std::string>, std::vector<double>>;

/// A tensor of a GGUF file; `cols` counts elements, in whole blocks.
struct GgufTensor {
  std::string name;
  GgufType type = GgufType::f32;
  std::vector<index_t> shape;  ///< [rows, cols] as everywhere here; GGUF has them the other way round
  index_t offset = 0;          ///< of its first byte in the file
  const std::byte* data = nullptr;

  [[nodiscard]] index_t cols() const { return shape.back(); }
};

namespace detail {

/// Reads a file's header piece by piece, in a copy that cannot fault.
class GgufCursor {
 public:
  explicit GgufCursor(const MappedFile& file) : file_(&file) {}

  [[nodiscard]] index_t place() const { return begin_ + at_; }
  [[nodiscard]] index_t left() const { return file_->size() - place(); }

  void read(void* to, index_t count, std::string_view what) {
    require(count <= left(), file_->path(), ": ends within ", what, ": ", count, " bytes at ", place(),
            " are expected, the file has ", file_->size());
    if (at_ + count > static_cast<index_t>(window_.size())) {
      begin_ += at_;
      at_ = 0;
      window_.resize(static_cast<std::size_t>(std::min(file_->size() - begin_, std::max(count, index_t{1} << 20))));
      file_->read(begin_, window_.data(), static_cast<index_t>(window_.size()));
    }
    std::memcpy(to, window_.data() + at_, static_cast<std::size_t>(count));
    at_ += count;
  }
  template <class T>
  [[nodiscard]] T number(std::string_view what) {
    T value;
    read(&value, sizeof value, what);
    return value;
  }
  /// A count of things of `least_bytes` bytes or more each: more than the file has room for is refused.
  [[nodiscard]] index_t count(index_t least_bytes, std::string_view what) {
    const auto n = number<std::uint64_t>(what);
    require(n <= static_cast<std::uint64_t>(left() / least_bytes), file_->path(), ": ", what, ": ", n,
            " do not fit into the ", left(), " bytes that are left");
    return static_cast<index_t>(n);
  }
  [[nodiscard]] std::string text(std::string_view what) {
    std::string value(static_cast<std::size_t>(count(1, what)), '\0');
    read(value.data(), static_cast<index_t>(value.size()), what);
    return value;
  }
  [[nodiscard]] const std::string& path() const { return file_->path(); }

 private:
  const MappedFile* file_;
  std::string window_;
  index_t begin_ = 0;  // of the window in the file
  index_t at_ = 0;     // in the window
};

/// Calls f with a value of the C++ type that a number or a flag of the metadata has; false for other types.
template <class F>
bool with_gguf_number(std::uint32_t type, F&& f) {
  switch (type) {
    case 0: return f(std::uint8_t{}), true;
    case 1: return f(std::int8_t{}), true;
    case 2: return f(std::uint16_t{}), true;
    case 3: return f(std::int16_t{}), true;
    case 4: return f(std::uint32_t{}), true;
    case 5: return f(std::int32_t{}), true;
    case 6: return f(float{}), true;
    case 7: return f(bool{}), true;
    case 10: return f(std::uint64_t{}), true;
    case 11: return f(std::int64_t{}), true;
    case 12: return f(double{}), true;
    default: return false;
  }
}

template <class T>
[[nodiscard]] T gguf_number(GgufCursor& from, std::string_view key) {
  if constexpr (std::is_same_v<T, bool>) {
    return from.number<std::uint8_t>(key) != 0;
  } else {
    return from.number<T>(key);
  }
}

[[nodiscard]] inline GgufValue gguf_array(GgufCursor& from, std::string_view key) {
  const auto type = from.number<std::uint32_t>(key);
  if (type == 8) {
    std::vector<std::string> texts(static_cast<std::size_t>(from.count(8, key)));
    for (std::string& text : texts) text = from.text(key);
    return texts;
  }
  std::vector<double> numbers;
  const bool known = with_gguf_number(type, [&]<class T>(T) {
    numbers.resize(static_cast<std::size_t>(from.count(sizeof(T), key)));
    for (double& number : numbers) number = static_cast<double>(gguf_number<T>(from, key));
  });
  require(known, from.path(), ": ", excerpt(std::string(key)), ": expected an array of numbers or texts, found type ",
          type);
  return numbers;
}

[[nodiscard]] inline GgufValue gguf_value(GgufCursor& from, std::string_view key) {
  const auto type = from.number<std::uint32_t>(key);
  if (type == 8) return from.text(key);
  if (type == 9) return gguf_array(from, key);
  GgufValue value;
  const bool known = with_gguf_number(type, [&]<class T>(T) {
    const T number = gguf_number<T>(from, key);
    if constexpr (std::is_same_v<T, bool>) {
      value = number;
    } else if constexpr (std::is_floating_point_v<T>) {
      value = static_cast<double>(number);
    } else {
      require(std::in_range<index_t>(number), from.path(), ": ", excerpt(std::string(key)), ": ", number,
              " is too large");
      value = static_cast<index_t>(number);
    }
  });
  require(known, from.path(), ": ", excerpt(std::string(key)), ": expected a type of 0 to 12, found ", type);
  return value;
}

}  // namespace detail

/// An open GGUF file: its tensors lie in a mapping that lives as long as this object. Moves, no copy.
class Gguf {
 public:
  /// Throws Error, naming the file and the fault, if it cannot be read, is no sound GGUF file, or has a tensor of a
  /// type that is not among those of GgufType.
  explicit Gguf(const std::filesystem::path& path) : file_(path) {
    detail::GgufCursor from(file_);
    const auto magic = from.number<std::array<char, 4>>("its first bytes");
    require(std::string_view(magic.data(), 4) == "GGUF", file_.path(), ": expected a file that begins with GGUF");
    const auto version = from.number<std::uint32_t>("its version");
    require(version == 2 || version == 3, file_.path(), ": expected GGUF version 2 or 3, found ", version);
    const index_t tensors = from.count(8 + 4 + 8 + 4 + 8, "tensors");
    const index_t values = from.count(8 + 4 + 1, "metadata");
    for (index_t i = 0; i < values; ++i) {
      const std::string key = from.text("a key of the metadata");
      metadata_.insert_or_assign(key, detail::gguf_value(from, key));
    }
    for (index_t i = 0; i < tensors; ++i) read_tensor(from);
    place_tensors(from.place());
  }

  [[nodiscard]] const std::string& path() const { return file_.path(); }
  /// Throws Error if the file was written to, removed or replaced since it was opened.
  void check_unchanged() const { file_.check_unchanged(); }
  [[nodiscard]] const std::map<std::string, GgufTensor, std::less<>>& tensors() const { return tensors_; }
  [[nodiscard]] const GgufTensor* find(std::string_view name) const {
    const auto place = tensors_.find(name);
    return place == tensors_.end() ? nullptr : &place->second;
  }
  /// A value of the metadata, if it is there. Throws Error if it is of another type than T.
  template <class T>
  [[nodiscard]] std::optional<T> find_value(std::string_view key) const {
    const auto place = metadata_.find(key);
    if (place == metadata_.end()) return std::nullopt;
    const T* value = std::get_if<T>(&place->second);
    require(value != nullptr, file_.path(), ": ", key, ": has another type than expected");
    return *value;
  }
  template <class T>
  [[nodiscard]] T value(std::string_view key) const {
    const auto found = find_value<T>(key);
    require(found.has_value(), file_.path(), ": the metadata lack ", key);
    return *found;
  }

 private:
  void read_tensor(detail::GgufCursor& from) {
    GgufTensor tensor;
    tensor.name = from.text("a tensor's name");
    const std::string where = concat(file_.path(), ": ", excerpt(tensor.name));
    const auto dimensions = from.number<std::uint32_t>(tensor.name);
    require(1 <= dimensions && dimensions <= 2, where, ": expected 1 or 2 dimensions, found ", dimensions);
    for (std::uint32_t d = 0; d < dimensions; ++d) {
      const auto extent = from.number<std::uint64_t>(tensor.name);
      constexpr std::uint64_t most = std::uint64_t{1} << 31;  // squared, it still fits an index_t
      require(1 <= extent && extent <= most, where, ": expected dimensions of 1 to ", most, ", found ", extent);
      tensor.shape.insert(tensor.shape.begin(), static_cast<index_t>(extent));
    }
    const auto type = gguf_type_of(from.number<std::uint32_t>(tensor.name));
    require(type.has_value(), where, ": expected F32, F16, BF16, Q8_0, Q4_0, Q4_K or Q6_K, found another type");
    tensor.type = *type;
    require(tensor.cols() % block_of(*type).elements == 0, where, ": expected rows of whole blocks of ",
            block_of(*type).elements, ", found ", tensor.cols());
    const auto offset = from.number<std::uint64_t>(tensor.name);
    require(offset <= static_cast<std::uint64_t>(file_.size()), where, ": begins at byte ", offset,
            " of the data, behind the end of the file");
    tensor.offset = static_cast<index_t>(offset);
    require(tensors_.emplace(tensor.name, tensor).second, where, ": there are two of this name");
  }

  void place_tensors(index_t header_end) {
    const index_t alignment = find_value<index_t>("general.alignment").value_or(32);
    require(alignment >= 1 && alignment <= 1 << 20, file_.path(), ": general.alignment: expected 1 to 1048576, found ",
            alignment);
    const index_t data_begin = ceil_div(header_end, alignment) * alignment;
    for (auto& [name, tensor] : tensors_) {
      index_t elements = 1;
      for (const index_t extent : tensor.shape) elements *= extent;
      const Block block = block_of(tensor.type);
      const index_t blocks = elements / block.elements;
      tensor.offset += data_begin;
      // Of the file, not of the blocks: those times their bytes may be more than a number holds.
      require(tensor.offset < file_.size() && blocks <= (file_.size() - tensor.offset) / block.bytes, file_.path(),
              ": ", excerpt(name), ": expected ", blocks, " times ", block.bytes, " bytes from byte ", tensor.offset,
              " on, the file has ", file_.size());
      tensor.data = file_.data() + tensor.offset;
    }
  }

  MappedFile file_;
  std::map<std::string, GgufValue, std::less<>> metadata_;
  std::map<std::string, GgufTensor, std::less<>> tensors_;
};

}  // namespace tessera
