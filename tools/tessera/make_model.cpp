// tessera make-model --preset qwen3-0.6b --out DIR: a checkpoint of random weights in the shape of a published model.
#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include <tessera/io/checkpoint_tensors.hpp>
#include <tessera/io/config_writer.hpp>
#include <tessera/io/presets.hpp>
#include <tessera/parallel/cores.hpp>

#include "chunks.hpp"
#include "commands.hpp"
#include "interruption.hpp"
#include "progress.hpp"
#include "random_weights.hpp"
#include "staged_checkpoint.hpp"

namespace tessera::tools {

namespace {

constexpr index_t shard_bytes = 5'000'000'000;        // as transformers cuts checkpoints
constexpr index_t chunk_elements = index_t{1} << 20;  // what a thread makes and writes at a time: 2 or 4 MB

struct MakeModelOptions {
  std::string preset;
  std::string out;
  index_t layers = 0;  // 0: as published
  std::uint64_t seed = 0;
  std::string dtype = "bf16";
  int threads = 0;  // 0: all cores of this process
  bool force = false;
};

/// A run of elements of one tensor.
struct Chunk {
  std::size_t tensor;
  index_t begin;
  index_t count;
};

std::vector<Chunk> chunks_of(const std::vector<TensorSpec>& tensors) {
  std::vector<Chunk> chunks;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const index_t elements = tensors[i].bytes() / bytes_of(tensors[i].dtype);
    for (index_t begin = 0; begin < elements; begin += chunk_elements) {
      chunks.push_back({i, begin, std::min(chunk_elements, elements - begin)});
    }
  }
  return chunks;
}

template <class T>
void write_shard(SafetensorsWriter& writer, const MakeModelOptions& options, const Interruption& interruption,
                 Progress& progress) {
  const std::vector<Chunk> chunks = chunks_of(writer.tensors());
  for_each_chunk(
      chunks.size(), options.threads,
      [&](std::size_t i) {
        interruption.check();
        const Chunk& chunk = chunks[i];
        std::vector<T> elements(static_cast<std::size_t>(chunk.count));
        random_elements(options.seed, writer.tensors()[chunk.tensor].name, chunk.begin, chunk.count, elements.data());
        const auto size = static_cast<index_t>(sizeof(T));
        writer.write(chunk.tensor, chunk.begin * size, elements.data(), chunk.count * size);
        progress.add(chunk.count * size);
      },
      [&] { progress.show(); });
}

/// The files of the weights, and the index if there is more than one.
void write_weights(const std::filesystem::path& folder, const std::vector<TensorSpec>& tensors,
                   const MakeModelOptions& options, const Interruption& interruption, Progress& progress) {
  const auto shards = into_shards(tensors, shard_bytes);
  Json weight_map = Json::object();
  for (std::size_t s = 0; s < shards.size(); ++s) {
    const std::string name = shards.size() == 1 ? "model.safetensors"
                                                : fmt::format("model-{:05}-of-{:05}.safetensors", s + 1, shards.size());
    SafetensorsWriter writer(folder / name, shards[s], {{"format", "pt"}});
    with_type_of(*kernel_type(tensors.front().dtype),
                 [&]<class T>(T) { write_shard<T>(writer, options, interruption, progress); });
    writer.finish();
    for (const TensorSpec& tensor : shards[s]) weight_map[tensor.name] = name;
  }
  if (shards.size() > 1) {
    const Json index = {{"metadata", {{"total_size", bytes_of(tensors)}}}, {"weight_map", weight_map}};
    write_text(folder / "model.safetensors.index.json", index.dump(2) + "\n");
  }
}

void require_space(const std::filesystem::path& folder, index_t bytes) {
  std::error_code error;
  const auto space = std::filesystem::space(folder, error);
  if (error) return;  // a file system that cannot say; a full disk is still found by the writes
  require(space.available >= static_cast<std::uintmax_t>(bytes), folder.parent_path().string(), ": expected ",
          fmt::format("{:.2f}", static_cast<double>(bytes) / 1e9), " GB of free disk space, found ",
          fmt::format("{:.2f}", static_cast<double>(space.available) / 1e9), " GB");
}

DType dtype_named(std::string_view name) {
  for (const DType dtype : {DType::bf16, DType::f16, DType::f32})
    if (name_of(dtype) == name) return dtype;
  fail("dtype: expected bf16, f16 or f32, found \"", name, '"');
}

void make_model(MakeModelOptions options) {
  const DType dtype = dtype_named(options.dtype);
  ModelConfig model = preset_named(options.preset).config();
  if (options.layers > 0) model.layers = options.layers;
  if (options.threads == 0) options.threads = allowed_cores();
  const auto tensors = checkpoint_tensors(model, stored_type(dtype));
  const index_t bytes = bytes_of(tensors);

  // Declared first, so that a signal takes effect after everything else was cleaned up.
  const Interruption interruption;
  StagedCheckpoint staged(options.out, options.force);
  require_space(staged.path(), bytes + (index_t{1} << 20));
  Progress progress("make-model", bytes);
  write_weights(staged.path(), tensors, options, interruption, progress);
  write_text(staged.path() / "generation_config.json", generation_config_text(model));
  write_text(staged.path() / "config.json", config_text(model, dtype));
  interruption.check();
  staged.publish();
  progress.finish();
  fmt::print("{}: {}, {} layers, {:.1f} M parameters, {:.2f} GB of {}, seed {} ({:.1f} s)\n", options.out,
             options.preset, model.layers, static_cast<double>(bytes) / static_cast<double>(bytes_of(dtype)) / 1e6,
             static_cast<double>(bytes) / 1e9, options.dtype, options.seed, progress.seconds());
}

std::string preset_table() {
  std::string table = "Presets (layers, and size of all of them in bf16):\n";
  for (const Preset& preset : presets) {
    const index_t bytes = bytes_of(checkpoint_tensors(preset.config(), StoredType::bf16));
    table += fmt::format("  {:30} {:3} layers {:7.2f} GB   {}\n", preset.name, preset.layers,
                         static_cast<double>(bytes) / 1e9, preset.published);
  }
  return table;
}

}  // namespace

