// Configurations that are broken, absurd or beyond what the model code computes: each is an Error that names the field.
#include "catch.hpp"

#include <tessera/io/hf_config.hpp>
#include "io/temp_folder.hpp"

using namespace tessera;
using test::error_of;

namespace {

Json sound(std::string_view model_type = "llama") {
  return {{"model_type", model_type},       {"hidden_size", 64},       {"num_hidden_layers", 3},
          {"num_attention_heads", 8},       {"head_dim", 16},          {"num_key_value_heads", 4},
          {"intermediate_size", 96},        {"vocab_size", 320},       {"rms_norm_eps", 1e-6},
          {"max_position_embeddings", 512}, {"rope_theta", 1000000.0}, {"eos_token_id", 2}};
}

/// The error of a config.json with this text, without the file's path.
std::string text_error(std::string_view text) {
  const test::TempFolder folder;
  test::write_file(folder / "config.json", text);
  const std::string error = error_of([&] { (void)read_config(folder.path()); });
  const std::string where = (folder / "config.json").string() + ": ";
  return error.find(where) == 0 ? error.substr(where.size()) : error;
}

/// The error of a sound config with one field changed to the value that `value` spells.
std::string field_error(const char* key, std::string_view value, std::string_view model_type = "llama") {
  Json config = sound(model_type);
  config[key] = Json::parse(value);
  return text_error(config.dump());
}

}  // namespace

TEST_CASE("a config without a field is refused with the field's name") {
  for (const char* key : {"model_type", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size",
                          "vocab_size", "rms_norm_eps", "max_position_embeddings"}) {
    Json config = sound();
    config.erase(key);
    CHECK(text_error(config.dump()) == concat(key, " is missing"));
    CHECK(field_error(key, "null") == concat(key, " is missing"));
  }
  Json config = sound("qwen3");
  config.erase("rope_theta");
  CHECK(text_error(config.dump()) == "rope_theta is missing (and rope_parameters.rope_theta as well)");
  config["rope_parameters"] = {{"rope_type", "default"}};
  CHECK(text_error(config.dump()) == "rope_theta is missing (and rope_parameters.rope_theta as well)");
  REQUIRE(text_error(sound().dump()).empty());
}

TEST_CASE("a size that is no positive whole number, or is absurd, is refused with the field's name") {
  for (const char* key : {"hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim",
                          "intermediate_size", "vocab_size", "max_position_embeddings"})
    for (const std::string_view value :
         {"0", "-1", "-9223372036854775808", "64.0", "1.5", "1e3", "\"64\"", "true", "[64]", "{}", "4294967296",
          "9223372036854775807", "18446744073709551615", "18446744073709551616", "1e300"}) {
      INFO(key << " = " << value);
      CHECK(field_error(key, value).find(concat(key, ": expected a whole number from 1 to ")) == 0);
    }
}

TEST_CASE("a real number that is none, or out of range, is refused with the field's name") {
  CHECK(field_error("rms_norm_eps", "0") == "rms_norm_eps: expected a positive number, found 0");
  CHECK(field_error("rms_norm_eps", "-1e-6") == "rms_norm_eps: expected a positive number, found -1e-06");
  CHECK(field_error("rms_norm_eps", "1") == "rms_norm_eps: expected a number below 1, found 1");
  CHECK(field_error("rms_norm_eps", "\"1e-6\"") == "rms_norm_eps: expected a number, found \"1e-6\"");
  CHECK(field_error("rope_theta", "0") == "rope_theta: expected a number above 1, found 0");
  CHECK(field_error("rope_theta", "[]") == "rope_theta: expected a number, found an array of 0");
  CHECK(text_error(R"({"model_type":"llama","rms_norm_eps":1e999})") == "not valid JSON: a number is too large");
  CHECK(text_error(R"({"model_type":"llama","rms_norm_eps":NaN})").find("not valid JSON at byte") == 0);
}

TEST_CASE("numbers that do not go together are refused with both") {
  CHECK(field_error("num_key_value_heads", "3") ==
        "expected num_attention_heads (8) to be a multiple of num_key_value_heads (3)");
  CHECK(field_error("num_key_value_heads", "16") ==
        "expected num_attention_heads (8) to be a multiple of num_key_value_heads (16)");
  CHECK(field_error("head_dim", "15") == "head_dim: expected an even number, found 15");
  Json config = sound();
  config.erase("head_dim");
  config["hidden_size"] = 63;
  CHECK(text_error(config.dump()) ==
        "expected head_dim, or hidden_size (63) to be a multiple of num_attention_heads (8)");
  config["hidden_size"] = 56;
  CHECK(text_error(config.dump()) == "head_dim: expected an even number, found 7");
}

