#pragma once
// A GGUF file as a source of weights under the names of a Hugging Face folder, and its configuration.

#include <cmath>
#include <cstring>
#include <set>
#include <string>

#include <tessera/core/families.hpp>
#include <tessera/core/model_config.hpp>
#include <tessera/io/checkpoint_tensors.hpp>
#include <tessera/io/gguf.hpp>
#include <tessera/runtime/rope_factors.hpp>
#include <tessera/runtime/weight_source.hpp>

namespace tessera {

namespace detail {

/// blk.3.attn_q.weight for model.layers.3.self_attn.q_proj.weight. Throws Error for a name that GGUF has no tensor for.
[[nodiscard]] inline std::string gguf_name(std::string_view name) {
  static constexpr std::pair<std::string_view, std::string_view> of_model[] = {
      {"model.embed_tokens.weight", "token_embd.weight"},
      {"model.norm.weight", "output_norm.weight"},
      {"lm_head.weight", "output.weight"}};
  static constexpr std::pair<std::string_view, std::string_view> of_layer[] = {
      {"input_layernorm", "attn_norm"},    {"self_attn.q_proj", "attn_q"},
      {"self_attn.k_proj", "attn_k"},      {"self_attn.v_proj", "attn_v"},
      {"self_attn.o_proj", "attn_output"}, {"self_attn.q_norm", "attn_q_norm"},
      {"self_attn.k_norm", "attn_k_norm"}, {"post_attention_layernorm", "ffn_norm"},
      {"mlp.gate_proj", "ffn_gate"},       {"mlp.up_proj", "ffn_up"},
      {"mlp.down_proj", "ffn_down"}};
  for (const auto& [ours, theirs] : of_model)
    if (name == ours) return std::string(theirs);
  constexpr std::string_view prefix = "model.layers.";
  if (name.starts_with(prefix)) {
    const std::size_t dot = name.find('.', prefix.size()), last = name.rfind('.');
    const std::string_view part = name.substr(dot + 1, last - dot - 1);
    for (const auto& [ours, theirs] : of_layer)
      if (part == ours)
        return concat("blk.", name.substr(prefix.size(), dot - prefix.size()), '.', theirs, name.substr(last));
  }
  fail(name, ": has no counterpart in GGUF");
}

/// Throws Error if the file has a tensor that the model computes nothing with, such as a bias that llama.cpp adds where
/// it finds one: without it the weights are those of another model.
inline void refuse_unused(const Gguf& file, const ModelConfig& model) {
  std::set<std::string, std::less<>> used = {"rope_freqs.weight"};  // gguf_config() makes model.rope of it
  for (const TensorSpec& tensor : checkpoint_tensors(model, StoredType::f32)) used.insert(gguf_name(tensor.name));
  for (const auto& [name, tensor] : file.tensors())
    require(used.contains(name), file.path(), ": ", excerpt(name), ": expected tensors that ", model.model_type,
            " with a block_count of ", model.layers, " computes with, found one that would be left out");
}

}  // namespace detail

/// The configuration that a file's metadata describe. Throws Error, naming the key, if the architecture is not
/// supported, or a number is missing or impossible, or the rotary embedding is rescaled in
/// another way than Llama 3 does (rope_freqs.weight) or turns a part of each head only; and, naming the tensor, if the
/// model has no use for one.
[[nodiscard]] inline ModelConfig gguf_config(const Gguf& file) {
  const auto architecture = file.value<std::string>("general.architecture");
  const Family& family = family_named(architecture, concat(file.path(), ": general.architecture"));
  const auto key = [&](std::string_view name) { return concat(architecture, '.', name); };
  // A number of the metadata; where there is none, `otherwise`, unless that is 0.
  const auto size = [&](std::string_view name, index_t most, index_t otherwise = 0) {
    const index_t number =
        otherwise > 0 ? file.find_value<index_t>(key(name)).value_or(otherwise) : file.value<index_t>(key(name));
    require(1 <= number && number <= most, file.path(), ": ", key(name), ": expected 1 to ", most, ", found ", number);
    return number;
  };
  ModelConfig model;
  model.model_type = family.model_type;
  model.layers = size("block_count", most_sizes.layers);
  // What follows from a configuration is as long as it has layers: no file makes that longer than itself.
  const auto tensors = static_cast<index_t>(file.tensors().size());
  require(model.layers <= tensors, file.path(), ": ", key("block_count"),
          ": expected layers of which each has tensors, found ", model.layers, " of them and ", tensors, " tensors");
  model.hidden = size("embedding_length", most_sizes.hidden);
  model.intermediate = size("feed_forward_length", most_sizes.intermediate);
  model.heads = size("attention.head_count", most_sizes.heads);
  model.kv_heads = size("attention.head_count_kv", most_sizes.heads, model.heads);
  require(model.heads % model.kv_heads == 0, file.path(), ": expected ", model.heads, " heads to be a multiple of ",
          model.kv_heads, " KV heads");
  model.head_dim = size("attention.key_length", most_sizes.head_dim, std::max<index_t>(1, model.hidden / model.heads));
  require(model.head_dim % 2 == 0, file.path(), ": expected heads of an even width, found ", model.head_dim);
  model.max_positions = size("context_length", most_sizes.positions);
  model.rms_norm_eps = file.value<double>(key("attention.layer_norm_rms_epsilon"));
  require(model.rms_norm_eps > 0 && model.rms_norm_eps < 1, file.path(), ": ", key("attention.layer_norm_rms_epsilon"),
          ": expected a number between 0 and 1, found ", model.rms_norm_eps);
  model.rope.theta = file.find_value<double>(key("rope.freq_base")).value_or(10000.0);
  require(model.rope.theta > 1 && std::isfinite(model.rope.theta), file.path(), ": ", key("rope.freq_base"),
          ": expected a finite number above 1, found ", model.rope.theta);
  const index_t rotated = file.find_value<index_t>(key("rope.dimension_count")).value_or(model.head_dim);
  require(rotated == model.head_dim, file.path(), ": ", key("rope.dimension_count"), ": expected ", model.head_dim,
          ", the width of a head, found ", rotated);
  const auto scaling = file.find_value<std::string>(key("rope.scaling.type")).value_or("none");
  require(scaling == "none", file.path(), ": ", key("rope.scaling.type"), ": expected none, found ", excerpt(scaling),
          ": convert the folder of the model");
  if (const GgufTensor* factors = file.find("rope_freqs.weight")) {
    const std::string where = concat(file.path(), ": rope_freqs.weight");
    const index_t pairs = model.head_dim / 2;
    require(factors->type == GgufType::f32 && factors->shape == std::vector{pairs}, where, ": expected f32 ",
            shape_text({pairs}), ", found ", shape_text(factors->shape));
    std::vector<float> values(static_cast<std::size_t>(pairs));
    std::memcpy(values.data(), factors->data, values.size() * sizeof(float));
    model.rope = rope_of_factors(model.rope.theta, values, where);
  }
  const GgufTensor* embedding = file.find("token_embd.weight");
  require(embedding != nullptr && embedding->shape.size() == 2, file.path(),
          ": expected a matrix token_embd.weight, found none");
  model.vocab = embedding->shape[0];
  model.tied_embeddings = file.find("output.weight") == nullptr;
  model.attention_bias = family.qkv_bias;
  const auto token = [&](std::string_view name) {
    const index_t id = file.find_value<index_t>(name).value_or(-1);
    require(-1 <= id && id < model.vocab, file.path(), ": ", name, ": expected a token below ", model.vocab, ", found ",
            id);
    return static_cast<token_t>(id);
  };
  model.bos_token_id = token("tokenizer.ggml.bos_token_id");
  if (const token_t eos = token("tokenizer.ggml.eos_token_id"); eos >= 0) model.eos_token_ids = {eos};
  detail::refuse_unused(file, model);
  return model;
}

/// The weights of an open GGUF file. What is in blocks there, and is not converted, becomes f16 or f32.
class GgufSource final : public WeightSource {
 public:
  GgufSource(const Gguf& file, const ModelConfig& model) : file_(&file), model_(model) {}

