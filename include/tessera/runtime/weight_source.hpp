#pragma once
// Where the weights of a checkpoint come from when another one is made of them: a few rows at a time, as f32.

#include <cstring>
#include <map>
#include <string>

#include <tessera/io/checkpoint.hpp>
#include <tessera/io/safetensors_writer.hpp>

namespace tessera {

/// A matrix's extent; a vector is a matrix of one row.
struct RowsAndCols {
  index_t rows = 1;
  index_t cols = 0;
};

/// The rows and columns of a tensor.
[[nodiscard]] inline RowsAndCols rows_and_cols(const TensorSpec& tensor) {
  return tensor.shape.size() == 1 ? RowsAndCols{1, tensor.shape[0]} : RowsAndCols{tensor.shape[0], tensor.shape[1]};
}

/// Tensors by the names of a Hugging Face folder. Any number of threads may read at once.
class WeightSource {
 public:
  WeightSource() = default;
  WeightSource(const WeightSource&) = delete;
  WeightSource& operator=(const WeightSource&) = delete;
  virtual ~WeightSource() = default;

  /// How a tensor of that name and shape is stored where it is not converted. Throws Error, naming it, with what was
  /// expected and what was found, if it is missing or has another shape.
  [[nodiscard]] virtual StoredType stored_as(const TensorSpec& tensor) const = 0;
  /// Rows of a tensor that stored_as() knows, [rows.size(), cols]. A file that has
  /// become too short raises SIGBUS (io/bus_error.hpp).
  virtual void read(const TensorSpec& tensor, Range rows, float* out) const = 0;
  /// Throws Error if a file was written to, removed or replaced since it was opened.
  virtual void check_unchanged() const = 0;
};

/// The weights of an open checkpoint that is not in blocks.
class CheckpointSource final : public WeightSource {
 public:
  explicit CheckpointSource(Checkpoint checkpoint) : checkpoint_(std::move(checkpoint)) {}

  [[nodiscard]] StoredType stored_as(const TensorSpec& tensor) const override {
    const TensorInfo* found = checkpoint_.find(tensor.name);
    require(found != nullptr, tensor.name, ": expected ", shape_text(tensor.shape),
            ", no file of the checkpoint has it");
    require(kernel_type(found->dtype).has_value(), tensor.name, ": expected BF16, F16 or F32, file has ",
            name_of(found->dtype),
            found->dtype == StoredType::i8 || found->dtype == StoredType::u8
                ? ": it is in blocks already; convert what it was made of"
                : "");
    require(found->shape == tensor.shape, tensor.name, ": expected ", shape_text(tensor.shape), ", file has ",
            excerpt(shape_text(found->shape)));
    return found->dtype;
  }

  void read(const TensorSpec& tensor, Range rows, float* out) const override {
    const TensorInfo& found = *checkpoint_.find(tensor.name);
    const index_t cols = rows_and_cols(tensor).cols;
    with_type_of(*kernel_type(found.dtype), [&]<class T>(T) {
      const std::byte* from = found.data + rows.begin * cols * static_cast<index_t>(sizeof(T));
      for (index_t i = 0; i < rows.size() * cols; ++i) {
        T value;  // at any alignment
        std::memcpy(&value, from + i * static_cast<index_t>(sizeof(T)), sizeof value);
        out[i] = to_float(value);
      }
    });
  }

  void check_unchanged() const override { checkpoint_.check_unchanged(); }

 private:
  Checkpoint checkpoint_;
};

}  // namespace tessera