TEST_CASE("what the library does not compute is refused by name") {
  const std::string unknown = field_error("model_type", "\"mamba\"");
  CHECK(unknown.find("model_type: expected one of qwen3, qwen2, llama") == 0);
  CHECK(unknown.find(", found \"mamba\"") != std::string::npos);
  CHECK(field_error("model_type", "7") == "model_type: expected a string, found 7");
  CHECK(field_error("hidden_act", "\"gelu\"") == "hidden_act: expected silu, found \"gelu\"");
  CHECK(field_error("attention_bias", "true") == "attention_bias: true is not supported for llama");
  CHECK(field_error("attention_bias", "true", "qwen3") == "attention_bias: true is not supported for qwen3");
  CHECK(field_error("attention_bias", "1") == "attention_bias: expected true or false, found 1");
  CHECK(field_error("mlp_bias", "true") == "mlp_bias: true is not supported");
  CHECK(field_error("attention_out_bias", "true") == "attention_out_bias: true is not supported");
  CHECK(field_error("tie_word_embeddings", "\"yes\"") == "tie_word_embeddings: expected true or false, found \"yes\"");
  CHECK(field_error("quantization_config", R"({"quant_method":"gptq","bits":4})") ==
        "quantization_config: expected weights in bf16, f16 or f32, or blocks as tessera quantize writes them, found "
        "quantisation \"gptq\"");
  CHECK(field_error("quantization_config", "{}").find("found quantisation \"unnamed\"") != std::string::npos);
  CHECK(field_error("quantization_config", "4") == "quantization_config: expected a JSON object, found 4");
  CHECK(field_error("partial_rotary_factor", "0.5") == "partial_rotary_factor: expected 1, found 0.5");
}

TEST_CASE("a rotary embedding other than default and llama3 is refused by name, in both spellings") {
  for (const std::string_view type : {"yarn", "linear", "dynamic", "longrope", "LLAMA3", ""})
    for (const char* spelling : {"rope_scaling", "rope_parameters"})
      for (const char* key : {"rope_type", "type"}) {
        const std::string expected = concat(spelling, ": rope_type: expected default or llama3, found \"", type, '"');
        CHECK(field_error(spelling, concat("{\"", key, "\":\"", type, "\",\"factor\":4.0}")) == expected);
      }
  const std::string good = R"("factor":8.0,"low_freq_factor":1.0,"high_freq_factor":4.0)";
  const auto error = [](std::string_view fields) {
    return field_error("rope_scaling", concat(R"({"rope_type":"llama3",)", fields, "}"));
  };
  REQUIRE(error(good + R"(,"original_max_position_embeddings":64)").empty());
  CHECK(error(good) == "rope_scaling: original_max_position_embeddings is missing");
  CHECK(error(R"("low_freq_factor":1.0)") == "rope_scaling: factor is missing");
  CHECK(error(R"("factor":0)") == "rope_scaling: factor: expected a positive number, found 0");
  CHECK(error(R"("factor":8,"low_freq_factor":4,"high_freq_factor":4,"original_max_position_embeddings":64)") ==
        "rope_scaling: expected high_freq_factor above low_freq_factor, found 4 and 4");
  CHECK(field_error("rope_scaling", "4") == "rope_scaling: expected a JSON object, found 4");
  CHECK(field_error("rope_parameters", R"({"full_attention":{"rope_theta":1e4}})")
            .find("rope_parameters: rotary embeddings that differ by layer") == 0);
  CHECK(field_error("rope_parameters", R"({"rope_theta":500000.0})") ==
        "rope_theta is 1e+06 and rope_parameters.rope_theta is 5e+05: expected one base");
}

TEST_CASE("a sliding window is refused where it would be used, and only there") {
  Json config = sound("qwen2");
  config["sliding_window"] = 4096;
  config["use_sliding_window"] = false;
  config["max_window_layers"] = 1;
  CHECK(text_error(config.dump()).empty());
  config["use_sliding_window"] = true;
  CHECK(text_error(config.dump()) == "use_sliding_window: a sliding window from layer 1 of 3 on is not supported");
  config["max_window_layers"] = 3;
  CHECK(text_error(config.dump()).empty());
  config["layer_types"] = {"full_attention", "full_attention", "sliding_attention"};
  CHECK(text_error(config.dump()) ==
        "layer_types: expected full_attention in every layer, found \"sliding_attention\"");
  config["layer_types"] = {"full_attention"};
  CHECK(text_error(config.dump()) == "layer_types: expected 3 entries, one per layer, found an array of 1");
}

