#pragma once
// config.json of published models, in the order of fields and spelling in which each was published.

#include <string_view>

namespace test {

struct PublishedConfig {
  std::string_view name;
  std::string_view config;
  std::string_view generation;  // empty: no such file
};

inline constexpr PublishedConfig published_configs[] = {
    {"Qwen3-0.6B",
     R"({"architectures":["Qwen3ForCausalLM"],"attention_bias":false,"attention_dropout":0.0,"bos_token_id":151643,
"eos_token_id":151645,"head_dim":128,"hidden_act":"silu","hidden_size":1024,"initializer_range":0.02,
"intermediate_size":3072,"max_position_embeddings":40960,"max_window_layers":28,"model_type":"qwen3",
"num_attention_heads":16,"num_hidden_layers":28,"num_key_value_heads":8,"rms_norm_eps":1e-06,"rope_scaling":null,
"rope_theta":1000000,"sliding_window":null,"tie_word_embeddings":true,"torch_dtype":"bfloat16",
"transformers_version":"4.51.0","use_cache":true,"use_sliding_window":false,"vocab_size":151936})",
     R"({"bos_token_id":151643,"do_sample":true,"eos_token_id":[151645,151643],"pad_token_id":151643,
"temperature":0.6,"top_k":20,"top_p":0.95,"transformers_version":"4.51.0"})"},
    {"Qwen2.5-0.5B",
     R"({"architectures":["Qwen2ForCausalLM"],"attention_dropout":0.0,"bos_token_id":151643,"eos_token_id":151643,
"hidden_act":"silu","hidden_size":896,"initializer_range":0.02,"intermediate_size":4864,
"max_position_embeddings":32768,"max_window_layers":24,"model_type":"qwen2","num_attention_heads":14,
"num_hidden_layers":24,"num_key_value_heads":2,"rms_norm_eps":1e-06,"rope_theta":1000000.0,"sliding_window":32768,
"tie_word_embeddings":true,"torch_dtype":"bfloat16","transformers_version":"4.40.1","use_cache":true,
"use_mrope":false,"use_sliding_window":false,"vocab_size":151936})",
     R"({"bos_token_id":151643,"do_sample":false,"eos_token_id":151643,"max_new_tokens":2048,
"transformers_version":"4.37.0"})"},
    {"Qwen2-7B",
     R"({"architectures":["Qwen2ForCausalLM"],"attention_dropout":0.0,"bos_token_id":151643,"eos_token_id":151643,
"hidden_act":"silu","hidden_size":3584,"initializer_range":0.02,"intermediate_size":18944,
"max_position_embeddings":131072,"max_window_layers":28,"model_type":"qwen2","num_attention_heads":28,
"num_hidden_layers":28,"num_key_value_heads":4,"rms_norm_eps":1e-06,"rope_theta":1000000.0,"sliding_window":131072,
"tie_word_embeddings":false,"torch_dtype":"bfloat16","transformers_version":"4.37.2","use_cache":true,
"use_sliding_window":false,"vocab_size":152064})",
     ""},
    {"DeepSeek-R1-Distill-Qwen-1.5B",
     R"({"architectures":["Qwen2ForCausalLM"],"attention_dropout":0.0,"bos_token_id":151643,"eos_token_id":151643,
"hidden_act":"silu","hidden_size":1536,"initializer_range":0.02,"intermediate_size":8960,
"max_position_embeddings":131072,"max_window_layers":21,"model_type":"qwen2","num_attention_heads":12,
"num_hidden_layers":28,"num_key_value_heads":2,"rms_norm_eps":1e-06,"rope_theta":10000,"sliding_window":4096,
"tie_word_embeddings":false,"torch_dtype":"bfloat16","transformers_version":"4.44.0","use_cache":true,
"use_mrope":false,"use_sliding_window":false,"vocab_size":151936})",
     R"({"_from_model_config":true,"bos_token_id":151646,"eos_token_id":151643,"do_sample":true,"temperature":0.6,
