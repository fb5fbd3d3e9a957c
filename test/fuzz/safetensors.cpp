// A safetensors file: sound tensors lie within it, and their bytes can be read.
#include "target.hpp"

#include <tessera/io/safetensors.hpp>

using namespace tessera;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const fuzz::MemoryFile input;
  input.write(data, size);
  fuzz::parse([] {
    const Safetensors file(input.path());
    index_t sum = 0;
    for (const TensorInfo& tensor : file.tensors()) {
      fuzz::expect(0 <= tensor.offset && 0 <= tensor.bytes && tensor.bytes <= file.file().size() - tensor.offset,
                   "a tensor lies in its file");
      fuzz::expect(tensor.bytes == tensor.elements() * bytes_of(tensor.dtype), "a tensor has whole elements");
      fuzz::expect(file.find(tensor.name) == &tensor, "a tensor is found by its name");
      for (index_t i = 0; i < tensor.bytes; ++i) sum += static_cast<index_t>(tensor.data[i]);
      if (tensor.dtype == StoredType::f32) sum += static_cast<index_t>(tensor.values<float>().size());
    }
    fuzz::expect(sum >= 0, "bytes are not negative");
  });
  return 0;
}
