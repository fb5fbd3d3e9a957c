#include "catch.hpp"

#include <algorithm>
#include <random>

#include <tessera/comm/loopback.hpp>
#include <tessera/io/hf_config.hpp>
#include <tessera/runtime/gguf_source.hpp>
#include <tessera/runtime/gguf_tokenizer.hpp>
#include <tessera/runtime/load_weights.hpp>
#include <tessera/runtime/quantise.hpp>
#include <tessera/runtime/rope_factors.hpp>
#include <tessera/text/tokenizer.hpp>

#include "../../tools/tessera/commands.hpp"
#include "io/temp_folder.hpp"

using namespace tessera;
using test::error_of;

namespace {

namespace fs = std::filesystem;

const fs::path golden_folder = TESSERA_GOLDEN;

template <class T>
void append_bytes(std::string& to, T value) {
  to.append(reinterpret_cast<const char*>(&value), sizeof value);
}

void append_text(std::string& to, std::string_view text) {
  append_bytes(to, std::uint64_t{text.size()});
  to += text;
}

/// tiny.gguf with an integer more in its metadata, or a vector more among its tensors; an empty name adds none.
std::string enlarged(std::string_view key, std::uint32_t value, std::string_view tensor = {},
                     std::uint64_t elements = 0) {
  std::string bytes = test::read_file(golden_folder / "tiny.gguf");
  std::string values, tensors;
  if (!key.empty()) append_text(values, key), append_bytes(values, std::uint32_t{4}), append_bytes(values, value);
  if (!tensor.empty()) {
    append_text(tensors, tensor);
    append_bytes(tensors, std::uint32_t{1}), append_bytes(tensors, elements);
    append_bytes(tensors, std::uint32_t{0}), append_bytes(tensors, std::uint64_t{0});  // f32, where the data begin
  }
  // A text of such a length that the data still begin at a multiple of the alignment.
  append_text(values, "filler"), append_bytes(values, std::uint32_t{8});
  append_text(values, std::string(31 - (values.size() + 8 + tensors.size() + 31) % 32, ' '));
  bytes[8] = static_cast<char>(bytes[8] + (tensor.empty() ? 0 : 1));
  bytes[16] = static_cast<char>(bytes[16] + (key.empty() ? 1 : 2));
  return bytes.insert(bytes.find("token_embd.weight") - 8, values + tensors);
}

}  // namespace

TEST_CASE("tensors of a GGUF file of every type are what llama.cpp's package decodes them to") {
  const Gguf file(golden_folder / "tiny.gguf");
  const ModelConfig model = gguf_config(file);
  CHECK(model.model_type == "llama");
  CHECK(std::tuple(model.layers, model.hidden, model.heads, model.kv_heads, model.head_dim, model.intermediate,
                   model.vocab, model.max_positions) == std::tuple(1, 256, 2, 1, 16, 32, 8, 64));
  CHECK(model.rope.theta == 5e5);
  const RopeConfig published{5e5, 8, 1, 4, 8192};  // one of the eight pairs is between the ranges
  for (index_t i = 0; i < 8; ++i)
    CHECK(rope_frequency(model.rope, i, 16) == Approx(rope_frequency(published, i, 16)).epsilon(1e-6));
  CHECK(model.rms_norm_eps == Approx(1e-5));
  CHECK(model.tied_embeddings);
  CHECK(model.eos_token_ids == std::vector<token_t>{6});

  const Safetensors expected(golden_folder / "tiny_gguf.safetensors");
  const GgufSource source(file, model);
  for (const TensorSpec& tensor : checkpoint_tensors(model, StoredType::f32)) {
    INFO(tensor.name);
    CHECK_NOTHROW(source.stored_as(tensor));
    const auto [rows, cols] = rows_and_cols(tensor);
    const std::vector<float> floats = expected.at(tensor.name).values<float>();
    std::vector<float> found(floats.size());
    source.read(tensor, {0, rows / 2}, found.data());  // in two pieces
    source.read(tensor, {rows / 2, rows}, found.data() + rows / 2 * cols);
    double worst = 0;
    for (std::size_t i = 0; i < found.size(); ++i)
      worst = std::max(worst, std::abs(double{found[i]} - floats[i]) / (std::abs(double{floats[i]}) + 1e-6));
    CHECK(worst <= 1e-6);  // products of three are rounded in another order
  }
}

