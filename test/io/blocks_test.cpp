// The formats of blocks against an account of them in Python (test/golden/make_blocks.py).
#include "catch.hpp"

#include <tessera/core/weight_format.hpp>
#include <tessera/io/safetensors.hpp>

using namespace tessera;

namespace {

template <class T>
std::vector<T> bytes_as(const TensorInfo& tensor) {
  std::vector<T> values(static_cast<std::size_t>(tensor.bytes) / sizeof(T));
  std::memcpy(values.data(), tensor.data, static_cast<std::size_t>(tensor.bytes));
  return values;
}

}  // namespace

TEMPLATE_TEST_CASE("blocks are encoded and decoded, bit by bit, as the golden file has them", "", Int8Blocks,
                   Int4Blocks) {
  const Safetensors file(std::filesystem::path(TESSERA_GOLDEN) / "blocks.safetensors");
  const std::string name(TestType::name);
  const index_t rows = file.at("w").shape[0], cols = file.at("w").shape[1];
  const auto weights = file.at("w").values<float>();
  const auto integers = bytes_as<std::uint8_t>(file.at(name));
  const auto scales = bytes_as<std::uint16_t>(file.at(name + "_scale"));
  const auto expected = file.at(name + "_decoded").values<float>();

  std::vector<std::uint8_t> q(integers.size());
  std::vector<f16_t> s(scales.size());
  for (index_t r = 0; r < rows; ++r) encode_row<TestType>(weights.data() + r * cols, cols, r, q.data(), s.data());
  CHECK(q == integers);
  for (std::size_t i = 0; i < s.size(); ++i) CHECK(s[i].bits == scales[i]);

  const WeightView view{
      integers.data(), TestType::dtype, rows, cols, cols, reinterpret_cast<const f16_t*>(scales.data())};
  std::vector<float> decoded(weights.size());
  for (index_t r = 0; r < rows; ++r) decode_row(view, r, decoded.data() + r * cols);
  CHECK(decoded == expected);
}
