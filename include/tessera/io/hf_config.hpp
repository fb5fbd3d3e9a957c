#pragma once
// config.json of a Hugging Face folder -> ModelConfig, in the spelling of transformers 4 (rope_theta, rope_scaling) and
// of transformers 5 (rope_parameters). What the model code does not compute is refused by name, never ignored.

#include <filesystem>
#include <string>

#include <tessera/core/families.hpp>
#include <tessera/core/model_config.hpp>
#include <tessera/io/generation_config.hpp>

namespace tessera {

namespace detail {

/// The quant_method of a checkpoint whose weights are in blocks (docs/quantisation.md); its tensors say in which.
inline constexpr std::string_view own_quantization = "tessera";

inline double positive(const JsonObject& config, std::string_view key) {
  const double number = config.number(key);
  require(number > 0, config.where(), ": ", key, ": expected a positive number, found ", number);
  return number;
}

/// Reads "default" and "llama3" from the object that holds the rope's parameters in either spelling.
inline void read_rope_scaling(const JsonObject& scaling, RopeConfig& rope) {
  // transformers before 4.43 wrote the type as "type"; where both stand, "rope_type" counts.
  const std::string type =
      scaling.find("rope_type") != nullptr ? scaling.text("rope_type") : scaling.find_text("type").value_or("default");
  const double rotated = scaling.find_number("partial_rotary_factor").value_or(1.0);
  require(rotated == 1.0, scaling.where(), ": partial_rotary_factor: expected 1, found ", rotated);
  if (type == "default") return;
  require(type == "llama3", scaling.where(), ": rope_type: expected default or llama3, found \"", excerpt(type), '"');
  rope.factor = positive(scaling, "factor");
  rope.low_freq_factor = positive(scaling, "low_freq_factor");
  rope.high_freq_factor = positive(scaling, "high_freq_factor");
  rope.original_max_positions = scaling.integer("original_max_position_embeddings", 1, most_sizes.positions);
  // The band between the two is divided by their difference.
  require(rope.high_freq_factor > rope.low_freq_factor, scaling.where(), ": expected high_freq_factor above ",
          "low_freq_factor, found ", rope.high_freq_factor, " and ", rope.low_freq_factor);
}

inline RopeConfig read_rope(const JsonObject& config, const Family& family) {
  RopeConfig rope;
  const double rotated = config.find_number("partial_rotary_factor").value_or(1.0);
  require(rotated == 1.0, config.where(), ": partial_rotary_factor: expected 1, found ", rotated);
  std::optional<double> theta = config.find_number("rope_theta");
  if (config.find("rope_scaling") != nullptr) read_rope_scaling(config.object("rope_scaling"), rope);
  if (config.find("rope_parameters") != nullptr) {
    const JsonObject parameters = config.object("rope_parameters");
    require(config.find("rope_scaling") == nullptr, config.where(),
            ": expected rope_scaling or rope_parameters, found both");
    for (const std::string_view kind : {"full_attention", "sliding_attention"})
      require(parameters.find(kind) == nullptr, parameters.where(), ": rotary embeddings that differ by layer (", kind,
              ") are not supported");
    const std::optional<double> inner = parameters.find_number("rope_theta");
    require(!inner || !theta || *inner == *theta, config.where(), ": rope_theta is ", theta.value_or(0),
            " and rope_parameters.rope_theta is ", inner.value_or(0), ": expected one base");
    if (inner) theta = inner;
    read_rope_scaling(parameters, rope);
  }
  if (!theta && family.default_rope_theta > 0) theta = family.default_rope_theta;
  require(theta.has_value(), config.where(), ": rope_theta is missing (and rope_parameters.rope_theta as well)");
  require(*theta > 1, config.where(), ": rope_theta: expected a number above 1, found ", *theta);
  rope.theta = *theta;
  return rope;
}

/// Throws Error if some layer would attend to a window only.
inline void refuse_sliding_window(const JsonObject& config, const Family& family, const ModelConfig& model) {
  if (family.default_sliding_window > 0) {
    const index_t window = config.has("sliding_window")
                               ? config.find_integer("sliding_window", 1, INT64_MAX).value_or(INT64_MAX)
                               : family.default_sliding_window;
    require(window >= model.max_positions, config.where(), ": sliding_window: expected null or at least ",
            model.max_positions, " (max_position_embeddings), found ", window, ": a window is not supported");
    return;
  }
  const index_t layers = model.layers;
  if (const Json* types = config.find("layer_types")) {
    const std::string where = concat(config.where(), ": layer_types");
    require(types->is_array() && static_cast<index_t>(types->size()) == layers, where, ": expected ", layers,
            " entries, one per layer, found ", JsonObject::describe(*types));
    for (const Json& type : *types)
      require(type == "full_attention", where, ": expected full_attention in every layer, found ",
              JsonObject::describe(type));
    return;  // where the list stands, it decides
  }
  if (!config.find_flag("use_sliding_window").value_or(false)) return;
  const auto first_windowed = config.find_integer("max_window_layers", 0, INT64_MAX).value_or(28);
  require(first_windowed >= layers, config.where(), ": use_sliding_window: a sliding window from layer ",
          first_windowed, " of ", layers, " on is not supported");
}

inline void refuse_unsupported(const JsonObject& config, const Family& family) {
  const std::string activation = config.find_text("hidden_act").value_or("silu");
  require(activation == "silu", config.where(), ": hidden_act: expected silu, found \"", excerpt(activation), '"');
  if (config.find("quantization_config") != nullptr) {
    const JsonObject quantization = config.object("quantization_config");
    const std::string method = quantization.find_text("quant_method").value_or("unnamed");
    require(method == own_quantization, config.where(), ": quantization_config: expected weights in bf16, f16 or f32, ",
            "or blocks as tessera quantize writes them, found quantisation \"", excerpt(method), '"');
  }
  // With this flag o_proj has a bias as well. Qwen2 knows no such field: its q, k and v always have one, o never.
  require(family.qkv_bias || !config.find_flag("attention_bias").value_or(false), config.where(),
          ": attention_bias: true is not supported for ", family.model_type);
  for (const std::string_view bias : {"attention_out_bias", "mlp_bias"})
    require(!config.find_flag(bias).value_or(false), config.where(), ": ", bias, ": true is not supported");
}

/// What is there where a model's folder was expected, and what to do about it.
inline std::string_view in_place_of_model(const std::filesystem::path& folder) {
  std::error_code unused;
  if (folder.extension() == ".gguf")
    return "GGUF; `tessera quantize FILE.gguf --format int8 --out DIR` makes a folder of it";
  if (!std::filesystem::exists(folder, unused))
    return "no such folder; `hf download NAME --local-dir FOLDER` gets a published model";
  return std::filesystem::is_directory(folder, unused) ? "none" : "a file: name the folder that it is in";
}

}  // namespace detail

/// Reads config.json, and the token ids of generation_config.json where it is there. Throws Error, naming file and
/// field, if a field is missing, has a wrong type or an impossible value, or asks for something unsupported.
[[nodiscard]] inline ModelConfig read_config(const std::filesystem::path& folder) {
  const std::filesystem::path path = folder / "config.json";
  std::error_code unused;
  require(std::filesystem::symlink_status(path, unused).type() != std::filesystem::file_type::not_found,
          folder.string(), ": expected config.json, as in the folder of a published model, found ",
          detail::in_place_of_model(folder));
  const Json json = parse_json(read_text(path, detail::largest_config), path.string());
  const JsonObject config(json, path.string());
  const std::string model_type = config.text("model_type");
  const Family& family = family_named(excerpt(model_type), config.where());

  ModelConfig model;
  model.model_type = model_type;
  model.layers = config.integer("num_hidden_layers", 1, most_sizes.layers);
  model.hidden = config.integer("hidden_size", 1, most_sizes.hidden);
  model.heads = config.integer("num_attention_heads", 1, most_sizes.heads);
  // Checkpoints older than grouped-query attention do not have the field.
  model.kv_heads = config.find_integer("num_key_value_heads", 1, most_sizes.heads).value_or(model.heads);
  require(model.heads % model.kv_heads == 0, config.where(), ": expected num_attention_heads (", model.heads,
          ") to be a multiple of num_key_value_heads (", model.kv_heads, ")");
  if (const auto head_dim = config.find_integer("head_dim", 1, most_sizes.head_dim)) {
    model.head_dim = *head_dim;
  } else if (family.default_head_dim != 0) {
    model.head_dim = family.default_head_dim;
  } else {
    require(model.hidden % model.heads == 0, config.where(), ": expected head_dim, or hidden_size (", model.hidden,
            ") to be a multiple of num_attention_heads (", model.heads, ")");
    model.head_dim = model.hidden / model.heads;
  }
  require(model.head_dim % 2 == 0, config.where(), ": head_dim: expected an even number, found ", model.head_dim);
  model.intermediate = config.integer("intermediate_size", 1, most_sizes.intermediate);
  model.vocab = config.integer("vocab_size", 1, detail::largest_token + 1);
  model.max_positions = config.integer("max_position_embeddings", 1, most_sizes.positions);
  model.rms_norm_eps = detail::positive(config, "rms_norm_eps");
  require(model.rms_norm_eps < 1, config.where(), ": rms_norm_eps: expected a number below 1, found ",
          model.rms_norm_eps);
  model.rope = detail::read_rope(config, family);
  model.tied_embeddings = config.find_flag("tie_word_embeddings").value_or(false);
  model.attention_bias = family.qkv_bias;
  detail::refuse_sliding_window(config, family, model);
  detail::refuse_unsupported(config, family);

  const GenerationDefaults generation = read_generation_config(folder, model.vocab);
  model.eos_token_ids = generation.eos_token_ids
                            ? *generation.eos_token_ids
                            : detail::find_eos(config, model.vocab).value_or(std::vector<token_t>{});
  model.bos_token_id = generation.bos_token_id.value_or(detail::find_bos(config, model.vocab).value_or(-1));
  return model;
}

}  // namespace tessera
