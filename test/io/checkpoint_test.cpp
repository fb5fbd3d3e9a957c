#include "catch.hpp"

#include <sys/resource.h>

#include <csignal>

#include <tessera/io/checkpoint.hpp>
#include <tessera/io/fingerprint.hpp>
#include <tessera/io/safetensors_writer.hpp>
#include "io/temp_folder.hpp"

using namespace tessera;
using test::error_of;

namespace {

std::string open_error(const test::TempFolder& folder) {
  return error_of([&] { (void)Checkpoint::open(folder.path()); });
}

/// One u8 tensor of 4 bytes per name.
void write_shard(const std::filesystem::path& path, const std::vector<std::string>& names) {
  std::vector<TensorSpec> specs;
  for (const std::string& name : names) specs.push_back({name, StoredType::u8, {4}});
  SafetensorsWriter writer(path, specs);
  for (std::size_t i = 0; i < names.size(); ++i) writer.write(i, 0, "abcd", 4);
  writer.finish();
}

void write_index(const test::TempFolder& folder, std::string_view weight_map) {
  test::write_file(folder / "model.safetensors.index.json",
                   concat(R"({"metadata":{"total_size":8},"weight_map":)", weight_map, "}"));
}

}  // namespace

TEST_CASE("every golden checkpoint opens, sharded or not, and gives weights of the config's shapes") {
  const std::filesystem::path golden = TESSERA_GOLDEN;
  const auto llama3 = Checkpoint::open(golden / "llama3-tiny");
  CHECK(llama3.files().size() == 4);
  for (int layer = 0; layer < 3; ++layer) {
    const std::string prefix = concat("model.layers.", layer, ".");
    CHECK(llama3.weight(prefix + "self_attn.q_proj.weight", 128, 64).dtype == DType::bf16);
    CHECK(llama3.weight(prefix + "mlp.down_proj.weight", 64, 96).stride == 96);
    CHECK(llama3.vector(prefix + "input_layernorm.weight", 64).size() == 64);
  }
  const auto qwen3 = Checkpoint::open(golden / "qwen3-uneven");
  CHECK(qwen3.files().size() == 1);
  const WeightView gate = qwen3.weight("model.layers.2.mlp.gate_proj.weight", 100, 72);
  CHECK(gate.dtype == DType::f16);
  qwen3.populate(gate);
  qwen3.populate(gate.row_range({10, 20}).col_range({3, 5}));
  qwen3.advise_needed(gate);
  qwen3.check_unchanged();
  CHECK(qwen3.find("lm_head.weight") == nullptr);
}

TEST_CASE("a weight that is missing or of another shape or type is refused with expected, found and where") {
  const test::TempFolder folder;
  SafetensorsWriter writer(
      folder / "model.safetensors",
      {{"k_proj", StoredType::f32, {4, 2}}, {"norm", StoredType::bf16, {3}}, {"packed", StoredType::i32, {2, 2}}});
  const std::vector<float> k = {0, 1, 2, 3, 4, 5, 6, 7};
  const std::vector<bf16_t> norm = {to_bf16(1.0F), to_bf16(-2.5F), to_bf16(0.0F)};
  writer.write<float>(0, k);
  writer.write<bf16_t>(1, norm);
  writer.write<std::int32_t>(2, std::vector<std::int32_t>{1, 2, 3, 4});
  writer.finish();
  const Checkpoint checkpoint = Checkpoint::open(folder.path());
  const auto error = [&](auto&& f) { return error_of([&] { f(checkpoint); }); };

  const WeightView view = checkpoint.weight("k_proj", 4, 2);
  CHECK(view.row_as<float>(3)[1] == 7.0F);
  CHECK(checkpoint.vector("norm", 3) == std::vector<float>{1.0F, -2.5F, 0.0F});
  CHECK(error([](auto& c) { (void)c.weight("k_proj", 2, 4); }) ==
        "k_proj: expected [2, 4], file has [4, 2] (model.safetensors)");
  CHECK(error([](auto& c) { (void)c.weight("norm", 3, 1); }) ==
        "norm: expected [3, 1], file has [3] (model.safetensors)");
  CHECK(error([](auto& c) { (void)c.vector("norm", 4); }) == "norm: expected [4], file has [3] (model.safetensors)");
  CHECK(error([](auto& c) { (void)c.vector("k_proj", 8); }) ==
        "k_proj: expected [8], file has [4, 2] (model.safetensors)");
  CHECK(error([](auto& c) { (void)c.weight("packed", 2, 2); }) ==
        "packed: expected BF16, F16 or F32, file has I32 (model.safetensors)");
  CHECK(error([](auto& c) { (void)c.weight("q_proj", 2, 2); }) ==
        concat("q_proj: expected [2, 2], no file of the checkpoint has it (", (folder / "model.safetensors").string(),
               ")"));
  const float elsewhere = 0;
  CHECK(error([&](auto& c) {
          c.populate(WeightView{&elsewhere, DType::f32, 1, 1, 1});
        }).find("does not lie in this checkpoint") != std::string::npos);
}

