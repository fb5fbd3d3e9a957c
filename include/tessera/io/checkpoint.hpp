#pragma once
// The weights of a Hugging Face folder: one safetensors file or several with an index, mapped, found by tensor name.

#include <algorithm>
#include <deque>
#include <filesystem>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include <tessera/core/buffer.hpp>
#include <tessera/io/block_tensors.hpp>
#include <tessera/io/safetensors.hpp>

namespace tessera {

/// An open checkpoint. Weights are views into the mapped files and live as long as this object. Moves, no copy.
class Checkpoint {
 public:
  /// Opens model.safetensors, or else the files that model.safetensors.index.json names. Reads headers only. Throws
  /// Error, naming the file, if one is missing or unsound, or lacks a tensor that the index places in it.
  [[nodiscard]] static Checkpoint open(const std::filesystem::path& folder) {
    namespace fs = std::filesystem;
    std::error_code unused;
    require(fs::is_directory(folder, unused), folder.string(), ": expected the folder of a checkpoint, found ",
            fs::exists(folder, unused) ? "a file" : "nothing");
    Checkpoint checkpoint;
    const fs::path single = folder / "model.safetensors";
    const fs::path index = folder / "model.safetensors.index.json";
    // A name that is there counts, also where it is a dangling link: the error then says so.
    if (fs::symlink_status(single, unused).type() != fs::file_type::not_found) {
      checkpoint.files_.emplace_back(single);
      for (const TensorInfo& tensor : checkpoint.files_.front().tensors())
        checkpoint.places_[tensor.name] = {0, &tensor};
    } else {
      require(
          fs::symlink_status(index, unused).type() != fs::file_type::not_found, folder.string(),
          ": expected model.safetensors or model.safetensors.index.json, found neither",
          fs::exists(folder / "pytorch_model.bin", unused) ? " (pytorch_model.bin: save it as safetensors first)" : "");
      checkpoint.open_shards(folder, index);
    }
    return checkpoint;
  }

  /// The tensor of that name, or null.
  [[nodiscard]] const TensorInfo* find(std::string_view name) const {
    const auto place = places_.find(name);
    return place == places_.end() ? nullptr : place->second.tensor;
  }

  /// A weight matrix [rows, cols] as it is stored: a view of the mapping, or of a private copy where an old writer left
  /// the data misaligned. I8 and U8 are integers of blocks, whose scales are the tensor NAME_scale
  /// (docs/quantisation.md). Throws Error, with what was expected and what the file has, if it is missing, has another
  /// shape, or is of a type that the kernels do not read. For one thread at a time.
  [[nodiscard]] WeightView weight(std::string_view name, index_t rows, index_t cols) const {
    const TensorInfo* found = find(name);
    if (found != nullptr && found->dtype == StoredType::i8) return blocks<Int8Blocks>(name, rows, cols);
    if (found != nullptr && found->dtype == StoredType::u8) return blocks<Int4Blocks>(name, rows, cols);
    const TensorInfo& tensor = checked(name, {rows, cols});
    return {aligned(tensor), dtype_of_tensor(tensor), rows, cols, cols};
  }

  /// A vector of `n` elements (a norm, a bias), widened to f32. Throws Error as weight() does, at any alignment, and if
  /// the file has become too short for it.
  [[nodiscard]] std::vector<float> vector(std::string_view name, index_t n) const {
    const TensorInfo& tensor = checked(name, {n});
    const DType dtype = dtype_of_tensor(tensor);
    std::vector<float> values(static_cast<std::size_t>(n));
    with_type_of(dtype, [&]<class T>(T) {
      std::vector<T> stored(values.size());
      file_of(tensor).read(tensor.offset, stored.data(), tensor.bytes);
      for (std::size_t i = 0; i < stored.size(); ++i) values[i] = to_float(stored[i]);
    });
    return values;
  }

  /// Reads the pages of a view of a weight into memory before it returns. Throws Error if the file no longer has them.
  void populate(const WeightView& slice) const {
    each_range(slice, [](const MappedFile& file, Range bytes) { file.populate(bytes); });
  }

  /// Has the pages of a view of a weight read in the background.
  void advise_needed(const WeightView& slice) const {
    each_range(slice, [](const MappedFile& file, Range bytes) { file.advise_needed(bytes); });
  }

  /// Throws Error if a file was written to, removed or replaced since it was opened.
  void check_unchanged() const {
    for (const Safetensors& file : files_) file.file().check_unchanged();
  }

  [[nodiscard]] const std::vector<Safetensors>& files() const { return files_; }

 private:
  struct Place {
    std::size_t file = 0;
    const TensorInfo* tensor = nullptr;
  };

  Checkpoint() = default;

  void open_shards(const std::filesystem::path& folder, const std::filesystem::path& index) {
    constexpr index_t largest_index = index_t{32} << 20;
    const Json json = parse_json(read_text(index, largest_index), index.string());
    const JsonObject fields(json, index.string());
    const Json& weight_map = fields.at("weight_map");
    const std::string where = concat(index.string(), ": weight_map");
    require(weight_map.is_object() && !weight_map.empty(), where, ": expected tensor names and their files, found ",
            JsonObject::describe(weight_map));
    std::map<std::string, std::size_t> opened;  // file name -> place in files_
    for (const auto& [name, file] : weight_map.items()) {
      require(file.is_string(), where, ": ", excerpt(name), ": expected a file name, found ",
              JsonObject::describe(file));
      const auto& file_name = file.get_ref<const std::string&>();
      // A checkpoint names files of its own folder only; where a symbolic link leads is its owner's affair.
      const bool plain = !file_name.empty() && file_name != "." && file_name != ".." &&
                         file_name.find_first_of(std::string_view("/\\\0", 3)) == std::string::npos;
      require(plain, where, ": ", excerpt(name), ": expected a plain file name, found ", JsonObject::describe(file));
      opened.emplace(file_name, 0);
    }
    files_.reserve(opened.size());
    for (auto& [file_name, place] : opened) {
      place = files_.size();
      files_.emplace_back(folder / file_name);
    }
    for (const auto& [name, file] : weight_map.items()) {
      const std::size_t place = opened.at(file.get<std::string>());
      const TensorInfo* tensor = files_[place].find(name);
      require(tensor != nullptr, where, ": ", excerpt(name), " is said to be in ", excerpt(file.get<std::string>()),
              ", which has no such tensor");
      places_[name] = {place, tensor};
    }
  }

