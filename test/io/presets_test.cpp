#include "catch.hpp"

#include <map>
#include <set>

#include <tessera/io/checkpoint_tensors.hpp>
#include <tessera/io/config_writer.hpp>
#include <tessera/io/hf_config.hpp>
#include <tessera/io/presets.hpp>
#include <tessera/io/safetensors.hpp>
#include "io/temp_folder.hpp"

using namespace tessera;

TEST_CASE("every preset has the number of parameters that was published for its model") {
  const std::map<std::string_view, index_t> published = {
      {"qwen3-0.6b", 596'049'920},    {"qwen3-1.7b", 1'720'574'976},
      {"qwen3-4b", 4'022'468'096},    {"qwen3-8b", 8'190'735'360},
      {"qwen3-14b", 14'768'307'200},  {"qwen3-32b", 32'762'123'264},
      {"qwen2-0.5b", 494'032'768},    {"qwen2-1.5b", 1'543'714'304},
      {"qwen2-7b", 7'615'616'512},    {"deepseek-r1-distill-qwen-1.5b", 1'777'088'000},
      {"llama2-7b", 6'738'415'616},   {"llama2-13b", 13'015'864'320},
      {"llama2-70b", 68'976'648'192}, {"llama3-8b", 8'030'261'248},
      {"llama3-70b", 70'553'706'496}, {"llama3.2-1b", 1'235'814'400},
      {"llama3.2-3b", 3'212'749'824},
  };
  for (const Preset& preset : presets) {
    INFO(preset.name);
    CHECK(bytes_of(checkpoint_tensors(preset.config(), StoredType::u8)) == published.at(preset.name));
  }
  CHECK(presets.size() == published.size());
}

TEST_CASE("a written config.json reads back as the configuration it was written from") {
  const test::TempFolder folder;
  for (const Preset& preset : presets) {
    INFO(preset.name);
    const ModelConfig model = preset.config();
    test::write_file(folder / "config.json", config_text(model, DType::bf16));
    test::write_file(folder / "generation_config.json", generation_config_text(model));
    const ModelConfig read = read_config(folder.path());
    CHECK(read.model_type == model.model_type);
    CHECK(read.layers == model.layers);
    CHECK(read.hidden == model.hidden);
    CHECK(read.heads == model.heads);
    CHECK(read.kv_heads == model.kv_heads);
    CHECK(read.head_dim == model.head_dim);
    CHECK(read.intermediate == model.intermediate);
    CHECK(read.vocab == model.vocab);
    CHECK(read.max_positions == model.max_positions);
    CHECK(read.rms_norm_eps == model.rms_norm_eps);
    CHECK(read.rope.theta == model.rope.theta);
    CHECK(read.rope.factor == model.rope.factor);
    CHECK(read.rope.high_freq_factor == model.rope.high_freq_factor);
    CHECK(read.rope.original_max_positions == model.rope.original_max_positions);
    CHECK(read.tied_embeddings == model.tied_embeddings);
    CHECK(read.attention_bias == model.attention_bias);
    CHECK(read.eos_token_ids == model.eos_token_ids);
    CHECK(read.bos_token_id == model.bos_token_id);
  }
}

TEST_CASE("the tensors of a configuration are those of a checkpoint that transformers wrote") {
  for (const char* name : {"qwen3-tiny", "qwen3-uneven", "qwen2-tiny", "llama-tiny", "llama3-tiny"}) {
    INFO(name);
    const std::filesystem::path folder = std::filesystem::path(TESSERA_GOLDEN) / name;
    std::set<std::string> stored;
    for (const auto& entry : std::filesystem::directory_iterator(folder)) {
      const std::string file_name = entry.path().filename().string();
      if (!file_name.starts_with("model") || !file_name.ends_with(".safetensors")) continue;
      const Safetensors file(entry.path());
      for (const TensorInfo& tensor : file.tensors()) stored.insert(tensor.name + shape_text(tensor.shape));
    }
    std::set<std::string> derived;
    for (const TensorSpec& tensor : checkpoint_tensors(read_config(folder), StoredType::bf16))
      derived.insert(tensor.name + shape_text(tensor.shape));
    CHECK(derived == stored);
  }
}

TEST_CASE("shards keep the order of the tensors and their limit, except for a tensor that exceeds it alone") {
  std::vector<TensorSpec> tensors;
  for (const index_t bytes : {10, 20, 100, 5, 5, 21, 30})
    tensors.push_back({concat("t", tensors.size()), StoredType::u8, {bytes}});
  const auto shards = into_shards(tensors, 30);
  std::vector<std::vector<std::string>> names;
  for (const auto& shard : shards) {
    names.emplace_back();
    for (const TensorSpec& tensor : shard) names.back().push_back(tensor.name);
  }
  CHECK(names == std::vector<std::vector<std::string>>{{"t0", "t1"}, {"t2"}, {"t3", "t4"}, {"t5"}, {"t6"}});
}

TEST_CASE("an unknown preset is refused with the names there are") {
  CHECK(test::error_of([] { (void)preset_named("qwen4"); }).find("preset: expected one of qwen3-0.6b, ") == 0);
}
