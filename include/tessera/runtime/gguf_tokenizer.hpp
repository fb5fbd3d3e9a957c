#pragma once
// The byte-level BPE tokenizer in a GGUF file's metadata, as the text of a tokenizer.json.

#include <string>

#include <tessera/io/gguf.hpp>
#include <tessera/io/json.hpp>

namespace tessera {

/// Throws Error if the file has another kind of tokenizer, one whose way to cut words is not known here, or lists that
/// do not belong together: the tokenizer of the model's folder serves then.
[[nodiscard]] inline std::string gguf_tokenizer_json(const Gguf& file) {
  const auto refuse = [&](const auto&... what) {
    fail(file.path(), ": ", what..., ": give the folder of the model's tokenizer, --tokenizer DIR");
  };
  const auto kind = file.find_value<std::string>("tokenizer.ggml.model").value_or("none");
  if (kind != "gpt2") refuse("expected a byte-level BPE tokenizer (gpt2), found ", excerpt(kind));
  const auto cut = file.find_value<std::string>("tokenizer.ggml.pre").value_or("default");
  // Digits one by one, or up to three together.
  if (cut != "qwen2" && cut != "llama-bpe") refuse("expected words cut as by qwen2 or llama-bpe, found ", excerpt(cut));
  const std::string digits = cut == "qwen2" ? R"(\p{N})" : R"(\p{N}{1,3})";
  const std::string words = R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|)" + digits +
                            R"(| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

  const auto tokens = file.value<std::vector<std::string>>("tokenizer.ggml.tokens");
  const auto kinds = file.value<std::vector<double>>("tokenizer.ggml.token_type");
  if (kinds.size() != tokens.size()) refuse(tokens.size(), " tokens and ", kinds.size(), " token types");
  constexpr double control = 3, defined_by_user = 4;
  Json vocabulary = Json::object(), added = Json::array(), merges = Json::array();
  for (std::size_t id = 0; id < tokens.size(); ++id) {
    if (kinds[id] == control || kinds[id] == defined_by_user) {
      added.push_back({{"id", id},
                       {"content", tokens[id]},
                       {"single_word", false},
                       {"lstrip", false},
                       {"rstrip", false},
                       {"normalized", false},
                       {"special", kinds[id] == control}});
    } else {
      vocabulary[tokens[id]] = id;
    }
  }
  for (const std::string& merge : file.value<std::vector<std::string>>("tokenizer.ggml.merges")) {
    const std::size_t space = merge.find(' ', 1);
    if (space == std::string::npos) refuse("expected merges of two tokens, found ", excerpt(merge));
    merges.push_back({merge.substr(0, space), merge.substr(space + 1)});
  }
  Json split = {{"type", "Split"}, {"pattern", {{"Regex", words}}}, {"behavior", "Isolated"}, {"invert", false}};
  Json bytes = {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", false}};
  Json json = {{"version", "1.0"},
               {"added_tokens", added},
               {"normalizer", cut == "qwen2" ? Json({{"type", "NFC"}}) : Json(nullptr)},
               {"pre_tokenizer", {{"type", "Sequence"}, {"pretokenizers", {split, bytes}}}},
               {"decoder", bytes},
               {"model", {{"type", "BPE"}, {"vocab", vocabulary}, {"merges", merges}}}};
  if (file.find_value<bool>("tokenizer.ggml.add_bos_token").value_or(cut == "llama-bpe")) {
    const auto bos = static_cast<std::size_t>(file.value<index_t>("tokenizer.ggml.bos_token_id"));
    if (bos >= tokens.size()) refuse("tokenizer.ggml.bos_token_id: found ", bos, " of ", tokens.size(), " tokens");
    json["post_processor"] = {
        {"type", "TemplateProcessing"},
        {"single",
         {{{"SpecialToken", {{"id", tokens[bos]}, {"type_id", 0}}}}, {{"Sequence", {{"id", "A"}, {"type_id", 0}}}}}},
        {"special_tokens", {{tokens[bos], {{"id", tokens[bos]}, {"ids", {bos}}, {"tokens", {tokens[bos]}}}}}}};
  }
  return json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace tessera