  /// A matrix in blocks, as tensors_of_blocks() says.
  template <BlockFormat F>
  [[nodiscard]] WeightView blocks(std::string_view name, index_t rows, index_t cols) const {
    require(cols % weight_block == 0, name, ": expected columns in whole blocks of ", weight_block, " for ", F::name,
            ", found ", cols);
    const auto [of_integers, of_scales] = tensors_of_blocks<F>(name, rows, cols);
    const TensorInfo& integers = checked(name, of_integers.shape);
    const TensorInfo& scales = checked(of_scales.name, of_scales.shape);
    require(scales.dtype == of_scales.dtype, of_scales.name, ": expected F16, file has ", name_of(scales.dtype), " (",
            file_name(scales), ")");
    return {integers.data, F::dtype, rows, cols, cols, static_cast<const f16_t*>(aligned(scales))};
  }

  [[nodiscard]] const void* aligned(const TensorInfo& tensor) const {
    return tensor.aligned() ? tensor.data : aligned_copy(tensor);
  }
  [[nodiscard]] const void* aligned_copy(const TensorInfo& tensor) const {
    const Buffer<char>& copy = copies_.emplace_back(tensor.bytes);
    file_of(tensor).read(tensor.offset, copy.data(), tensor.bytes);
    return copy.data();
  }

  [[nodiscard]] bool lies_in_copy(const void* data) const {
    const auto* at = static_cast<const char*>(data);
    return std::any_of(copies_.begin(), copies_.end(), [&](const Buffer<char>& copy) {
      return std::less_equal<>()(copy.data(), at) && std::less<>()(at, copy.data() + copy.size());
    });
  }

  [[nodiscard]] const TensorInfo& checked(std::string_view name, const std::vector<index_t>& shape) const {
    const TensorInfo* tensor = find(name);
    require(tensor != nullptr, name, ": expected ", shape_text(shape), ", no file of the checkpoint has it (",
            files_.front().file().path(), files_.size() > 1 ? ", ..." : "", ")");
    require(tensor->shape == shape, name, ": expected ", shape_text(shape), ", file has ",
            excerpt(shape_text(tensor->shape)), " (", file_name(*tensor), ")");
    return *tensor;
  }

  [[nodiscard]] DType dtype_of_tensor(const TensorInfo& tensor) const {
    const auto dtype = kernel_type(tensor.dtype);
    require(dtype.has_value(), tensor.name, ": expected BF16, F16 or F32, file has ", name_of(tensor.dtype), " (",
            file_name(tensor), ")");
    return *dtype;
  }

  [[nodiscard]] const MappedFile& file_of(const TensorInfo& tensor) const {
    return files_[places_.find(tensor.name)->second.file].file();
  }
  [[nodiscard]] std::string file_name(const TensorInfo& tensor) const {
    return std::filesystem::path(file_of(tensor).path()).filename().string();
  }

  /// Calls f(file, bytes) for the bytes of a view and of its scales; rows that lie closer together than a page or two
  /// count as one range.
  template <class F>
  void each_range(const WeightView& view, F&& f) const {
    if (view.empty()) return;
    const bool blocks = is_blocks(view.dtype);
    const auto bytes = [&](index_t cols) { return bytes_of(view.dtype, (blocks ? group_rows : 1) * cols); };
    each_row_range(view.data, blocks ? view.groups() : view.rows, bytes(view.cols), bytes(view.stride), f);
    if (!blocks) return;
    constexpr auto size = static_cast<index_t>(sizeof(f16_t));
    each_row_range(view.scales, view.groups(), view.scales_of(view.cols) * size, view.scales_of(view.stride) * size, f);
  }
  template <class F>
  void each_row_range(const void* data, index_t rows, index_t row_bytes, index_t pitch, F&& f) const {
    const MappedFile* file = nullptr;
    for (const Safetensors& candidate : files_)
      if (candidate.file().contains(data)) file = &candidate.file();
    if (file == nullptr && lies_in_copy(data)) return;  // in memory already
    require(file != nullptr, "a view of ", rows, " rows does not lie in this checkpoint");
    constexpr index_t nearby = 8192;
    const index_t begin = static_cast<const std::byte*>(data) - file->data();
    if (pitch - row_bytes <= nearby) {
      f(*file, Range{begin, begin + (rows - 1) * pitch + row_bytes});
      return;
    }
    for (index_t row = 0; row < rows; ++row) f(*file, Range{begin + row * pitch, begin + row * pitch + row_bytes});
  }

  std::vector<Safetensors> files_;
  mutable std::deque<Buffer<char>> copies_;  // of misaligned weights
  std::map<std::string, Place, std::less<>> places_;
};

}  // namespace tessera
