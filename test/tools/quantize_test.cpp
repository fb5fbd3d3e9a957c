#include "catch.hpp"

#include <algorithm>
#include <atomic>
#include <thread>

#include <tessera/comm/agree.hpp>
#include <tessera/comm/loopback.hpp>
#include <tessera/io/hf_config.hpp>
#include <tessera/io/safetensors_writer.hpp>
#include <tessera/runtime/load_weights.hpp>

#include "../../tools/tessera/commands.hpp"
#include "io/temp_folder.hpp"

using namespace tessera;
using test::error_of;

namespace {

namespace fs = std::filesystem;

/// Runs `tessera quantize ARGUMENTS` in this process.
void quantize(std::vector<std::string> arguments) {
  CLI::App app("tessera");
  tools::Action action;
  tools::add_quantize(app, action);
  arguments.insert(arguments.begin(), "quantize");
  std::reverse(arguments.begin(), arguments.end());  // as CLI11 takes them
  app.parse(arguments);
  const int status = action(Loopback{});  // CHECK would take exceptions for itself
  CHECK(status == 0);
}

const std::string demo_folder = TESSERA_DEMO_MODEL;

bool same_bytes(const void* a, const void* b, index_t bytes) {
  return std::memcmp(a, b, static_cast<std::size_t>(bytes)) == 0;
}

/// Every weight of `folder` is a view of its files, aligned, and has the bits that converting at load gives.
void hold_to_conversion_at_load(const fs::path& folder, const WeightFormats& formats) {
  const ModelConfig config = read_config(folder);
  const ModelWeights found = load_weights(Checkpoint::open(folder), config);
  const ModelWeights expected = load_weights(Checkpoint::open(demo_folder), config, formats);
  const auto hold = [](const WeightView& a, const WeightView& b) {
    REQUIRE(a.dtype == b.dtype);
    CHECK(reinterpret_cast<std::uintptr_t>(a.data) % 64 == 0);
    const index_t rows = is_blocks(a.dtype) ? a.groups() * group_rows : a.rows;
    CHECK(same_bytes(a.data, b.data, bytes_of(a.dtype, rows * a.cols)));
    REQUIRE((a.scales == nullptr) == (b.scales == nullptr));
    if (a.scales == nullptr) return;
    CHECK(reinterpret_cast<std::uintptr_t>(a.scales) % 64 == 0);
    CHECK(same_bytes(a.scales, b.scales, a.groups() * a.scales_of(a.cols) * static_cast<index_t>(sizeof(f16_t))));
  };
  hold(found.embedding, expected.embedding);
  hold(found.lm_head, expected.lm_head);
  for (std::size_t l = 0; l < found.layers.size(); ++l) {
    const LayerWeights& a = found.layers[l];
    const LayerWeights& b = expected.layers[l];
    for (const auto member :
         {&LayerWeights::q_proj, &LayerWeights::k_proj, &LayerWeights::v_proj, &LayerWeights::o_proj,
          &LayerWeights::gate_proj, &LayerWeights::up_proj, &LayerWeights::down_proj})
      hold(a.*member, b.*member);
    CHECK(std::equal(a.q_norm.begin(), a.q_norm.end(), b.q_norm.begin(), b.q_norm.end()));
    CHECK(std::equal(a.input_norm.begin(), a.input_norm.end(), b.input_norm.begin(), b.input_norm.end()));
  }
  CHECK(std::equal(found.final_norm.begin(), found.final_norm.end(), expected.final_norm.begin()));
}

index_t files_of_weights(const fs::path& folder) {
  index_t count = 0;
  for (const auto& entry : fs::directory_iterator(folder)) count += entry.path().extension() == ".safetensors";
  return count;
}

/// `file` anew, with the tensor `name` as `other` has it, which is not in blocks.
void replace_blocks(const fs::path& file, const std::string& name, const fs::path& other) {
  const Safetensors from(file), stored(other);
  std::vector<const TensorInfo*> sources;
  for (const TensorInfo& tensor : from.tensors())
    if (tensor.name != name + "_scale") sources.push_back(tensor.name == name ? &stored.at(name) : &tensor);
  std::vector<TensorSpec> specs;
  for (const TensorInfo* tensor : sources) specs.push_back({tensor->name, tensor->dtype, tensor->shape});
  SafetensorsWriter writer(file, specs, from.metadata());
  for (std::size_t i = 0; i < sources.size(); ++i) writer.write(i, 0, sources[i]->data, sources[i]->bytes);
  writer.finish();
}

}  // namespace

TEST_CASE("a gate in blocks beside an up_proj as stored is refused when the weights are loaded") {
  const test::TempFolder folder;
  const fs::path out = folder / "out";
  quantize({demo_folder, "--format", "int8", "--out", out.string(), "--shard-size", "1"});
  const std::string mlp = "model.layers.1.mlp.";
  replace_blocks(out / "model.safetensors", mlp + "up_proj.weight", fs::path(demo_folder) / "model.safetensors");
  CHECK(error_of([&] { (void)load_weights(Checkpoint::open(out), read_config(out)); }) ==
        mlp + "gate_proj.weight is int8 and " + mlp +
            "up_proj.weight bf16: expected both in blocks or both as stored, for they are multiplied together");
}

