#pragma once
// From the tensors of a checkpoint to those of one in blocks: what is written, and a few rows of it at a time.

#include <algorithm>
#include <vector>

#include <tessera/io/block_tensors.hpp>
#include <tessera/io/checkpoint_tensors.hpp>
#include <tessera/runtime/weight_formats.hpp>
#include <tessera/runtime/weight_source.hpp>

namespace tessera {

/// A tensor on its way into a format, and the tensors that are written for it: itself, or integers and scales.
struct Conversion {
  TensorSpec tensor;  ///< as the source has it
  std::string_view format;
  std::vector<TensorSpec> written;

  [[nodiscard]] index_t bytes() const { return bytes_of(written); }
};

namespace detail {

inline float rounded(float value, float) { return value; }
inline bf16_t rounded(float value, bf16_t) { return to_bf16(value); }
inline f16_t rounded(float value, f16_t) { return to_f16(value); }

}  // namespace detail

/// What becomes of every tensor of a model, in the order of the forward pass. Throws Error if the source lacks one.
[[nodiscard]] inline std::vector<Conversion> conversions_of(const WeightSource& source, const ModelConfig& model,
                                                            const WeightFormats& formats) {
  std::vector<Conversion> conversions;
  for (TensorSpec& tensor : checkpoint_tensors(model, StoredType::f32)) {
    tensor.dtype = source.stored_as(tensor);
    Conversion conversion{tensor, formats.of(tensor.name, rows_and_cols(tensor).cols, model), {}};
    with_format_named(conversion.format, [&]<class F>(F) {
      if constexpr (BlockFormat<F>) {
        const auto [rows, cols] = rows_and_cols(tensor);
        const auto tensors = tensors_of_blocks<F>(tensor.name, rows, cols);
        conversion.written.assign(tensors.begin(), tensors.end());
      } else {
        conversion.written = {tensor};
      }
    });
    conversions.push_back(std::move(conversion));
  }
  return conversions;
}

/// Reads rows of a tensor, converts them and writes them as tensors `first` and following of `writer`; the rows begin
/// at a multiple of `group_rows`, and end at one or with the tensor. Throws Error if a weight is not finite. May be
/// called from several threads.
inline void convert_rows(const WeightSource& source, const Conversion& conversion, Range rows,
                         SafetensorsWriter& writer, std::size_t first) {
  const index_t cols = rows_and_cols(conversion.tensor).cols;
  std::vector<float> values(static_cast<std::size_t>(rows.size() * cols));
  source.read(conversion.tensor, rows, values.data());
  with_format_named(conversion.format, [&]<class F>(F) {
    if constexpr (BlockFormat<F>) {
      const BlockMatrix<F> before{rows.begin, cols}, these{rows.size(), cols};
      constexpr auto size = static_cast<index_t>(sizeof(f16_t));
      std::vector<std::uint8_t> integers(static_cast<std::size_t>(these.integers()));
      std::vector<f16_t> scales(static_cast<std::size_t>(these.scales()));
      try {
        for (index_t r = 0; r < rows.size(); ++r)
          encode_row<F>(values.data() + r * cols, cols, r, integers.data(), scales.data());
      } catch (const Error& error) {
        fail(conversion.tensor.name, ": ", error.what());
      }
      writer.write(first, before.integers(), integers.data(), these.integers());
      writer.write(first + 1, before.scales() * size, scales.data(), these.scales() * size);
    } else {
      with_type_of(*kernel_type(conversion.tensor.dtype), [&]<class T>(T) {
        std::vector<T> stored(values.size());
        std::transform(values.begin(), values.end(), stored.begin(), [](float v) { return detail::rounded(v, T{}); });
        constexpr auto size = static_cast<index_t>(sizeof(T));
        writer.write(first, rows.begin * cols * size, stored.data(), rows.size() * cols * size);
      });
    }
  });
}

}  // namespace tessera