void add_make_model(CLI::App& app) {
  CLI::App* command =
      app.add_subcommand("make-model", "Write a checkpoint of random weights in the shape of a published model");
  const auto options = std::make_shared<MakeModelOptions>();
  const auto known_preset = [](const std::string& name) -> std::string {
    try {
      (void)preset_named(name);
      return {};
    } catch (const Error& error) {
      return std::string(error.what()).substr(std::string_view("preset: ").size());  // the option's name is before it
    }
  };
  command->add_option("--preset", options->preset, "whose shape; see below")
      ->required()
      ->check(known_preset)
      ->type_name("NAME");
  command->add_option("--out", options->out, "folder to write; made where it is missing")->required()->type_name("DIR");
  command->add_option("--layers", options->layers, "number of decoder layers (default: as published)")
      ->check(CLI::Range(1, 65536))
      ->type_name("N");
  command->add_option("--seed", options->seed, "of the random weights (default: 0)")->type_name("N");
  command->add_option("--dtype", options->dtype, "element type: bf16 (default), f16 or f32")
      ->check(CLI::IsMember({"bf16", "f16", "f32"}))
      ->type_name("TYPE");
  command->add_option("--threads", options->threads, "threads to use (default: the cores this process may use)")
      ->check(CLI::Range(1, most_threads))
      ->type_name("N");
  command->add_flag("--force", options->force, "replace a checkpoint that the folder has");
  command->footer(
      "Writes config.json, generation_config.json and safetensors files of at most 5 GB, but no tokenizer. The same\n"
      "preset, layers, dtype and seed give the same bytes. A folder with a checkpoint is refused without --force;\n"
      "after an error or Ctrl-C nothing is left of the attempt.\n\n"
      "  tessera make-model --preset qwen3-0.6b --out /tmp/qwen3\n"
      "  tessera make-model --preset llama3-8b --layers 4 --out /tmp/llama3-4-layers\n\n" +
      preset_table());
  command->callback([options] { make_model(*options); });
}

}  // namespace tessera::tools
