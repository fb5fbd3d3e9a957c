// tessera quantize DIR|FILE.gguf --format int8 --out DIR: a checkpoint with its weights in blocks.
#include <fmt/format.h>

#include <memory>
#include <numeric>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <tessera/comm/placement.hpp>
#include <tessera/comm/same_everywhere.hpp>
#include <tessera/core/version.hpp>
#include <tessera/io/config_writer.hpp>
#include <tessera/io/fingerprint.hpp>
#include <tessera/io/hf_config.hpp>
#include <tessera/runtime/gguf_source.hpp>
#include <tessera/runtime/gguf_tokenizer.hpp>
#include <tessera/runtime/quantise.hpp>

#include "chunks.hpp"
#include "commands.hpp"
#include "interruption.hpp"
#include "program/finite_range.hpp"
#include "progress.hpp"
#include "staged_checkpoint.hpp"

namespace tessera::tools {

namespace {

namespace fs = std::filesystem;

constexpr index_t elements_at_once = index_t{1} << 18;  // what a thread converts at a time: 1 MB of f32

struct QuantizeOptions {
  std::string input;
  std::string out;
  std::string format;
  std::string lm_head;
  std::string tokenizer;  // a folder, for a GGUF file whose own cannot be read
  double shard_gb = 1;
  int threads = 0;  // of each rank; 0: its share of the cores
  bool force = false;
};

/// Some rows of one tensor of a file.
struct TensorRows {
  const Conversion* conversion;
  std::size_t first;  // of the tensors that are written for it
  Range rows;
};

/// Cuts conversions into files of at most `most_bytes` bytes; integers and their scales stay together.
std::vector<std::vector<Conversion>> shards_of(const std::vector<Conversion>& conversions, index_t most_bytes) {
  std::vector<std::vector<Conversion>> shards;
  index_t filled = 0;
  for (const Conversion& conversion : conversions) {
    if (shards.empty() || filled + conversion.bytes() > most_bytes) shards.emplace_back(), filled = 0;
    shards.back().push_back(conversion);
    filled += conversion.bytes();
  }
  return shards;
}

/// Who writes the files: ranks in turn, each on threads of its own. The first one tells how far they are.
struct Writers {
  Communicator comm;
  int threads;
  const Interruption& interruption;
  Progress& progress;
  double ahead = 1;  ///< bytes of all files that are being written, over those of this rank's