"top_p":0.95,"transformers_version":"4.39.3"})"},
    {"Llama-2-7b-hf",
     R"({"_name_or_path":"meta-llama/Llama-2-7b-hf","architectures":["LlamaForCausalLM"],"bos_token_id":1,
"eos_token_id":2,"hidden_act":"silu","hidden_size":4096,"initializer_range":0.02,"intermediate_size":11008,
"max_position_embeddings":4096,"model_type":"llama","num_attention_heads":32,"num_hidden_layers":32,
"num_key_value_heads":32,"pretraining_tp":1,"rms_norm_eps":1e-05,"rope_scaling":null,"tie_word_embeddings":false,
"torch_dtype":"float16","transformers_version":"4.31.0.dev0","use_cache":true,"vocab_size":32000})",
     R"({"bos_token_id":1,"do_sample":true,"eos_token_id":2,"pad_token_id":0,"temperature":0.6,"max_length":4096,
"top_p":0.9,"transformers_version":"4.31.0.dev0"})"},
    {"Meta-Llama-3-8B-Instruct",
     R"({"architectures":["LlamaForCausalLM"],"attention_bias":false,"attention_dropout":0.0,"bos_token_id":128000,
"eos_token_id":128009,"hidden_act":"silu","hidden_size":4096,"initializer_range":0.02,"intermediate_size":14336,
"max_position_embeddings":8192,"model_type":"llama","num_attention_heads":32,"num_hidden_layers":32,
"num_key_value_heads":8,"pretraining_tp":1,"rms_norm_eps":1e-05,"rope_scaling":null,"rope_theta":500000.0,
"tie_word_embeddings":false,"torch_dtype":"bfloat16","transformers_version":"4.40.0.dev0","use_cache":true,
"vocab_size":128256})",
     R"({"bos_token_id":128000,"eos_token_id":[128001,128009],"do_sample":true,"temperature":0.6,"max_length":4096,
"top_p":0.9,"transformers_version":"4.40.0.dev0"})"},
    {"Llama-3.1-8B-Instruct",
     R"({"architectures":["LlamaForCausalLM"],"attention_bias":false,"attention_dropout":0.0,"bos_token_id":128000,
"eos_token_id":[128001,128008,128009],"hidden_act":"silu","hidden_size":4096,"initializer_range":0.02,
"intermediate_size":14336,"max_position_embeddings":131072,"mlp_bias":false,"model_type":"llama",
"num_attention_heads":32,"num_hidden_layers":32,"num_key_value_heads":8,"pretraining_tp":1,"rms_norm_eps":1e-05,
"rope_scaling":{"factor":8.0,"low_freq_factor":1.0,"high_freq_factor":4.0,"original_max_position_embeddings":8192,
"rope_type":"llama3"},"rope_theta":500000.0,"tie_word_embeddings":false,"torch_dtype":"bfloat16",
"transformers_version":"4.42.3","use_cache":true,"vocab_size":128256})",
     ""},
    {"Llama-3.2-1B",
     R"({"architectures":["LlamaForCausalLM"],"attention_bias":false,"attention_dropout":0.0,"bos_token_id":128000,
"eos_token_id":128001,"head_dim":64,"hidden_act":"silu","hidden_size":2048,"initializer_range":0.02,
"intermediate_size":8192,"max_position_embeddings":131072,"mlp_bias":false,"model_type":"llama",
"num_attention_heads":32,"num_hidden_layers":16,"num_key_value_heads":8,"pretraining_tp":1,"rms_norm_eps":1e-05,
"rope_scaling":{"factor":32.0,"high_freq_factor":4.0,"low_freq_factor":1.0,"original_max_position_embeddings":8192,
"rope_type":"llama3"},"rope_theta":500000.0,"tie_word_embeddings":true,"torch_dtype":"bfloat16",
"transformers_version":"4.45.0.dev0","use_cache":true,"vocab_size":128256})",
     ""},
};

}  // namespace test
