#pragma once
// The safetensors format: 8 bytes of length, a JSON header, then the tensors' bytes without gap or overlap
// (https://github.com/huggingface/safetensors#format). Every number of the header is checked before it is used.

#include <algorithm>
#include <bit>
#include <cstring>
#include <functional>
#include <map>

#include <tessera/io/json.hpp>
#include <tessera/io/mapped_file.hpp>
#include <tessera/io/tensor_info.hpp>

namespace tessera {

static_assert(std::endian::native == std::endian::little, "safetensors files are little-endian, and read in place");

/// What a header says; `offset` of a tensor counts from the first byte after the header, `data` is null.
struct SafetensorsHeader {
  std::vector<TensorInfo> tensors;  ///< in the order of their bytes
  std::map<std::string, std::string> metadata;
};

namespace detail {

inline TensorInfo parse_tensor(const std::string& name, const JsonObject& entry, index_t data_bytes) {
  TensorInfo tensor;
  tensor.name = name;
  const std::string dtype = entry.text("dtype");
  const auto type = stored_type_named(dtype);
  require(type.has_value(), entry.where(), ": dtype: expected F32, BF16, F16 or another type of whole bytes, found \"",
          excerpt(dtype), '"');
  tensor.dtype = *type;

  const Json& shape = entry.at("shape");
  require(shape.is_array(), entry.where(), ": shape: expected an array, found ", JsonObject::describe(shape));
  index_t bytes = bytes_of(tensor.dtype);
  bool overflow = false;
  for (const Json& extent : shape) {
    tensor.shape.push_back(JsonObject::as_integer(extent, concat(entry.where(), ": shape"), 0, INT64_MAX));
    overflow |= __builtin_mul_overflow(bytes, tensor.shape.back(), &bytes);
  }
  // A zero after the overflow would make the product small again; such a shape is refused as well.
  require(!overflow, entry.where(), ": shape ", excerpt(shape_text(tensor.shape)), " is larger than any file");

  const Json& offsets = entry.at("data_offsets");
  const std::string offsets_where = concat(entry.where(), ": data_offsets");
  require(offsets.is_array() && offsets.size() == 2, offsets_where, ": expected [begin, end], found ",
          JsonObject::describe(offsets));
  tensor.offset = JsonObject::as_integer(offsets[0], offsets_where, 0, INT64_MAX);
  const index_t end = JsonObject::as_integer(offsets[1], offsets_where, tensor.offset, INT64_MAX);
  require(end <= data_bytes, offsets_where, ": expected at least ", end, " bytes of data, the file has ", data_bytes,
          ": it was cut short, or is still on its way; get it again");
  tensor.bytes = end - tensor.offset;
  require(tensor.bytes == bytes, entry.where(), ": expected ", bytes, " bytes for ", dtype, ' ',
          excerpt(shape_text(tensor.shape)), ", data_offsets give ", tensor.bytes);
  return tensor;
}

}  // namespace detail

/// Reads the JSON text of a header whose tensors take `data_bytes` bytes. `where` names the file in errors. Throws
/// Error if a field is missing, of the wrong type or out of range, if a size is not its shape's, or if the tensors do
/// not tile the data.
[[nodiscard]] inline SafetensorsHeader parse_safetensors_header(std::string_view text, index_t data_bytes,
                                                                const std::string& where) {
  require(!text.empty() && text.front() == '{', where, ": expected a header that begins with {, found ",
          text.empty() ? std::string("nothing") : concat('"', excerpt(text.substr(0, 1)), '"'));
  const Json json = parse_json(text, concat(where, ": header"));
  SafetensorsHeader header;
  for (const auto& [name, entry] : json.items()) {
    const JsonObject fields(entry, concat(where, ": ", excerpt(name)));
    if (name != "__metadata__") {
      header.tensors.push_back(detail::parse_tensor(name, fields, data_bytes));
      continue;
    }
    for (const auto& [key, value] : entry.items()) {
      require(value.is_string(), fields.where(), ": ", excerpt(key), ": expected a string, found ",
              JsonObject::describe(value));
      header.metadata.emplace(key, value.get<std::string>());
    }
  }
  const auto order = [](const TensorInfo& t) { return std::pair(t.offset, t.offset + t.bytes); };
  std::sort(header.tensors.begin(), header.tensors.end(),
            [&](const TensorInfo& a, const TensorInfo& b) { return order(a) < order(b); });
  index_t reached = 0;
  for (const TensorInfo& tensor : header.tensors) {
    require(tensor.offset == reached, where, ": ", excerpt(tensor.name), ": expected to begin at byte ", reached,
            " of the data, where the tensor before it ends; begins at ", tensor.offset);
    reached += tensor.bytes;
  }
  require(reached == data_bytes, where, ": expected ", reached, " bytes of tensors, as the header says; found ",
          data_bytes);
  return header;
}

/// An open safetensors file: its tensors lie in a mapping that lives as long as this object. Moves, no copy.
class Safetensors {
 public:
  /// Throws Error, naming the file and the fault, if it cannot be read or is not a sound safetensors file.
  explicit Safetensors(const std::filesystem::path& path) : file_(path) {
    // The header is copied out and not parsed in the mapping, so that a file cut short right now cannot fault.
    std::uint64_t stated = 0;
    constexpr index_t prefix = sizeof stated;
    // The format allows 100 MB; published headers stay below 1 MB, and parsing takes many times the text's size.
    constexpr index_t largest_header = index_t{32} << 20;
    require(file_.size() >= prefix, file_.path(), ": expected 8 bytes of header length, found ", file_.size(),
            " bytes in all");
    file_.read(0, &stated, prefix);
    const index_t room = file_.size() - prefix;
    const index_t most = std::min(room, largest_header);
    // What a clone without Git LFS has in its place is a text that begins so.
    require(std::memcmp(&stated, "version ", prefix) != 0, file_.path(),
            ": expected safetensors, found a pointer of Git LFS: run `git lfs pull` where it was cloned");
    require(stated <= static_cast<std::uint64_t>(most), file_.path(), ": expected a header of at most ", most,
            " bytes, the first 8 bytes say ", stated);
    const auto length = static_cast<index_t>(stated);
    std::string text(static_cast<std::size_t>(length), '\0');
    file_.read(prefix, text.data(), length);
    header_ = parse_safetensors_header(text, room - length, file_.path());
    for (TensorInfo& tensor : header_.tensors) {
      tensor.offset += prefix + length;
      tensor.data = file_.data() + tensor.offset;
    }
    for (std::size_t i = 0; i < header_.tensors.size(); ++i) places_.emplace(header_.tensors[i].name, i);
  }

  /// The tensor of that name, or null.
  [[nodiscard]] const TensorInfo* find(std::string_view name) const {
    const auto place = places_.find(name);
    return place == places_.end() ? nullptr : &header_.tensors[place->second];
  }

  /// The tensor of that name. Throws Error if the file has none.
  [[nodiscard]] const TensorInfo& at(std::string_view name) const {
    const TensorInfo* tensor = find(name);
    require(tensor != nullptr, file_.path(), ": has no tensor ", excerpt(name));
    return *tensor;
  }

  [[nodiscard]] const std::vector<TensorInfo>& tensors() const { return header_.tensors; }
  [[nodiscard]] const std::map<std::string, std::string>& metadata() const { return header_.metadata; }
  [[nodiscard]] const MappedFile& file() const { return file_; }

 private:
  MappedFile file_;
  SafetensorsHeader header_;
  std::map<std::string, std::size_t, std::less<>> places_;
};

}  // namespace tessera
