#pragma once
// generation_config.json: where a checkpoint's authors say how to sample from it and what ends a text.

#include <filesystem>
#include <optional>
#include <vector>

#include <tessera/core/open_file.hpp>
#include <tessera/core/sampling_limits.hpp>
#include <tessera/io/json.hpp>

namespace tessera {

/// What generation_config.json asks for; a field that it leaves out has transformers' default.
struct GenerationDefaults {
  bool do_sample = false;
  double temperature = 1.0;
  index_t top_k = 50;  ///< 0: no limit
  double top_p = 1.0;
  double min_p = 0.0;
  double repetition_penalty = 1.0;
  std::optional<std::vector<token_t>> eos_token_ids;  ///< nothing: the file does not say
  std::optional<token_t> bos_token_id;
};

namespace detail {

inline constexpr index_t largest_config = index_t{16} << 20;
inline constexpr index_t largest_token = (index_t{1} << 28) - 1;  // far beyond any vocabulary

/// The file's JSON, or nothing where there is no such file.
inline std::optional<Json> read_json_if_present(const std::filesystem::path& path) {
  std::error_code unused;
  if (std::filesystem::symlink_status(path, unused).type() == std::filesystem::file_type::not_found) {
    return std::nullopt;
  }
  return parse_json(read_text(path, largest_config), path.string());
}

/// `eos_token_id`: one id or a list of them.
inline std::optional<std::vector<token_t>> find_eos(const JsonObject& config, index_t vocab) {
  const Json* field = config.find("eos_token_id");
  if (field == nullptr) return std::nullopt;
  const std::string where = concat(config.where(), ": eos_token_id");
  std::vector<token_t> ids;
  const auto add = [&](const Json& id) {
    ids.push_back(static_cast<token_t>(JsonObject::as_integer(id, where, 0, vocab - 1)));
  };
  if (field->is_array()) {
    for (const Json& id : *field) add(id);
  } else {
    add(*field);
  }
  return ids;
}

inline std::optional<token_t> find_bos(const JsonObject& config, index_t vocab) {
  const auto id = config.find_integer("bos_token_id", 0, vocab - 1);
  if (!id) return std::nullopt;
  return static_cast<token_t>(*id);
}

inline double number_within(const JsonObject& config, std::string_view key, double absent, NumberRange range) {
  const double number = config.find_number(key).value_or(absent);
  require(range.contains(number), config.where(), ": ", key, ": expected a number from ", range.least, " to ",
          range.most, ", found ", number);
  return number;
}

}  // namespace detail

/// Reads generation_config.json of a checkpoint's folder; all defaults where there is none. `vocab` bounds the token
/// ids. Throws Error, naming the field, if one has a wrong type or lies outside its range.
[[nodiscard]] inline GenerationDefaults read_generation_config(const std::filesystem::path& folder,
                                                               index_t vocab = detail::largest_token + 1) {
  const std::filesystem::path path = folder / "generation_config.json";
  const auto json = detail::read_json_if_present(path);
  GenerationDefaults defaults;
  if (!json) return defaults;
  const JsonObject config(*json, path.string());
  defaults.do_sample = config.find_flag("do_sample").value_or(defaults.do_sample);
  defaults.temperature =
      detail::number_within(config, "temperature", defaults.temperature, sampling_limits::temperature);
  defaults.top_k = config.find_integer("top_k", 0, detail::largest_token).value_or(defaults.top_k);
  defaults.top_p = detail::number_within(config, "top_p", defaults.top_p, sampling_limits::top_p);
  defaults.min_p = detail::number_within(config, "min_p", defaults.min_p, sampling_limits::min_p);
  defaults.repetition_penalty = detail::number_within(config, "repetition_penalty", defaults.repetition_penalty,
                                                      sampling_limits::repetition_penalty);
  defaults.eos_token_ids = detail::find_eos(config, vocab);
  defaults.bos_token_id = detail::find_bos(config, vocab);
  return defaults;
}

}  // namespace tessera