TEST_CASE("Mistral's sliding window is refused, also where its config leaves the field out") {
  const auto error = [](std::string_view window) { return field_error("sliding_window", window, "mistral"); };
  const std::string expected = "sliding_window: expected null or at least 512 (max_position_embeddings), found ";
  CHECK(error("null").empty());
  CHECK(error("512").empty());  // no position is further away
  CHECK(error("511") == expected + "511: a window is not supported");
  CHECK(error("0").find("sliding_window: expected a whole number from 1 to ") == 0);
  Json config = sound("mistral");
  CHECK(text_error(config.dump()).empty());  // the default window is wider than these positions
  config["max_position_embeddings"] = 32768;
  CHECK(text_error(config.dump()).find("found 4096: a window is not supported") != std::string::npos);
}

TEST_CASE("token ids outside the vocabulary are refused, in config.json and generation_config.json") {
  CHECK(field_error("eos_token_id", "320") == "eos_token_id: expected a whole number from 0 to 319, found 320");
  CHECK(field_error("eos_token_id", "[1,-1]") == "eos_token_id: expected a whole number from 0 to 319, found -1");
  CHECK(field_error("eos_token_id", "[[1]]").find("found an array of 1") != std::string::npos);
  CHECK(field_error("eos_token_id", "null").empty());
  CHECK(field_error("bos_token_id", "\"<s>\"").find("bos_token_id: expected a whole number") == 0);
  const test::TempFolder folder;
  test::write_file(folder / "config.json", sound().dump());
  const auto path = folder / "generation_config.json";
  const auto error = [&](std::string_view text) {
    test::write_file(path, text);
    const std::string found = error_of([&] { (void)read_config(folder.path()); });
    return found.find(path.string() + ": ") == 0 ? found.substr(path.string().size() + 2) : found;
  };
  CHECK(error(R"({"eos_token_id":999})") == "eos_token_id: expected a whole number from 0 to 319, found 999");
  CHECK(error(R"({"temperature":-1})") == "temperature: expected a number from 0 to 1000, found -1");
  CHECK(error(R"({"top_p":1.5})") == "top_p: expected a number from 0 to 1, found 1.5");
  CHECK(error(R"({"top_k":-1})").find("top_k: expected a whole number from 0 to") == 0);
  CHECK(error(R"({"repetition_penalty":0})").find("repetition_penalty: expected a number from 0.001") == 0);
  CHECK(error(R"({"do_sample":1})") == "do_sample: expected true or false, found 1");
  CHECK(error("[]") == "expected a JSON object, found an array of 0");
  CHECK(error("").find("not valid JSON at byte") == 0);
  std::filesystem::remove(path);
  std::filesystem::create_symlink("gone", path);
  CHECK(error_of([&] { (void)read_config(folder.path()); }) == path.string() + ": No such file or directory");
}

TEST_CASE("a config.json cut at any byte, or of another kind, is refused") {
  const std::string whole = sound().dump();
  for (std::size_t length = 0; length < whole.size(); ++length)
    CHECK(text_error(std::string_view(whole).substr(0, length)).find("not valid JSON at byte") == 0);
  CHECK(text_error("[]") == "expected a JSON object, found an array of 0");
  CHECK(text_error("null") == "expected a JSON object, found null");
  CHECK(text_error(whole + whole).find("not valid JSON") == 0);
  CHECK(text_error(R"({"hidden_size":1,"hidden_size":2})") == "\"hidden_size\" appears twice");
  CHECK(text_error(std::string(1'000'000, '[')) == "expected at most 64 levels of nesting, found more");
  const test::TempFolder folder;
  const std::string path = folder.path().string();
  const std::string expected = ": expected config.json, as in the folder of a published model, found ";
  CHECK(error_of([&] { (void)read_config(folder.path()); }) == path + expected + "none");
  CHECK(error_of([&] { (void)read_config(folder / "gone"); }) ==
        path + "/gone" + expected + "no such folder; `hf download NAME --local-dir FOLDER` gets a published model");
  CHECK(error_of([&] { (void)read_config(folder / "model.gguf"); }).find("found GGUF") != std::string::npos);
}
