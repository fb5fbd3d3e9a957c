// What a safetensors file holds, and a number from each tensor; nothing of it is copied or loaded but what is looked
// at.
//   g++ -std=c++20 -O2 -Iinclude examples/pieces/safetensors.cpp -o safetensors
//   ./safetensors examples/demo-model/model.safetensors
#include <cstdio>

#include <tessera/core/view.hpp>
#include <tessera/io/safetensors.hpp>
using namespace tessera;

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: safetensors FILE\n");
    return 2;
  }
  try {
    const Safetensors file(argv[1]);  // every number of the header is checked; the tensors stay in the mapped file
    index_t bytes = 0;
    for (const TensorInfo& tensor : file.tensors()) {
      bytes += tensor.bytes;
      std::printf("%-48s %-5s %-12s", tensor.name.c_str(), std::string(name_of(tensor.dtype)).c_str(),
                  shape_text(tensor.shape).c_str());
      const std::optional<DType> type = kernel_type(tensor.dtype);
      if (type && tensor.elements() > 0 && tensor.aligned())
        with_type_of(*type, [&](auto element) {  // its C++ type: float, bf16_t or f16_t
          const auto* first = reinterpret_cast<const decltype(element)*>(tensor.data);
          std::printf(" begins with %g", static_cast<double>(to_float(*first)));
        });
      std::puts("");
    }
    std::printf("%zu tensors, %lld bytes\n", file.tensors().size(), static_cast<long long>(bytes));
  } catch (const Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  return 0;
}
