// Safetensors files that lie, each held to one law: opening ends in an Error that names the file and the fault.
#include "catch.hpp"

#include <tessera/io/safetensors.hpp>
#include "io/temp_folder.hpp"

using namespace tessera;
using test::error_of;

namespace {

std::string open_error(const std::filesystem::path& path) {
  return error_of([&] { const Safetensors file(path); });
}

/// The error of a file of this header and so many bytes of data, without its path.
std::string header_error(std::string_view header, std::size_t data_bytes) {
  const test::TempFolder folder;
  const auto path = folder / "x.safetensors";
  test::write_file(path, test::safetensors_bytes(header, data_bytes));
  const std::string error = open_error(path);
  REQUIRE(error.find(path.string() + ": ") == 0);
  return error.substr(path.string().size() + 2);
}

}  // namespace

TEST_CASE("a safetensors file cut at any byte is refused") {
  const test::TempFolder folder;
  const auto path = folder / "x.safetensors";
  const std::string whole = test::safetensors_bytes(
      R"({"w":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},"v":{"dtype":"U8","shape":[3],"data_offsets":[16,19]}})",
      19);
  test::write_file(path, whole);
  REQUIRE(open_error(path).empty());
  for (std::size_t length = 0; length < whole.size(); ++length) {
    test::write_file(path, std::string_view(whole).substr(0, length));
    const std::string error = open_error(path);
    INFO("cut after " << length << " of " << whole.size() << " bytes");
    CHECK(error.find(path.string()) == 0);
  }
  test::write_file(path, whole + "x");
  CHECK(open_error(path) == path.string() + ": expected 19 bytes of tensors, as the header says; found 20");
}

TEST_CASE("no single wrong byte of a header gives anything but a sound file or an Error") {
  const test::TempFolder folder;
  const auto path = folder / "x.safetensors";
  const std::string whole = test::safetensors_bytes(R"({"w":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]}})", 16);
  for (std::size_t at = 0; at < whole.size() - 16; ++at)
    for (const char wrong : {'\0', '0', '9', '"', '{', ']', '-', '\xFF'}) {
      std::string changed = whole;
      changed[at] = wrong;
      test::write_file(path, changed);
      try {
        const Safetensors file(path);
        for (const TensorInfo& tensor : file.tensors()) {
          REQUIRE(tensor.offset + tensor.bytes <= file.file().size());
          REQUIRE(tensor.bytes == tensor.elements() * bytes_of(tensor.dtype));
        }
      } catch (const Error& error) {
        CHECK(std::string(error.what()).find(path.string()) == 0);
      }
    }
}

TEST_CASE("a header length beyond the file or beyond reason is refused before anything is taken for it") {
  const test::TempFolder folder;
  const auto path = folder / "x.safetensors";
  for (const std::uint64_t length : {std::uint64_t{9}, std::uint64_t{1} << 32, std::uint64_t{INT64_MAX},
                                     std::uint64_t{1} << 63, UINT64_MAX, UINT64_MAX - 7}) {
    std::string bytes = test::safetensors_bytes("{}", 6);
    std::memcpy(bytes.data(), &length, sizeof length);
    test::write_file(path, bytes);
    CHECK(open_error(path) ==
          concat(path.string(), ": expected a header of at most 8 bytes, the first 8 bytes say ", length));
  }
  // A sparse file of 1 TiB justifies no header of 1 TiB either.
  test::write_file(path, "");
  std::filesystem::resize_file(path, std::uintmax_t{1} << 40);
  const std::uint64_t huge = std::uint64_t{1} << 39;
  std::fstream(path, std::ios::binary | std::ios::in | std::ios::out)
      .write(reinterpret_cast<const char*>(&huge), sizeof huge);
  CHECK(open_error(path).find("expected a header of at most 33554432 bytes") != std::string::npos);
}