TEST_CASE("quantize writes the blocks that converting at load makes, in one file or in many") {
  const test::TempFolder folder;
  const auto [format, lm_head, shard, files] =
      GENERATE(std::tuple("int8", "", "1", 1), std::tuple("int8", "int4", "0.0005", -1),
               std::tuple("int8", "stored", "0.000001", -1));
  const fs::path out = folder / "out";
  std::vector<std::string> arguments{demo_folder, "--format", format, "--out", out.string(), "--shard-size", shard};
  if (*lm_head != '\0') arguments.insert(arguments.end(), {"--lm-head", lm_head});
  quantize(arguments);
  hold_to_conversion_at_load(out, {format, lm_head});
  CHECK((files == 1) == (files_of_weights(out) == 1));
  // It can be used alone: the tokenizer came with it, and nothing is left of the work.
  CHECK(test::read_file(out / "tokenizer.json") == test::read_file(fs::path(demo_folder) / "tokenizer.json"));
  CHECK(fs::exists(out / "chat_template.jinja"));
  CHECK_FALSE(fs::exists(out / ".part"));
  CHECK(error_of([&] {
          quantize({demo_folder, "--format", "int8", "--out", out.string()});
        }).find("--force replaces it") != std::string::npos);
}

TEST_CASE("a checkpoint that is written to while quantize reads it is an error, and nothing is published") {
  const test::TempFolder folder;
  fs::copy(demo_folder, folder / "in");
  const fs::path weights = folder / "in" / "model.safetensors";
  fs::permissions(weights, fs::perms::owner_write, fs::perm_options::add);
  std::atomic<bool> done = false;
  std::thread writer([&] {
    for (int n = 1; !done; ++n)
      fs::last_write_time(weights, fs::file_time_type::clock::now() + std::chrono::seconds(n));
  });
  const std::string error = error_of([&] {
    quantize({(folder / "in").string(), "--format", "int4", "--out", (folder / "out").string()});
  });
  done = true;
  writer.join();
  CHECK(error == weights.string() + ": was written to while in use");
  CHECK_FALSE(fs::exists(folder / "out" / "config.json"));
}

TEST_CASE("a run of quantize goes on behind the complete files of an earlier one, if it is of the same task") {
  const test::TempFolder folder;
  const fs::path out = folder / "out";
  const std::vector<std::string> arguments{demo_folder, "--format", "int8", "--out", out.string(), "--shard-size", "1"};
  quantize(arguments);
  const std::string weights = test::read_file(out / "model.safetensors");
  fs::remove_all(out);

  // As a killed run leaves it: a folder .part with its task and a complete file, which is marked here to be known
  // again.
  const auto interrupted = [&](const std::string& format) {
    // A file in the way of the published folder's config.json makes the last step fail.
    fs::create_directories(out / "config.json" / "x");
    (void)error_of([&] {
      quantize({demo_folder, "--format", format, "--force", "--out", out.string(), "--shard-size", "1"});
    });
    fs::remove_all(out / "config.json");
    REQUIRE(fs::exists(out / ".part" / "model.safetensors"));
    test::write_file(out / ".part" / "model.safetensors", "marked");
    test::write_file(out / ".part" / "model-2.safetensors.part-1", "left half written");
  };
  interrupted("int8");
  quantize(arguments);
  CHECK(test::read_file(out / "model.safetensors") == "marked");
  CHECK_FALSE(fs::exists(out / "model-2.safetensors.part-1"));
  fs::remove_all(out);

  interrupted("int4");
  quantize(arguments);
  CHECK(test::read_file(out / "model.safetensors") == weights);
}

TEST_CASE("quantize refuses what it cannot convert in a sentence, and leaves nothing") {
  const test::TempFolder folder;
  const fs::path out = folder / "out";
  CHECK(error_of([&] {
          quantize({(folder / "none").string(), "--format", "int8", "--out", out.string()});
        }).find("expected config.json") != std::string::npos);
  CHECK_THROWS_AS(quantize({demo_folder, "--format", "int5", "--out", out.string()}), CLI::ValidationError);
  CHECK(error_of([&] {
          quantize({demo_folder, "--format", "stored", "--out", out.string()});
        }) == "--format stored is for GGUF files: expected int8 or int4");
  CHECK_FALSE(fs::exists(out));

  quantize({demo_folder, "--format", "int8", "--out", out.string()});
  CHECK(error_of([&] {
          quantize({out.string(), "--format", "int4", "--out", (folder / "again").string()});
        }) ==
        "model.embed_tokens.weight: expected BF16, F16 or F32, file has I8: it is in blocks already; convert "
        "what it was made of");
  CHECK_FALSE(fs::exists(folder / "again"));

  // A weight without a value: found while it is converted.
  const fs::path bad = folder / "bad";
  fs::copy(demo_folder, bad);
  std::string bytes = test::read_file(bad / "model.safetensors");
  const auto place = Safetensors(bad / "model.safetensors").at("model.layers.3.mlp.up_proj.weight").offset;
  bytes[static_cast<std::size_t>(place) + 1] = '\x7F', bytes[static_cast<std::size_t>(place)] = '\xC0';
  test::write_file(bad / "model.safetensors", bytes);
  CHECK(error_of([&] {
          quantize({bad.string(), "--format", "int8", "--out", (folder / "of bad").string()});
        }).find("model.layers.3.mlp.up_proj.weight: a weight is not finite") != std::string::npos);
  CHECK_FALSE(fs::exists(folder / "of bad"));
}
