#include "catch.hpp"

#include <tessera/io/hf_config.hpp>
#include "io/published_configs.hpp"
#include "io/temp_folder.hpp"

using namespace tessera;
using test::error_of;

namespace {

/// The configuration of a published model, by name.
ModelConfig published(std::string_view name) {
  for (const test::PublishedConfig& row : test::published_configs) {
    if (row.name != name) continue;
    const test::TempFolder folder;
    test::write_file(folder / "config.json", row.config);
    if (!row.generation.empty()) test::write_file(folder / "generation_config.json", row.generation);
    return read_config(folder.path());
  }
  fail("no config of ", name);
}

using Tokens = std::vector<token_t>;

}  // namespace

TEST_CASE("every published config loads as it is") {
  for (const test::PublishedConfig& row : test::published_configs) {
    INFO(row.name);
    CHECK_NOTHROW(published(row.name));
  }
}

TEST_CASE("a Qwen3 config gives its sizes, head_dim as stated and the list of end tokens") {
  const ModelConfig qwen3 = published("Qwen3-0.6B");
  CHECK(qwen3.model_type == "qwen3");
  CHECK(qwen3.layers == 28);
  CHECK(qwen3.hidden == 1024);
  CHECK(qwen3.heads == 16);
  CHECK(qwen3.kv_heads == 8);
  CHECK(qwen3.head_dim == 128);  // not hidden / heads
  CHECK(qwen3.intermediate == 3072);
  CHECK(qwen3.vocab == 151936);
  CHECK(qwen3.max_positions == 40960);
  CHECK(qwen3.rms_norm_eps == 1e-6);
  CHECK(qwen3.rope.theta == 1e6);
  CHECK(qwen3.rope.factor == 1.0);
  CHECK(qwen3.tied_embeddings);
  CHECK_FALSE(qwen3.attention_bias);
  CHECK(qwen3.eos_token_ids == Tokens{151645, 151643});
  CHECK(qwen3.bos_token_id == 151643);
}

TEST_CASE("Qwen2 has q/k/v bias and a derived head_dim, and generation_config.json has the last word on tokens") {
  const ModelConfig qwen2 = published("Qwen2.5-0.5B");
  CHECK(qwen2.attention_bias);
  CHECK(qwen2.head_dim == 64);
  CHECK(qwen2.tied_embeddings);
  CHECK(qwen2.eos_token_ids == Tokens{151643});
  const ModelConfig distilled = published("DeepSeek-R1-Distill-Qwen-1.5B");
  CHECK(distilled.rope.theta == 1e4);
  CHECK(distilled.bos_token_id == 151646);
  CHECK_FALSE(distilled.tied_embeddings);
}

TEST_CASE("Llama configs of every generation give their rotary embedding and end tokens") {
  const ModelConfig llama2 = published("Llama-2-7b-hf");
  CHECK(llama2.rope.theta == 1e4);  // the file does not say
  CHECK(llama2.rope.factor == 1.0);
  CHECK(llama2.kv_heads == 32);
  CHECK_FALSE(llama2.attention_bias);
  CHECK(published("Meta-Llama-3-8B-Instruct").eos_token_ids == Tokens{128001, 128009});
  const ModelConfig llama31 = published("Llama-3.1-8B-Instruct");
  CHECK(llama31.eos_token_ids == Tokens{128001, 128008, 128009});
  CHECK(llama31.rope.theta == 5e5);
  CHECK(llama31.rope.factor == 8.0);
  CHECK(llama31.rope.low_freq_factor == 1.0);
  CHECK(llama31.rope.high_freq_factor == 4.0);
  CHECK(llama31.rope.original_max_positions == 8192);
  const ModelConfig llama32 = published("Llama-3.2-1B");
  CHECK(llama32.rope.factor == 32.0);
  CHECK(llama32.tied_embeddings);
}

TEST_CASE("the spellings of transformers 4 and 5 give the same configuration") {
  const std::filesystem::path golden = TESSERA_GOLDEN;
  const ModelConfig current = read_config(golden / "llama3-tiny");
  const test::TempFolder folder;
  Json json = Json::parse(test::read_file(golden / "llama3-tiny" / "config.json"));
  Json rope = json["rope_parameters"];
  json.erase("rope_parameters");
  json.erase("dtype");
  json["torch_dtype"] = "bfloat16";
  json["rope_theta"] = rope["rope_theta"];
  rope.erase("rope_theta");
  for (const char* key : {"rope_type", "type"}) {
    Json scaling = rope;
    scaling.erase("rope_type");
    scaling[key] = "llama3";
    json["rope_scaling"] = scaling;
    test::write_file(folder / "config.json", json.dump());
    const ModelConfig earlier = read_config(folder.path());
    CHECK(earlier.rope.theta == current.rope.theta);
    CHECK(earlier.rope.factor == current.rope.factor);
    CHECK(earlier.rope.original_max_positions == 64);
    CHECK(earlier.hidden == current.hidden);
  }
  const ModelConfig uneven = read_config(golden / "qwen3-uneven");
  CHECK(uneven.rope.theta == 1e6);
  CHECK(uneven.head_dim == 16);
  CHECK(uneven.group() == 2);
}

TEST_CASE("generation_config.json gives sampling defaults, and may be missing") {
  const test::TempFolder folder;
  const GenerationDefaults absent = read_generation_config(folder.path());
  CHECK_FALSE(absent.do_sample);
  CHECK(absent.temperature == 1.0);
  CHECK(absent.top_k == 50);
  CHECK(absent.top_p == 1.0);
  CHECK(absent.min_p == 0.0);
  CHECK(absent.repetition_penalty == 1.0);
  CHECK_FALSE(absent.eos_token_ids.has_value());
  test::write_file(folder / "generation_config.json",
                   R"({"do_sample":true,"temperature":0.7,"top_k":20,"top_p":0.8,"min_p":null,
                       "repetition_penalty":1.05,"eos_token_id":[3,1],"pad_token_id":-1})");
  const GenerationDefaults given = read_generation_config(folder.path(), 10);
  CHECK(given.do_sample);
  CHECK(given.temperature == 0.7);
  CHECK(given.top_k == 20);
  CHECK(given.top_p == 0.8);
  CHECK(given.min_p == 0.0);
  CHECK(given.repetition_penalty == 1.05);
  CHECK(*given.eos_token_ids == Tokens{3, 1});
}