TEST_CASE("a header that is not a sound JSON object is refused") {
  CHECK(header_error("", 0) == "expected a header that begins with {, found nothing");
  CHECK(header_error("[]", 0) == "expected a header that begins with {, found \"[\"");
  CHECK(header_error(" {}", 0) == "expected a header that begins with {, found \" \"");
  CHECK(header_error("{", 0).find("header: not valid JSON at byte") == 0);
  CHECK(header_error("{}x", 0).find("header: not valid JSON at byte 3 of 3") == 0);
  CHECK(header_error(std::string_view("{}\0", 3), 0).find("header: not valid JSON") == 0);
  CHECK(header_error("{\"a\xFF\":{}}", 0).find("header: not valid JSON") == 0);
  CHECK(header_error(R"({"a":1e999})", 0) == "header: not valid JSON: a number is too large");
  CHECK(header_error("{\"a\":" + std::string(100'000, '['), 0) ==
        "header: expected at most 64 levels of nesting, found more");
  std::string objects;
  for (int i = 0; i < 100'000; ++i) objects += R"({"a":)";
  CHECK(header_error(objects, 0) == "header: expected at most 64 levels of nesting, found more");
}

TEST_CASE("a name that occurs twice is refused, for tensors and for their fields") {
  CHECK(header_error(R"({"w":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                     R"("w":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})",
                     1) == "header: \"w\" appears twice");
  CHECK(header_error(R"({"w":{"dtype":"U8","shape":[1],"shape":[2],"data_offsets":[0,1]}})", 1) ==
        "header: \"shape\" appears twice");
}

TEST_CASE("a field of a tensor that is missing or of the wrong type is named") {
  const auto error = [](std::string_view entry) { return header_error(concat(R"({"w":)", entry, "}"), 4); };
  CHECK(error("1") == "w: expected a JSON object, found 1");
  CHECK(error("null") == "w: expected a JSON object, found null");
  CHECK(error(R"({"shape":[1],"data_offsets":[0,4]})") == "w: dtype is missing");
  CHECK(error(R"({"dtype":"F32","data_offsets":[0,4]})") == "w: shape is missing");
  CHECK(error(R"({"dtype":"F32","shape":[1]})") == "w: data_offsets is missing");
  CHECK(error(R"({"dtype":7,"shape":[1],"data_offsets":[0,4]})") == "w: dtype: expected a string, found 7");
  CHECK(error(R"({"dtype":"F4","shape":[8],"data_offsets":[0,4]})") ==
        "w: dtype: expected F32, BF16, F16 or another type of whole bytes, found \"F4\"");
  CHECK(error(R"({"dtype":"f32","shape":[1],"data_offsets":[0,4]})").find("found \"f32\"") != std::string::npos);
  CHECK(error(R"({"dtype":"F32","shape":"1","data_offsets":[0,4]})") == "w: shape: expected an array, found \"1\"");
  CHECK(error(R"({"dtype":"F32","shape":{},"data_offsets":[0,4]})") == "w: shape: expected an array, found an object");
  for (const std::string_view extent :
       {"-1", "1.0", "\"1\"", "null", "true", "[1]", "9223372036854775808", "18446744073709551616", "1e3"}) {
    INFO(extent);
    CHECK(error(concat(R"({"dtype":"F32","shape":[)", extent, R"(],"data_offsets":[0,4]})"))
              .find("w: shape: expected a whole number from 0 to 9223372036854775807, found ") == 0);
  }
  for (const std::string_view offsets : {"[]", "[0]", "[0,4,8]", "4", "{}", "\"0,4\""}) {
    INFO(offsets);
    CHECK(error(concat(R"({"dtype":"F32","shape":[1],"data_offsets":)", offsets, "}"))
              .find("w: data_offsets: expected [begin, end], found ") == 0);
  }
}

TEST_CASE("offsets outside the file, backwards or of another size than the shape are refused") {
  const auto error = [](std::string_view shape, std::string_view offsets) {
    return header_error(concat(R"({"w":{"dtype":"F32","shape":)", shape, R"(,"data_offsets":)", offsets, "}}"), 8);
  };
  CHECK(
      error("[3]", "[0,12]") ==
      "w: data_offsets: expected at least 12 bytes of data, the file has 8: it was cut short, or is still on its way; "
      "get it again");
  CHECK(error("[1]", "[-4,0]") == "w: data_offsets: expected a whole number from 0 to 9223372036854775807, found -4");
  CHECK(error("[1]", "[8,4]") == "w: data_offsets: expected a whole number from 8 to 9223372036854775807, found 4");
  CHECK(error("[1]", "[4,18446744073709551612]")
            .find("w: data_offsets: expected a whole number from 4 to 9223372036854775807") == 0);
  CHECK(error("[2]", "[0,4]") == "w: expected 8 bytes for F32 [2], data_offsets give 4");
  CHECK(error("[1]", "[0,8]") == "w: expected 4 bytes for F32 [1], data_offsets give 8");
  CHECK(error("[0]", "[0,8]") == "w: expected 0 bytes for F32 [0], data_offsets give 8");
}

TEST_CASE("a shape whose size overflows is refused, also where a zero or a wrap would make it fit") {
  const auto error = [](std::string_view shape) {
    return header_error(concat(R"({"w":{"dtype":"F32","shape":)", shape, R"(,"data_offsets":[0,8]}})"), 8);
  };
  for (const std::string_view shape :
       {"[4611686018427387906]", "[4294967296,4294967296]", "[9223372036854775807,9223372036854775807,0]",
        "[2,9223372036854775807]", "[3037000500,3037000500,2]", "[0,9223372036854775807,9223372036854775807]"}) {
    INFO(shape);
    // 0 x anything is 0: only the last shape overflows nowhere, and it is refused for its size.
    CHECK(error(shape).find(shape.substr(0, 3) == "[0," ? "w: expected 0 bytes" : "w: shape [") == 0);
  }
}

TEST_CASE("tensors that overlap, leave a gap or leave bytes over are refused") {
  const auto error = [](std::string_view a, std::string_view b) {
    return header_error(concat(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":)", a,
                               R"(},"b":{"dtype":"U8","shape":[4],"data_offsets":)", b, "}}"),
                        10);
  };
  CHECK(error("[0,4]", "[2,6]").find("b: expected to begin at byte 4 of the data") == 0);
  CHECK(error("[0,4]", "[0,4]").find("b: expected to begin at byte 4 of the data") == 0);
  CHECK(error("[0,4]", "[6,10]").find("b: expected to begin at byte 4 of the data") == 0);
  CHECK(error("[6,10]", "[2,6]").find("b: expected to begin at byte 0 of the data") == 0);
  CHECK(error("[0,4]", "[4,8]") == "expected 8 bytes of tensors, as the header says; found 10");
  CHECK(header_error("{}", 1) == "expected 0 bytes of tensors, as the header says; found 1");
}

TEST_CASE("metadata that is not strings by name is refused") {
  CHECK(header_error(R"({"__metadata__":[]})", 0) == "__metadata__: expected a JSON object, found an array of 0");
  CHECK(header_error(R"({"__metadata__":{"format":1}})", 0) == "__metadata__: format: expected a string, found 1");
  CHECK(header_error(R"({"__metadata__":{"a":{}}})", 0) == "__metadata__: a: expected a string, found an object");
}

TEST_CASE("a hostile name reaches the message cut and escaped") {
  const std::string error = header_error("{\"\\u001b[2J\\n" + std::string(10'000, 'x') + "\":1}", 0);
  CHECK(error.find("\\x1b[2J\\x0axxx") == 0);
  CHECK(error.size() < 300);
}
