// A GGUF file: its header, its tokenizer, its configuration, and rows of its tensors.
#include "target.hpp"

#include <tessera/io/checkpoint_tensors.hpp>
#include <tessera/runtime/gguf_source.hpp>
#include <tessera/runtime/gguf_tokenizer.hpp>

using namespace tessera;

namespace {

void read_rows(const Gguf& file) {
  const ModelConfig config = gguf_config(file);
  if (config.layers > 4 || config.hidden > 4096) return;  // the header is what lies; rows of thousands take long
  const GgufSource source(file, config);
  for (const TensorSpec& tensor : checkpoint_tensors(config, StoredType::f32)) {
    (void)source.stored_as(tensor);
    const auto [rows, cols] = rows_and_cols(tensor);
    if (cols > 4096) continue;
    std::vector<float> row(static_cast<std::size_t>(cols));
    source.read(tensor, {0, 1}, row.data());
    source.read(tensor, {rows - 1, rows}, row.data());
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const fuzz::MemoryFile input;
  input.write(data, size);
  fuzz::parse([] {
    const Gguf file(input.path());
    for (const auto& [name, tensor] : file.tensors())
      fuzz::expect(0 <= tensor.offset && tensor.cols() > 0, "a tensor has a place and a size");
    fuzz::parse([&] { (void)gguf_tokenizer_json(file); });
    fuzz::parse([&] { read_rows(file); });
  });
  return 0;
}