TEST_CASE("Llama 3's rescaling is recovered from the factors of its frequencies") {
  const auto factors_of = [](const RopeConfig& rope, index_t head_dim) {
    std::vector<float> factors;
    for (index_t i = 0; i < head_dim / 2; ++i)
      factors.push_back(
          static_cast<float>(rope_frequency({.theta = rope.theta}, i, head_dim) / rope_frequency(rope, i, head_dim)));
    return factors;
  };
  // Llama 3.1 and 3.2: the very numbers of their config.json.
  for (const auto& [rope, head_dim] :
       {std::pair(RopeConfig{5e5, 8, 1, 4, 8192}, index_t{128}), {{5e5, 32, 1, 4, 8192}, 64}}) {
    const RopeConfig found = rope_of_factors(rope.theta, factors_of(rope, head_dim), "here");
    CHECK(std::tuple(found.factor, found.low_freq_factor, found.high_freq_factor, found.original_max_positions) ==
          std::tuple(rope.factor, rope.low_freq_factor, rope.high_freq_factor, rope.original_max_positions));
  }
  // Any others: the same frequencies.
  std::mt19937 random(3);
  const auto between = [&](double a, double b) { return std::uniform_real_distribution<double>(a, b)(random); };
  for (int n = 0; n < 300; ++n) {
    const index_t head_dim = 2 * static_cast<index_t>(between(1, 65));
    const double low = between(0.5, 3);
    const RopeConfig rope{between(100, 1e6), between(1.5, 40), low, low + between(0.01, 8),
                          static_cast<index_t>(between(8, 1e5))};
    const RopeConfig found = rope_of_factors(rope.theta, factors_of(rope, head_dim), "here");
    for (index_t i = 0; i < head_dim / 2; ++i)
      CHECK(rope_frequency(found, i, head_dim) == Approx(rope_frequency(rope, i, head_dim)).epsilon(1e-4));
  }
  CHECK(rope_of_factors(1e4, std::vector<float>{1, 1, 1}, "here").factor == 1);
  const auto refused = [](std::vector<float> factors) {
    return error_of([&] { static_cast<void>(rope_of_factors(1e4, factors, "here")); });
  };
  CHECK(refused({1, 3, 1}) == "here: expected frequencies divided as by Llama 3, found 3 for pair 1 of 3");
  CHECK_FALSE(refused({8, 1, 8}).empty());
  CHECK_FALSE(refused({1, 2, 3, 7.9F, 8}).empty());
  CHECK_FALSE(refused({1, NAN, 8}).empty());
  CHECK_FALSE(refused({1, 2, INFINITY}).empty());
  CHECK_FALSE(refused({1, 1, 0.5F}).empty());
}

TEST_CASE("a GGUF file becomes a folder that loads, with its tokenizer") {
  const test::TempFolder folder;
  const std::string out = (folder / "out").string();
  CLI::App app("tessera");
  tools::Action action;
  tools::add_quantize(app, action);
  std::vector<std::string> arguments{out,       "--out", "int8", "--format", (golden_folder / "tiny.gguf").string(),
                                     "quantize"};
  app.parse(arguments);
  REQUIRE(action(Loopback{}) == 0);
  const ModelConfig model = read_config(out);
  CHECK(model.head_dim == 16);
  CHECK(model.eos_token_ids == std::vector<token_t>{6});
  const ModelWeights weights = load_weights(Checkpoint::open(out), model);
  CHECK(weights.lm_head.dtype == DType::int8_blocks);

  // Q8_0 is int8 in another place: nothing is lost.
  const Safetensors expected(golden_folder / "tiny_gguf.safetensors");
  const WeightView& down = weights.layers[0].down_proj;
  const std::vector<float> floats = expected.at("model.layers.0.mlp.down_proj.weight").values<float>();
  std::vector<float> row(static_cast<std::size_t>(down.cols));
  double worst = 0;
  for (index_t r = 0; r < down.rows; ++r) {
    decode_row(down, r, row.data());
    for (std::size_t c = 0; c < row.size(); ++c)
      worst = std::max(worst, std::abs(double{row[c]} - floats[static_cast<std::size_t>(r) * row.size() + c]));
  }
  CHECK(worst <= 0.006);  // half a step and a rounded scale: random bits need not use all of their range

  const Tokenizer tokenizer = Tokenizer::load(out);
  CHECK(tokenizer.encode("abc ab<|end|>") == std::vector<token_t>{4, 5, 3, 6});
  CHECK(tokenizer.decode(tokenizer.encode("abc ab"), true) == "abc ab");
}

