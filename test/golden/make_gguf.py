#!/usr/bin/env python3
"""Makes tiny.gguf, a Llama of one layer with a tensor of every type, and tiny_gguf.safetensors: what llama.cpp's Python
package decodes it to, under the names and in the order of rows of a Hugging Face folder.

    pip install gguf safetensors && python3 test/golden/make_gguf.py test/golden
"""
import sys

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Q
from safetensors.numpy import save_file

HIDDEN, HEADS, KV_HEADS, HEAD_DIM, FFN = 256, 2, 1, 16, 32
TOKENS = ["a", "b", "c", "ab", "abc", "Ġ", "<|end|>", "d"]


def as_llama_cpp(rows, heads):
    """The order of rows that llama.cpp's converter gives q and k of a Llama."""
    return rows.reshape(heads, 2, HEAD_DIM // 2, -1).swapaxes(1, 2).reshape(rows.shape)


def random_blocks(random, shape, kind):
    """A matrix in blocks, of random bits with moderate scales."""
    elements, size = gguf.GGML_QUANT_SIZES[kind]
    blocks = random.integers(0, 256, (shape[0], shape[1] // elements, size), dtype=np.uint8)
    scale = random.uniform(0.001, 0.01, blocks.shape[:2]).astype(np.float16)
    places = {Q.Q8_0: [0], Q.Q4_0: [0], Q.Q4_K: [0, 2], Q.Q6_K: [208]}[kind]
    for place in places:
        blocks[..., place : place + 2] = scale[..., None].view(np.uint8)
    return blocks.reshape(shape[0], -1)


def llama3_factors(base, factor, low, high, context):
    """What Llama 3.1 divides frequencies by, as llama.cpp's converter writes it (conversion/llama.py)."""
    turns = base ** (-np.arange(0, HEAD_DIM, 2) / HEAD_DIM) / (2 * np.pi)
    smooth = np.clip((context * turns - low) / (high - low), 0, 1)
    return (1 / ((1 - smooth) / factor + smooth)).astype(np.float32)


def main():
    random = np.random.default_rng(5)
    writer = gguf.GGUFWriter(f"{sys.argv[1]}/tiny.gguf", "llama")
    writer.add_context_length(64)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(1)
    writer.add_feed_forward_length(FFN)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_key_length(HEAD_DIM)
    writer.add_value_length(HEAD_DIM)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(5e5)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(TOKENS)
    writer.add_token_types([3 if t.startswith("<|") else 1 for t in TOKENS])
    writer.add_token_merges(["a b", "ab c"])
    writer.add_eos_token_id(6)

    expected = {}

    def add(name, hf_name, shape, kind, heads=0):
        if kind == Q.F32:
            stored = random.normal(1, 0.1, shape).astype(np.float32)
        elif kind == Q.F16:
            stored = random.normal(0, 0.02, shape).astype(np.float16)
        elif kind == Q.BF16:
            stored = gguf.quants.quantize(random.normal(0, 0.02, shape).astype(np.float32), kind)
        else:
            stored = random_blocks(random, shape, kind)
        writer.add_tensor(name, stored, raw_dtype=kind)
        floats = gguf.quants.dequantize(stored, kind) if kind not in (Q.F32, Q.F16) else stored.astype(np.float32)
        if heads:
            order = as_llama_cpp(np.arange(shape[0]), heads).reshape(-1)
            undone = np.empty_like(floats)
            undone[order] = floats
            floats = undone
        expected[hf_name] = np.ascontiguousarray(floats.reshape(shape).astype(np.float32))

    q, kv = HEADS * HEAD_DIM, KV_HEADS * HEAD_DIM
    layer = "model.layers.0."
    add("token_embd.weight", "model.embed_tokens.weight", (len(TOKENS), HIDDEN), Q.Q6_K)
    add("blk.0.attn_norm.weight", layer + "input_layernorm.weight", (HIDDEN,), Q.F32)
    add("blk.0.attn_q.weight", layer + "self_attn.q_proj.weight", (q, HIDDEN), Q.Q4_K, HEADS)
    add("blk.0.attn_k.weight", layer + "self_attn.k_proj.weight", (kv, HIDDEN), Q.Q6_K, KV_HEADS)
    add("blk.0.attn_v.weight", layer + "self_attn.v_proj.weight", (kv, HIDDEN), Q.F16)
    add("blk.0.attn_output.weight", layer + "self_attn.o_proj.weight", (HIDDEN, q), Q.Q8_0)
    add("blk.0.ffn_norm.weight", layer + "post_attention_layernorm.weight", (HIDDEN,), Q.F32)
    add("blk.0.ffn_gate.weight", layer + "mlp.gate_proj.weight", (FFN, HIDDEN), Q.Q4_0)
    add("blk.0.ffn_up.weight", layer + "mlp.up_proj.weight", (FFN, HIDDEN), Q.BF16)
    add("blk.0.ffn_down.weight", layer + "mlp.down_proj.weight", (HIDDEN, FFN), Q.Q8_0)
    add("output_norm.weight", "model.norm.weight", (HIDDEN,), Q.F32)
    writer.add_tensor("rope_freqs.weight", llama3_factors(5e5, 8.0, 1.0, 4.0, 8192))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    save_file(expected, f"{sys.argv[1]}/tiny_gguf.safetensors")


if __name__ == "__main__":
    main()