  [[nodiscard]] bool speaks() const { return comm.rank() == 0; }
};

void write_shard(const fs::path& path, const WeightSource& source, const std::vector<Conversion>& conversions,
                 const Writers& writers) {
  std::vector<TensorSpec> tensors;
  std::vector<TensorRows> chunks;
  for (const Conversion& conversion : conversions) {
    const auto [rows, cols] = rows_and_cols(conversion.tensor);
    const index_t step = std::max<index_t>(1, elements_at_once / cols / group_rows) * group_rows;
    for (index_t begin = 0; begin < rows; begin += step)
      chunks.push_back({&conversion, tensors.size(), {begin, std::min(rows, begin + step)}});
    tensors.insert(tensors.end(), conversion.written.begin(), conversion.written.end());
  }
  SafetensorsWriter writer(path, tensors, {{"format", "pt"}});
  for_each_chunk(
      chunks.size(), writers.threads,
      [&](std::size_t i) {
        writers.interruption.check();
        const TensorRows& chunk = chunks[i];
        convert_rows(source, *chunk.conversion, chunk.rows, writer, chunk.first);
        const index_t bytes =
            chunk.conversion->bytes() * chunk.rows.size() / rows_and_cols(chunk.conversion->tensor).rows;
        writers.progress.add(static_cast<index_t>(writers.ahead * static_cast<double>(bytes)));
      },
      [&] {
        if (writers.speaks()) writers.progress.show();
      });
  writer.finish();
}

/// Everything that the files depend on, so that those of an earlier run are only kept where they would be made again.
std::string task_of(const QuantizeOptions& options) {
  std::string task = concat("quantize ", TESSERA_VERSION_MAJOR, '.', TESSERA_VERSION_MINOR, " to ", options.format,
                            ", lm_head ", options.lm_head, ", files of ", options.shard_gb, " GB\n");
  std::error_code unused;
  std::vector<fs::path> files;
  for (const std::string& input : {options.input, options.tokenizer})
    for (const auto& entry : fs::directory_iterator(input, unused)) files.push_back(entry.path());
  if (options.input.ends_with(".gguf")) files.emplace_back(options.input);
  std::sort(files.begin(), files.end());
  for (const fs::path& file : files)
    if (fs::is_regular_file(file, unused))
      task += concat(fs::absolute(file).string(), ' ', fs::file_size(file, unused), ' ',
                     fs::last_write_time(file, unused).time_since_epoch().count(), '\n');
  return task;
}

/// Copies what is no weight: the tokenizer, how to chat, what the author says.
void copy_companions(const fs::path& from, const fs::path& to) {
  constexpr std::uintmax_t largest = 64 << 20;
  for (const auto& entry : fs::directory_iterator(from)) {
    const std::string name = entry.path().filename().string();
    const std::string extension = entry.path().extension().string();
    const bool text = extension == ".json" || extension == ".model" || extension == ".jinja" || extension == ".txt" ||
                      extension == ".md" || name.find("LICENSE") != std::string::npos;
    if (!text || name == "config.json" || name.ends_with(".index.json")) continue;
    if (!entry.is_regular_file() || entry.file_size() > largest) continue;
    fs::copy_file(entry.path(), to / name, fs::copy_options::overwrite_existing);
  }
}

/// Every rank writes a file of its own at a time, and none begins another before all are complete: so all know at once
/// that one has failed. The files are the same on any number of ranks. Collective.
void write_weights(const fs::path& folder, const WeightSource& source, const std::vector<Conversion>& conversions,
                   double shard_gb, Writers writers) {
  const auto shards = shards_of(conversions, static_cast<index_t>(shard_gb * 1e9));
  Json weight_map = Json::object();
  index_t total = 0;
  std::vector<std::string> names;
  std::vector<index_t> sizes;
  for (std::size_t s = 0; s < shards.size(); ++s) {
    names.push_back(shards.size() == 1 ? "model.safetensors"
                                       : fmt::format("model-{:05}-of-{:05}.safetensors", s + 1, shards.size()));
    sizes.push_back(0);
    for (const Conversion& conversion : shards[s]) {
      for (const TensorSpec& tensor : conversion.written) weight_map[tensor.name] = names[s];
      sizes[s] += conversion.bytes();
    }
  }
  const auto ranks = static_cast<std::size_t>(writers.comm.size());
  for (std::size_t first = 0; first < shards.size(); first += ranks) {
    const auto round = std::span(sizes).subspan(first, std::min(ranks, shards.size() - first));
    const index_t bytes = std::accumulate(round.begin(), round.end(), index_t{0});
    agree(writers.comm, [&] {
      const auto rank = static_cast<std::size_t>(writers.comm.rank());
      // A file that is there is complete: an earlier run of the same task wrote it.
      if (rank >= round.size() || fs::exists(folder / names[first + rank])) return;
      writers.ahead = static_cast<double>(bytes) / static_cast<double>(round[rank]);
      write_shard(folder / names[first + rank], source, shards[first + rank], writers);
    });
    total += bytes;
    writers.progress.advance_to(total);
  }
  if (shards.size() == 1) return;
  agree(writers.comm, [&] {
    if (writers.comm.rank() != 0) return;
    const Json index = {{"metadata", {{"total_size", total}}}, {"weight_map", weight_map}};
    write_text(folder / "model.safetensors.index.json", index.dump(2) + "\n");
  });
}

/// The input's config.json, which says from now on who reads its weights.
std::string config_of_blocks(const std::string& config, const QuantizeOptions& options) {
  const std::string& lm_head = options.lm_head.empty() ? options.format : options.lm_head;
  if (options.format == Stored::name && lm_head == Stored::name) return config;  // whoever reads folders reads it
  Json json = parse_json(config, "config.json");
  json["quantization_config"] = {
      {"quant_method", tessera::detail::own_quantization}, {"weights", options.format}, {"lm_head", lm_head}};
  return json.dump(2) + "\n";
}

/// What is converted: a folder as it is published, or a GGUF file.
struct QuantizeInput {
  ModelConfig model;
  std::unique_ptr<Gguf> gguf;
  std::unique_ptr<WeightSource> weights;
  std::string config;          // text of config.json
  std::string tokenizer_json;  // made of the GGUF's metadata
  fs::path companions;         // a folder whose other files are copied
};

QuantizeInput open_quantize_input(const QuantizeOptions& options) {
  QuantizeInput input;
  if (!options.input.ends_with(".gguf")) {
    if (options.format == Stored::name) throw UsageError("--format stored is for GGUF files: expected int8 or int4");
    require(options.tokenizer.empty(), "--tokenizer is for GGUF files: ", options.input, " has its own");
    constexpr index_t largest_config = index_t{16} << 20;
    input.model = read_config(options.input);
    input.weights = std::make_unique<CheckpointSource>(Checkpoint::open(options.input));
    input.config = read_text(fs::path(options.input) / "config.json", largest_config);
    input.companions = options.input;
    return input;
  }
  input.gguf = std::make_unique<Gguf>(options.input);
  input.model = gguf_config(*input.gguf);
  input.weights = std::make_unique<GgufSource>(*input.gguf, input.model);
  input.config = config_text(input.model, DType::f16);
  input.companions = options.tokenizer;
  if (options.tokenizer.empty()) input.tokenizer_json = gguf_tokenizer_json(*input.gguf);
  return input;
}

/// What ranks must have in common that read a model each by a way of its own.
std::vector<Fact> facts_of(const QuantizeInput& input, const std::vector<Conversion>& conversions) {
  tessera::detail::Fnv config, headers, sample;
  config.add(input.config);
  for (const Conversion& conversion : conversions) {
    const TensorSpec& tensor = conversion.tensor;
    headers.add(tensor.name), headers.add(name_of(tensor.dtype));
    for (const index_t extent : tensor.shape) headers.add(extent);
    std::vector<float> row(static_cast<std::size_t>(rows_and_cols(tensor).cols));
    input.weights->read(tensor, {0, 1}, row.data());
    sample.add(row.data(), row.size() * sizeof(float));
  }
  return {{"config.json", fmt::format("hash {:x}", config.value())},
          {"names, types and shapes of tensors", fmt::format("hash {:x}", headers.value())},
          {"a sample of the weights", fmt::format("hash {:x}", sample.value())}};
}

/// Holds that all ranks see the folder that rank 0 has made. Collective.
void require_shared(const Communicator& comm, const fs::path& staged) {
  std::vector<Fact> facts;
  agree(comm, [&] {
    tessera::detail::Fnv task;
    if (const auto text = task_in(staged)) task.add(*text), facts = {{"task", fmt::format("hash {:x}", task.value())}};
  });
  require_same_everywhere(comm, "folders of --out, which all ranks have to see,", facts);
}

int quantize(const Communicator& comm, const QuantizeOptions& options) {
  const Placement placement = take_cores(comm, options.threads, true);
  const QuantizeInput input = agree(comm, [&] { return open_quantize_input(options); });
  const WeightFormats formats{.layers = options.format, .lm_head = options.lm_head};  // whose names conversions have
  std::vector<Conversion> conversions;
  std::vector<Fact> facts;
  agree(comm, [&] {
    conversions = conversions_of(*input.weights, input.model, formats);
    if (comm.size() > 1) facts = facts_of(input, conversions);
  });
  require_same_everywhere(comm, "models", facts);
  index_t after = 0;
  for (const Conversion& conversion : conversions) after += conversion.bytes();

  Interruption interruption;  // declared first, so that a signal takes effect after everything was cleaned up
  std::optional<StagedCheckpoint> staged;  // of rank 0, which makes the folder and gives the files their place
  agree(comm, [&] {
    if (comm.rank() == 0) staged.emplace(options.out, options.force, task_of(options));
  });
  Progress progress("quantize", after);
  try {
    const fs::path folder = staged_folder(options.out);
    require_shared(comm, folder);
    write_weights(folder, *input.weights, conversions, options.shard_gb,
                  {comm, placement.share.threads, interruption, progress});
    agree(comm, [&] { input.weights->check_unchanged(); });
    agree(comm, [&] {
      if (comm.rank() != 0) return;
      if (!input.companions.empty()) copy_companions(input.companions, folder);
      if (!input.tokenizer_json.empty()) write_text(folder / "tokenizer.json", input.tokenizer_json);
      if (input.gguf) write_text(folder / "generation_config.json", generation_config_text(input.model));
      write_text(folder / "config.json", config_of_blocks(input.config, options));
      interruption.check();
      staged->publish();
    });
  } catch (const AgreedError&) {
    staged.reset();
    if (comm.size() > 1) {
      Communicator(comm).barrier();  // a rank that ends first has the launcher kill those that still clean up
      interruption.forget();         // where all ranks end by a signal MPICH's launcher ends with status 0 now and then
    }
    throw;
  }
  if (comm.rank() != 0) return 0;
  progress.finish();
  fmt::print("{}: {:.2f} GB, the weights of {} in {}, lm_head in {} ({:.1f} s)\n", options.out,
             static_cast<double>(after) / 1e9, options.input, options.format,
             options.lm_head.empty() ? options.format : options.lm_head, progress.seconds());
  return 0;
}

}  // namespace

void add_quantize(CLI::App& app, Action& action) {
  CLI::App* command = app.add_subcommand("quantize", "Write a checkpoint with its weights in blocks of 8 or 4 bits");
  const auto options = std::make_shared<QuantizeOptions>();
  command->add_option("MODEL", options->input, "Folder with config.json and model.safetensors, or a .gguf file")
      ->required();
  command
      ->add_option("--format", options->format,
                   "What the weights of the layers become; stored: of a GGUF file, bf16, f16 or f32")
      ->required()
      ->check(CLI::IsMember({"stored", "int8", "int4"}));
  command->add_option("--lm-head", options->lm_head, "The same for lm_head (default: as the layers)")
      ->check(CLI::IsMember({"stored", "int8", "int4"}));
  command->add_option("--out", options->out, "folder to write; made where it is missing")->required()->type_name("DIR");
  command->add_option("--shard-size", options->shard_gb, "GB of a file of weights at most")
      ->check(program::finite_range(1e-6, 1e6))
      ->type_name("GB")
      ->capture_default_str();
  command
      ->add_option("--threads", options->threads, "threads of each rank (default: its share of this machine's cores)")
      ->check(CLI::Range(1, most_threads))
      ->type_name("N");
  command
      ->add_option("--tokenizer", options->tokenizer,
                   "Folder whose tokenizer is copied (default: made of what the GGUF file has)")
      ->type_name("DIR");
  command->add_flag("--force", options->force, "replace a checkpoint that the folder has");
  command->footer(
      "Every program runs what it writes as it runs other checkpoints, under every sharding; docs/quantisation.md has\n"
      "the layout. A few MB of memory for each thread, whatever the size of the model. After an error or Ctrl-C the\n"
      "same command goes on behind the last complete file; the folder shows none of them before all are complete.\n"
      "Under mpiexec the ranks write files side by side, into a folder that all of them see.\n\n"
      "  tessera quantize /tmp/qwen3 --format int8 --out /tmp/qwen3-int8\n"
      "  tessera quantize /tmp/qwen3 --format int4 --lm-head int8 --out /tmp/qwen3-int4\n"
      "  tessera quantize qwen3-q8_0.gguf --format int8 --out /tmp/qwen3-q8_0\n"
      "  mpiexec.mpich -n 8 -f hosts tessera quantize /shared/llama3-70b --format int4 --out /shared/llama3-70b-int4");
  command->callback(
      [options, &action] { action = [options](const Communicator& comm) { return quantize(comm, *options); }; });
}

}  // namespace tessera::tools