  [[nodiscard]] StoredType stored_as(const TensorSpec& tensor) const override {
    const GgufTensor& found = tensor_of(tensor);
    require(found.shape == tensor.shape, tensor.name, ": expected ", shape_text(tensor.shape), ", ", file_->path(),
            " has ", shape_text(found.shape), " (", found.name, ")");
    switch (found.type) {
      case GgufType::f32: return StoredType::f32;
      case GgufType::bf16: return StoredType::bf16;
      default: return StoredType::f16;
    }
  }

  void read(const TensorSpec& tensor, Range rows, float* out) const override {
    const GgufTensor& found = tensor_of(tensor);
    const Block block = block_of(found.type);
    const index_t cols = found.cols(), row_bytes = cols / block.elements * block.bytes;
    for (index_t r = rows.begin; r < rows.end; ++r, out += cols) {
      const std::byte* from = found.data + row_of(tensor.name, r) * row_bytes;
      for (index_t b = 0; b < cols / block.elements; ++b)
        decode_block(found.type, from + b * block.bytes, out + b * block.elements);
    }
  }

  void check_unchanged() const override { file_->check_unchanged(); }

 private:
  [[nodiscard]] const GgufTensor& tensor_of(const TensorSpec& tensor) const {
    const std::string name = detail::gguf_name(tensor.name);
    const GgufTensor* found = file_->find(name);
    require(found != nullptr, tensor.name, ": expected ", shape_text(tensor.shape), " as ", name, ", ", file_->path(),
            " has no such tensor");
    return *found;
  }
  /// Where row `row` of a tensor lies. llama.cpp's llama rotates neighbours 2i and 2i + 1 of a head where the folder's
  /// rotates i and i + D/2, and its converter permutes the rows of q and k so (convert_hf_to_gguf.py, permute).
  [[nodiscard]] index_t row_of(std::string_view name, index_t row) const {
    const bool rotated = name.ends_with("q_proj.weight") || name.ends_with("k_proj.weight");
    if (!rotated || file_->value<std::string>("general.architecture") != "llama") return row;
    const index_t in_head = row % model_.head_dim, half = model_.head_dim / 2;
    return row - in_head + in_head % half * 2 + in_head / half;
  }

  const Gguf* file_;
  ModelConfig model_;
};

}  // namespace tessera