TEST_CASE("vectors and matrices are read at any alignment, and kernels get them aligned") {
  index_t copied = 0;
  for (const char* const end_of_header : {"", " "}) {  // the data begin at an even place, or at an odd one
    const test::TempFolder folder;
    std::string bytes = test::safetensors_bytes(concat(R"({"odd":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                                                       R"("m":{"dtype":"BF16","shape":[1,2],"data_offsets":[1,5]},)"
                                                       R"("v":{"dtype":"BF16","shape":[2],"data_offsets":[5,9]}})",
                                                       end_of_header),
                                                9);
    for (const std::size_t end : {4, 8})
      bytes.replace(bytes.size() - end, 4, std::string("\x80\x3F\x00\x40", 4));  // 1, 2
    test::write_file(folder / "model.safetensors", bytes);
    const Checkpoint checkpoint = Checkpoint::open(folder.path());
    CHECK(checkpoint.vector("v", 2) == std::vector<float>{1.0F, 2.0F});
    const WeightView m = checkpoint.weight("m", 1, 2);
    CHECK(reinterpret_cast<std::uintptr_t>(m.data) % 2 == 0);
    CHECK(to_float(m.row_as<bf16_t>(0)[0]) == 1.0F);
    CHECK(to_float(m.row_as<bf16_t>(0)[1]) == 2.0F);
    copied += m.data != checkpoint.find("m")->data;
    // A copy is in memory already: nothing is to be read for it.
    checkpoint.populate(m);
    checkpoint.advise_needed(m);
  }
  CHECK(copied == 1);
}

TEST_CASE("a checkpoint that shrinks while open is an Error where its parts are asked for") {
  const test::TempFolder folder;
  {
    SafetensorsWriter writer(folder / "model.safetensors",
                             {{"w", StoredType::bf16, {256, 256}}, {"v", StoredType::bf16, {64}}});
    writer.write<bf16_t>(0, std::vector<bf16_t>(256 * 256));
    writer.write<bf16_t>(1, std::vector<bf16_t>(64));
    writer.finish();
  }
  const Checkpoint checkpoint = Checkpoint::open(folder.path());
  const WeightView w = checkpoint.weight("w", 256, 256);
  std::filesystem::resize_file(folder / "model.safetensors", 4096);
  CHECK(error_of([&] { checkpoint.populate(w); }).find("it was written to while in use") != std::string::npos);
  CHECK(error_of([&] { (void)checkpoint.vector("v", 64); }).find("while it was read") != std::string::npos);
  CHECK(error_of([&] { checkpoint.check_unchanged(); }).find("found 4096") != std::string::npos);
}

TEST_CASE("a folder without a checkpoint is refused with what was expected in it") {
  const test::TempFolder folder;
  const std::string path = folder.path().string();
  CHECK(open_error(folder) == path + ": expected model.safetensors or model.safetensors.index.json, found neither");
  test::write_file(folder / "pytorch_model.bin", "");
  CHECK(open_error(folder).find("(pytorch_model.bin: save it as safetensors first)") != std::string::npos);
  CHECK(error_of([&] { (void)Checkpoint::open(folder / "missing"); }) ==
        path + "/missing: expected the folder of a checkpoint, found nothing");
  CHECK(error_of([&] {
          (void)Checkpoint::open(folder / "pytorch_model.bin");
        }).find(": expected the folder of a checkpoint, found a file") != std::string::npos);
  std::filesystem::create_symlink("gone", folder / "model.safetensors");
  CHECK(open_error(folder) == path + "/model.safetensors: No such file or directory");
}

TEST_CASE("an index leads to its shards, through symbolic links as well") {
  const test::TempFolder folder;
  const test::TempFolder blobs;
  write_shard(folder / "one.safetensors", {"a", "b"});
  write_shard(blobs / "c0ffee", {"c", "not in the index"});
  std::filesystem::create_symlink(blobs / "c0ffee", folder / "two.safetensors");
  write_index(folder, R"({"c":"two.safetensors","a":"one.safetensors","b":"one.safetensors"})");
  const Checkpoint checkpoint = Checkpoint::open(folder.path());
  CHECK(checkpoint.files().size() == 2);
  CHECK(checkpoint.find("c") != nullptr);
  CHECK(checkpoint.find("not in the index") == nullptr);
}