TEST_CASE("what a GGUF file asks for beyond what is computed is refused by name") {
  const test::TempFolder folder;
  const fs::path path = folder / "x.gguf";
  const auto refusal = [&](const std::string& bytes) {
    test::write_file(path, bytes);
    const std::string error = error_of([&] { static_cast<void>(gguf_config(Gguf(path))); });
    return error.substr(std::min(error.size(), error.find(": ") + 2));
  };
  REQUIRE(refusal(enlarged("llama.rope.dimension_count", 16)).empty());
  CHECK(refusal(enlarged("llama.rope.dimension_count", 8)) ==
        "llama.rope.dimension_count: expected 16, the width of a head, found 8");
  // Biases that llama.cpp takes for a llama where they are there, a layer beyond the last, and a tensor of no layer.
  for (const char* name : {"blk.0.attn_q.bias", "blk.0.attn_output.bias", "blk.1.attn_norm.weight", "output_norm.bias"})
    CHECK(refusal(enlarged("", 0, name, 32)) ==
          concat(name, ": expected tensors that llama with a block_count of 1 computes with, ",
                 "found one that would be left out"));
  std::string bytes = test::read_file(golden_folder / "tiny.gguf");
  const std::size_t base = bytes.find("llama.rope.freq_base") + 20 + 4;
  for (const auto& [theta, found] : {std::pair(1.0F, "1"), {0.5F, "0.5"}, {-2.0F, "-2"}, {INFINITY, "inf"}}) {
    std::memcpy(&bytes[base], &theta, sizeof theta);
    CHECK(refusal(bytes) == concat("llama.rope.freq_base: expected a finite number above 1, found ", found));
  }
  std::memcpy(&bytes[base], "\0\0\xC0\x7F", 4);
  CHECK(refusal(bytes) == "llama.rope.freq_base: expected a finite number above 1, found nan");
}

TEST_CASE("a GGUF file that is cut short or lies is refused, and read within its bounds") {
  const test::TempFolder folder;
  const fs::path path = folder / "x.gguf";
  const std::string bytes = test::read_file(golden_folder / "tiny.gguf");
  const std::size_t header = bytes.size() - 58000;
  const auto open = [&](const std::string& text) {
    test::write_file(path, text);
    return error_of([&] {
      const Gguf file(path);
      const ModelConfig model = gguf_config(file);
      const GgufSource source(file, model);
      std::vector<float> row(1 << 16);
      for (const TensorSpec& tensor : checkpoint_tensors(model, StoredType::f32)) {
        (void)source.stored_as(tensor);
        source.read(tensor, {0, 1}, row.data());
      }
      (void)gguf_tokenizer_json(file);
    });
  };
  REQUIRE(open(bytes).empty());
  for (std::size_t size = 1; size < header; size += 37) CHECK_FALSE(open(bytes.substr(0, size)).empty());
  CHECK(open(bytes.substr(0, bytes.size() - 1)).find("bytes from byte") != std::string::npos);
  CHECK(open("GGML" + bytes.substr(4)).find("expected a file that begins with GGUF") != std::string::npos);
  std::string many = bytes;
  std::fill_n(many.begin() + 8, 8, '\xFF');  // so many tensors
  CHECK(open(many).find("do not fit into") != std::string::npos);
  // 2^31 rows of 2^31 numbers: their bytes are 2^64, which wrapped would be none.
  std::string huge = bytes;
  const std::size_t name = huge.find("token_embd.weight");
  REQUIRE(name != std::string::npos);
  for (const std::size_t extent : {name + 17 + 4, name + 17 + 4 + 8})
    std::memcpy(&huge[extent], "\0\0\0\x80\0\0\0\0", 8);
  std::memcpy(&huge[name + 17 + 4 + 16], "\0\0\0\0", 4);  // f32
  CHECK(open(huge).find("token_embd.weight: expected 4611686018427387904 times 4 bytes from byte") !=
        std::string::npos);
  // Layers that the file has no tensors for: what follows from their number would fill the memory.
  std::string layers = bytes;
  const std::size_t block_count = layers.find(".block_count");
  REQUIRE(block_count != std::string::npos);
  std::memcpy(&layers[block_count + 12 + 4], "\xFF\xFF\0\0", 4);
  CHECK(open(layers).find("block_count: expected layers of which each has tensors, found 65535") != std::string::npos);
  // Random damage is an Error or goes unnoticed; what is read stays within the file.
  std::mt19937 random(6);
  for (int i = 0; i < 1500; ++i) {
    std::string damaged = bytes;
    for (int n = 0; n < 3; ++n) damaged[random() % header] = static_cast<char>(random());
    (void)open(damaged);
  }
}
