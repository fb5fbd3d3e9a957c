#include "catch.hpp"

#include <sys/resource.h>
#include <sys/wait.h>

#include <algorithm>
#include <cmath>
#include <csignal>
#include <set>
#include <thread>

#include <tessera/io/checkpoint.hpp>
#include <tessera/io/checkpoint_tensors.hpp>
#include <tessera/io/hf_config.hpp>
#include <tessera/io/presets.hpp>
#include "../../tools/tessera/commands.hpp"
#include "../../tools/tessera/random_weights.hpp"
#include "../../tools/tessera/staged_checkpoint.hpp"
#include "io/temp_folder.hpp"

using namespace tessera;
using test::error_of;

namespace {

/// Runs `tessera make-model ARGUMENTS` in this process.
void make_model(std::vector<std::string> arguments) {
  CLI::App app("tessera");
  tools::add_make_model(app);
  arguments.insert(arguments.begin(), "make-model");
  std::reverse(arguments.begin(), arguments.end());  // as CLI11 takes them
  app.parse(arguments);
}

std::vector<float> elements(std::string_view tensor, index_t begin, index_t count, std::uint64_t seed = 1) {
  std::vector<float> out(static_cast<std::size_t>(count));
  tools::random_elements(seed, tensor, begin, count, out.data());
  return out;
}

}  // namespace

TEST_CASE("random weights have the mean and deviation that they should, and norms lie around 1") {
  constexpr index_t n = 1 << 20;
  for (const auto& [name, expected] : {std::pair("q_proj.weight", 0.0), std::pair("input_layernorm.weight", 1.0)}) {
    double sum = 0, squares = 0;
    for (const float x : elements(name, 0, n)) sum += x, squares += (x - expected) * (x - expected);
    CHECK(sum / n == Approx(expected).margin(0.02 * 5 / std::sqrt(n)));
    CHECK(std::sqrt(squares / n) == Approx(0.02).epsilon(0.005));
  }
}

TEST_CASE("a random weight depends on seed, tensor and place, and not on the chunk it is made in") {
  const std::vector<float> whole = elements("q_proj.weight", 0, 1000);
  const std::vector<float> part = elements("q_proj.weight", 300, 200);
  CHECK(std::equal(part.begin(), part.end(), whole.begin() + 300));
  CHECK(elements("k_proj.weight", 0, 1000) != whole);
  CHECK(elements("q_proj.weight", 0, 1000, 2) != whole);
  // Pinned, so that a checkpoint made by one version is the checkpoint made by the next.
  // E220A8397B1DCDAF is what SplitMix64 gives first from seed 0; its four 16-bit parts add up to 131070 + 54055.
  CHECK(tools::mix(0x9E3779B97F4A7C15U) == 0xE220A8397B1DCDAFU);
  CHECK(tools::random_normal(0, 0) == Approx(54055 / (65536 / std::sqrt(3.0))));
}

TEST_CASE("every float16 survives the way to float and back, and ties go to the even one") {
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    const f16_t value{static_cast<std::uint16_t>(bits)};
    const float wide = to_float(value);
    if (std::isnan(wide)) {
      REQUIRE(std::isnan(to_float(to_f16(wide))));
    } else {
      REQUIRE(to_f16(wide).bits == bits);
    }
    if ((bits & 0x7FFF) >= 0x7BFF) continue;  // no finite neighbour
    const float next = to_float(f16_t{static_cast<std::uint16_t>(bits + 1)});
    const float middle = (wide + next) / 2;
    REQUIRE(to_f16(middle).bits == (bits % 2 == 0 ? bits : bits + 1));
    REQUIRE(to_f16(std::nextafter(middle, wide)).bits == bits);
    REQUIRE(to_f16(std::nextafter(middle, next)).bits == bits + 1);
  }
  CHECK(to_f16(65519.0F).bits == 0x7BFF);
  CHECK(to_f16(65520.0F).bits == 0x7C00);
}

TEST_CASE("a staged checkpoint that is not published leaves neither files nor folders") {
  const test::TempFolder folder;
  {
    const tools::StagedCheckpoint staged(folder / "a" / "b", false);
    test::write_file(staged.path() / "config.json", "{}");
    CHECK(error_of([&] {
            const tools::StagedCheckpoint second(folder / "a" / "b", false);
          }).find("another process is writing") != std::string::npos);
  }
  CHECK(std::filesystem::is_empty(folder.path()));
}

TEST_CASE("a staged checkpoint whose task cannot be written, as on a full disk, leaves neither files nor folders") {
  const test::TempFolder folder;
  rlimit before{};
  REQUIRE(::getrlimit(RLIMIT_FSIZE, &before) == 0);
  const rlimit none{0, before.rlim_max};
  const auto handler = ::signal(SIGXFSZ, SIG_IGN);  // so that a write fails, and the process goes on
  ::setrlimit(RLIMIT_FSIZE, &none);
  const std::string error = error_of([&] { const tools::StagedCheckpoint staged(folder / "a" / "b", false, "task"); });
  ::setrlimit(RLIMIT_FSIZE, &before);
  ::signal(SIGXFSZ, handler);
  CHECK(error.find("task: cannot write: ") != std::string::npos);
  CHECK(std::filesystem::is_empty(folder.path()));
}