TEST_CASE("an index that lies is refused with the tensor or the file it lies about") {
  const test::TempFolder folder;
  const std::string index = (folder / "model.safetensors.index.json").string();
  write_shard(folder / "one.safetensors", {"a"});
  const auto error = [&](std::string_view weight_map) {
    write_index(folder, weight_map);
    const std::string text = open_error(folder);
    return text.find(index + ": weight_map: ") == 0 ? text.substr(index.size() + 14) : text;
  };
  CHECK(error(R"({"b":"one.safetensors"})") == "b is said to be in one.safetensors, which has no such tensor");
  CHECK(error(R"({"a":"two.safetensors"})") == (folder / "two.safetensors").string() + ": No such file or directory");
  CHECK(error("{}") == "expected tensor names and their files, found an object");
  CHECK(error("[]") == "expected tensor names and their files, found an array of 0");
  CHECK(error("null") == index + ": weight_map is missing");
  CHECK(error(R"({"a":1})") == "a: expected a file name, found 1");
  CHECK(error(R"({"a":["one.safetensors"]})") == "a: expected a file name, found an array of 1");
  for (const std::string_view name : {"", ".", "..", "/etc/passwd", "../one.safetensors", "x/../one.safetensors",
                                      "./one.safetensors", "..\\\\one.safetensors", "one.safetensors\\u0000.json"}) {
    INFO(name);
    CHECK(error(concat(R"({"a":")", name, "\"}")).find("a: expected a plain file name, found \"") == 0);
  }
  CHECK(error(R"({"a":"one.safetensors","a":"one.safetensors"})") == index + ": \"a\" appears twice");
  test::write_file(index, "{\"weight_map\":");
  CHECK(open_error(folder).find(index + ": not valid JSON at byte") == 0);
  test::write_file(index, "[]");
  CHECK(open_error(folder) == index + ": expected a JSON object, found an array of 0");
  write_index(folder, R"({"a":"one.safetensors"})");
  std::filesystem::resize_file(folder / "one.safetensors", 20);
  CHECK(open_error(folder).find((folder / "one.safetensors").string() + ": expected a header of at most 12") == 0);
}

TEST_CASE("an index cut at any byte is refused") {
  const test::TempFolder folder;
  write_shard(folder / "one.safetensors", {"a"});
  write_index(folder, R"({"a":"one.safetensors"})");
  REQUIRE(open_error(folder).empty());
  const auto index = folder / "model.safetensors.index.json";
  const std::string whole = test::read_file(index);
  for (std::size_t length = 0; length < whole.size(); ++length) {
    test::write_file(index, std::string_view(whole).substr(0, length));
    CHECK(open_error(folder).find(index.string() + ": not valid JSON") == 0);
  }
}

TEST_CASE("a disk that is full is an Error with the file's name, and leaves no part of it") {
  const test::TempFolder folder;
  const auto path = folder / "x.safetensors";
  // A limit on the size of files stands in for a full disk: the same calls fail.
  rlimit before{};
  ::getrlimit(RLIMIT_FSIZE, &before);
  const auto earlier = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit small{4096, before.rlim_max};
  ::setrlimit(RLIMIT_FSIZE, &small);
  const std::string error = error_of([&] { SafetensorsWriter writer(path, {{"a", StoredType::u8, {10'000}}}); });
  const std::string late = error_of([&] {
    AtomicFile file(path);
    file.write(4000, std::string(200, 'x').data(), 200);
    file.commit();
  });
  ::setrlimit(RLIMIT_FSIZE, &before);
  std::signal(SIGXFSZ, earlier);
  CHECK(error == path.string() + ": cannot write: File too large");
  CHECK(late == path.string() + ": cannot write: File too large");
  CHECK(std::filesystem::is_empty(folder.path()));
}

TEST_CASE("a fingerprint is the checkpoint's own: of its files, its names and its weights") {
  const auto print_of = [](const std::string& name, const std::string& weights) {
    const test::TempFolder folder;
    SafetensorsWriter writer(folder / "model.safetensors", {{name, StoredType::u8, {4}}});
    writer.write(0, 0, weights.data(), 4);
    writer.finish();
    return fingerprint(Checkpoint::open(folder.path()));
  };
  const Fingerprint print = print_of("w", "abcd"), again = print_of("w", "abcd");
  CHECK(print.files == 1);
  CHECK(print.bytes > 12);
  CHECK(again.bytes == print.bytes);
  CHECK(again.headers == print.headers);
  CHECK(again.sample == print.sample);
  CHECK(print_of("v", "abcd").headers != print.headers);
  CHECK(print_of("v", "abcd").sample == print.sample);
  CHECK(print_of("w", "abce").headers == print.headers);
  CHECK(print_of("w", "abce").sample != print.sample);
  CHECK(fingerprint(Checkpoint::open(std::filesystem::path(TESSERA_GOLDEN) / "llama3-tiny")).files == 4);
}
