#include "catch.hpp"

#include <numeric>

#include <tessera/io/safetensors.hpp>
#include <tessera/io/safetensors_writer.hpp>
#include "io/temp_folder.hpp"

using namespace tessera;
using test::error_of;

namespace {

constexpr std::string_view two_tensors =
    R"({"__metadata__":{"format":"pt"},"b":{"dtype":"F32","shape":[2,3],"data_offsets":[4,28]},)"
    R"("a":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}})";

}  // namespace

TEST_CASE("a safetensors file gives its tensors by name, with their bytes") {
  const test::TempFolder folder;
  test::write_file(folder / "x.safetensors", test::safetensors_bytes(two_tensors, 28));
  const Safetensors file(folder / "x.safetensors");
  REQUIRE(file.tensors().size() == 2);
  CHECK(file.metadata().at("format") == "pt");
  const TensorInfo& b = file.at("b");
  CHECK(b.dtype == StoredType::f32);
  CHECK(b.shape == std::vector<index_t>{2, 3});
  CHECK(b.elements() == 6);
  const index_t data_begin = 8 + static_cast<index_t>(two_tensors.size());
  CHECK(b.offset == data_begin + 4);
  for (index_t i = 0; i < 24; ++i)
    CHECK(static_cast<unsigned char>(b.data[i]) == static_cast<unsigned char>((i + 4) * 37));
  CHECK(file.find("c") == nullptr);
  CHECK(error_of([&] { (void)file.at("c"); }).find("x.safetensors: has no tensor c") != std::string::npos);
}

TEST_CASE("scalars, empty tensors and a file without tensors are sound") {
  const test::TempFolder folder;
  const auto path = folder / "x.safetensors";
  test::write_file(path, test::safetensors_bytes(R"({"s":{"dtype":"F64","shape":[],"data_offsets":[0,8]},)"
                                                 R"("e":{"dtype":"F32","shape":[0,7],"data_offsets":[0,0]},)"
                                                 R"("f":{"dtype":"F32","shape":[3,0],"data_offsets":[8,8]}})",
                                                 8));
  const Safetensors file(path);
  CHECK(file.at("s").elements() == 1);
  CHECK(file.at("e").elements() == 0);
  CHECK(file.at("e").values<float>().empty());
  test::write_file(path, test::safetensors_bytes("{}  ", 0));
  CHECK(Safetensors(path).tensors().empty());
}

TEST_CASE("what the writer wrote, the reader reads, aligned, for every element type") {
  const test::TempFolder folder;
  const auto path = folder / "x.safetensors";
  std::vector<TensorSpec> specs;
  for (const auto& row : detail::stored_types) specs.push_back({std::string(row.name), row.type, {3, 5}});
  std::vector<std::string> bytes;
  {
    SafetensorsWriter writer(path, specs, {{"made by", "a test"}});
    for (std::size_t i = 0; i < specs.size(); ++i) {
      std::string content(static_cast<std::size_t>(specs[i].bytes()), '\0');
      for (std::size_t k = 0; k < content.size(); ++k) content[k] = static_cast<char>(i * 31 + k);
      bytes.push_back(content);
    }
    // Backwards, and in two pieces each: the order of writing does not matter.
    for (std::size_t i = specs.size(); i-- > 0;) {
      const index_t half = specs[i].bytes() / 2;
      writer.write(i, half, bytes[i].data() + half, specs[i].bytes() - half);
      writer.write(i, 0, bytes[i].data(), half);
    }
    CHECK_FALSE(std::filesystem::exists(path));
    writer.finish();
  }
  const Safetensors file(path);
  REQUIRE(file.tensors().size() == specs.size());
  CHECK(file.metadata().at("made by") == "a test");
  for (std::size_t i = 0; i < specs.size(); ++i) {
    const TensorInfo& tensor = file.at(specs[i].name);
    CHECK(tensor.dtype == specs[i].dtype);
    CHECK(tensor.shape == specs[i].shape);
    CHECK(tensor.aligned());
    CHECK(std::string_view(reinterpret_cast<const char*>(tensor.data), static_cast<std::size_t>(tensor.bytes)) ==
          bytes[i]);
  }
}

TEST_CASE("typed values go through a file unchanged, and another type is refused") {
  const test::TempFolder folder;
  const auto path = folder / "x.safetensors";
  std::vector<float> logits(7);
  std::iota(logits.begin(), logits.end(), -2.5F);
  const std::vector<std::int64_t> ids = {5, -1, INT64_MAX};
  SafetensorsWriter writer(path, {{"logits", StoredType::f32, {7}}, {"input_ids", StoredType::i64, {3}}});
  writer.write<float>(0, logits);
  writer.write<std::int64_t>(1, ids);
  CHECK(error_of([&] { writer.write<float>(1, logits); }).find("input_ids: expected 24 bytes of I64") !=
        std::string::npos);
  writer.finish();
  const Safetensors file(path);
  CHECK(file.at("logits").values<float>() == logits);
  CHECK(file.at("input_ids").values<std::int64_t>() == ids);
  CHECK(error_of([&] { (void)file.at("logits").values<std::int64_t>(); }) == "logits: expected I64, file has F32");
}

TEST_CASE("a writer that was not finished leaves nothing behind, and an earlier file as it was") {
  const test::TempFolder folder;
  const auto path = folder / "x.safetensors";
  { SafetensorsWriter writer(path, {{"a", StoredType::u8, {100}}}); }
  CHECK(std::filesystem::is_empty(folder.path()));
  test::write_file(path, "earlier");
  const std::string error = error_of([&] {
    SafetensorsWriter writer(path, {{"a", StoredType::u8, {100}}});
    writer.write(0, 0, "0123456789", 10);
    writer.finish();
  });
  CHECK(error == path.string() + ": expected 100 bytes of tensors, 10 were written");
  CHECK(test::read_file(path) == "earlier");
  CHECK(std::distance(std::filesystem::directory_iterator(folder.path()), {}) == 1);
}

TEST_CASE("a writer refuses what makes no sound file, by name") {
  const test::TempFolder folder;
  const auto path = folder / "x.safetensors";
  const TensorSpec a{"a", StoredType::f32, {1}};
  CHECK(error_of([&] { SafetensorsWriter writer(path, {a, a}); }) == path.string() + ": two tensors are called a");
  CHECK(error_of([&] {
          SafetensorsWriter writer(path, {{"big", StoredType::f32, {index_t{1} << 62}}});
        }) == "big: impossible shape [4611686018427387904]");
  CHECK(error_of([&] { SafetensorsWriter writer(folder / "no" / "x", {a}); }).find("No such file") !=
        std::string::npos);
  CHECK(error_of([&] { SafetensorsWriter writer(folder.path(), {a}); }).find("expected to write a regular file") !=
        std::string::npos);
  CHECK(error_of([&] { SafetensorsWriter writer("/dev/full", {a}); }).find("/dev/full: expected to write a regular") ==
        0);
  SafetensorsWriter writer(path, {a});
  CHECK(error_of([&] { writer.write(0, 2, "123", 3); }) == path.string() + ": a: bytes 2 to 5 lie outside its 4");
}