TEST_CASE("publishing replaces the earlier checkpoint, and leaves a tokenizer beside it alone") {
  const test::TempFolder folder;
  test::write_file(folder / "config.json", "earlier");
  test::write_file(folder / "model-00001-of-00002.safetensors", "earlier");
  test::write_file(folder / "tokenizer.json", "kept");
  CHECK(error_of([&] { const tools::StagedCheckpoint staged(folder.path(), false); }) ==
        folder.path().string() + ": expected no checkpoint, found config.json; --force replaces it");
  CHECK(test::read_file(folder / "config.json") == "earlier");
  std::filesystem::create_directory(folder / ".part");
  test::write_file(folder.path() / ".part" / "left by a killed run", "x");
  {
    tools::StagedCheckpoint staged(folder.path(), true);
    test::write_file(staged.path() / "config.json", "later");
    test::write_file(staged.path() / "model.safetensors", "later");
    CHECK(test::read_file(folder / "config.json") == "earlier");
    staged.publish();
  }
  std::set<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder.path())) {
    names.insert(entry.path().filename().string());
  }
  CHECK(names == std::set<std::string>{"config.json", "model.safetensors", "tokenizer.json"});
  CHECK(test::read_file(folder / "config.json") == "later");
}

TEST_CASE("make-model writes a checkpoint that opens with the preset's shapes and the generator's weights") {
  const test::TempFolder folder;
  const std::string out = (folder / "model").string();
  make_model({"--preset", "qwen2-0.5b", "--layers", "1", "--seed", "1", "--threads", "3", "--out", out});
  const ModelConfig model = read_config(out);
  CHECK(model.layers == 1);
  CHECK(model.attention_bias);
  const Checkpoint checkpoint = Checkpoint::open(out);
  const auto expected = checkpoint_tensors(model, StoredType::bf16);
  CHECK(checkpoint.files().front().tensors().size() == expected.size());
  for (const TensorSpec& spec : expected) {
    INFO(spec.name);
    const TensorInfo* tensor = checkpoint.find(spec.name);
    REQUIRE(tensor != nullptr);
    CHECK(tensor->shape == spec.shape);
    CHECK(tensor->dtype == StoredType::bf16);
    // The last elements lie in another chunk than the first ones, where the tensor is large.
    const index_t count = std::min<index_t>(tensor->elements(), 100);
    const std::vector<float> last = elements(spec.name, tensor->elements() - count, count);
    const auto* stored = reinterpret_cast<const bf16_t*>(tensor->data) + (tensor->elements() - count);
    for (index_t i = 0; i < count; ++i) REQUIRE(stored[i].bits == to_bf16(last[static_cast<std::size_t>(i)]).bits);
  }
  CHECK(error_of([&] {
          make_model({"--preset", "qwen2-0.5b", "--layers", "1", "--out", out});
        }).find("found config.json; --force replaces it") != std::string::npos);
}

TEST_CASE("make-model refuses an unknown preset or type as a usage error, and a disk that is too small by figures") {
  const test::TempFolder folder;
  const std::string out = (folder / "model").string();
  CHECK_THROWS_AS(make_model({"--preset", "qwen9", "--out", out}), CLI::ValidationError);
  CHECK_THROWS_AS(make_model({"--preset", "qwen3-0.6b", "--dtype", "f8", "--out", out}), CLI::ValidationError);
  CHECK_THROWS_AS(make_model({"--preset", "qwen3-0.6b", "--layers", "0", "--out", out}), CLI::ValidationError);
  CHECK_THROWS_AS(make_model({"--preset", "qwen3-0.6b"}), CLI::RequiredError);
  const std::string error = error_of([&] {
    make_model({"--preset", "llama2-70b", "--layers", "65536", "--dtype", "f32", "--out", out});
  });
  CHECK(error.find(out + ": expected ") == 0);
  CHECK(error.find(" GB of free disk space, found ") != std::string::npos);
  CHECK(std::filesystem::is_empty(folder.path()));
}

TEST_CASE("a signal ends make-model as a signal does, and nothing is left of the attempt") {
  const test::TempFolder folder;
  const std::filesystem::path out = folder / "model";
  const pid_t child = ::fork();
  if (child == 0) {
    ::signal(SIGTERM, SIG_DFL);  // not as the test framework has it
    make_model({"--preset", "qwen2-0.5b", "--layers", "1", "--dtype", "f32", "--threads", "1", "--out", out.string()});
    ::_exit(0);
  }
  for (int i = 0; i < 10'000 && !std::filesystem::exists(out / ".part"); ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  ::kill(child, SIGTERM);
  int status = 0;
  ::waitpid(child, &status, 0);
  REQUIRE(WIFSIGNALED(status));
  CHECK(WTERMSIG(status) == SIGTERM);
  CHECK_FALSE(std::filesystem::exists(out));
}
