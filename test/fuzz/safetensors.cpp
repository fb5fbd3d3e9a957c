// A safetensors file: sound tensors lie within it, and their bytes can be read. If the first byte is an F, the rest is
// the file. Otherwise the rest is the header of a file that has as many bytes of data as the first byte says.
#include "target.hpp"

#include <tessera/io/safetensors.hpp>

using namespace tessera;

namespace {

void read_tensors(std::string_view bytes) {
  static fuzz::MemoryFile input;
  input.write(bytes);
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
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view rest(reinterpret_cast<const char*>(data) + 1, size - 1);
  fuzz::parse([&] {
    if (data[0] == 'F') return read_tensors(rest);
    (void)parse_safetensors_header(rest, data[0], "header");  // most inputs are refused here, and need no file for that
    std::string file(8, '\0');
    for (std::size_t i = 0; i < file.size(); ++i) file[i] = static_cast<char>(rest.size() >> 8 * i);
    read_tensors(file.append(rest).append(data[0], '\x3F'));
  });
  return 0;
}
