#!/usr/bin/env python3
"""Makes formats.safetensors beside a golden checkpoint: what transformers computes from it with weights in blocks of 8 and
of 4 bits, and with keys and values rounded as a cache of bf16 or of 8 bits holds them.

    python3 test/golden/make_formats.py test/golden/qwen2-tiny

The weights are those of make_blocks.py's account of the formats, widened to float32; the cache's formats are accounted for
here. For a format F: logits.F f32 [T, V] and greedy.F i64 [N], of the prompt and as many tokens as golden.safetensors has.
"""
import json
import sys

import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers.models.qwen2.modeling_qwen2 import eager_attention_forward

import make_blocks


def in_blocks(model, encode, head_dim):
    """The matrices that tessera converts: whole blocks in a row, and none that a rank would cut between heads."""
    for name, weight in model.named_parameters():
        if weight.ndim != 2 or weight.shape[1] % make_blocks.BLOCK != 0:
            continue
        if name == "model.embed_tokens.weight" and not model.config.tie_word_embeddings:
            continue
        if name.endswith("o_proj.weight") and head_dim % make_blocks.BLOCK != 0:
            continue
        weight.data = torch.from_numpy(make_blocks.rows_of(encode, weight.data.numpy())[2])


def as_bf16(x):
    return x.to(torch.bfloat16).to(torch.float32)


def as_int8(x):
    scale = as_bf16(x.abs().amax(-1, keepdim=True) / 127)
    return torch.where(scale > 0, torch.round(x / scale) * scale, 0 * x)


def main():
    folder = sys.argv[1]
    config = json.load(open(folder + "/config.json"))
    head_dim = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    golden = load_file(folder + "/golden.safetensors")
    ids, count = golden["input_ids"][None], len(golden["greedy_ids"])
    rounding = {"round": lambda x: x}

    def attend(module, query, key, value, *arguments, **options):
        return eager_attention_forward(module, query, rounding["round"](key), rounding["round"](value), *arguments, **options)

    transformers.AttentionInterface.register("eager_rounded", attend)
    transformers.AttentionMaskInterface.register("eager_rounded", transformers.masking_utils.eager_mask)
    made = {}
    for name, encode, rounds in (("weights_int8", make_blocks.int8, None), ("weights_int4", make_blocks.int4, None),
                                 ("cache_bf16", None, as_bf16), ("cache_int8", None, as_int8)):
        rounding["round"] = rounds or (lambda x: x)
        model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32,
                                                                  attn_implementation="eager_rounded").eval()
        with torch.no_grad():
            if encode:
                in_blocks(model, encode, head_dim)
            logits = model(ids).logits[0]
            cur, past, greedy = ids, None, []
            for _ in range(count):
                step = model(cur, past_key_values=past, use_cache=True)
                past, cur = step.past_key_values, step.logits[:, -1:].argmax(-1)
                greedy.append(cur.item())
        made["logits." + name], made["greedy." + name] = logits.contiguous(), torch.tensor(greedy)
        error = ((logits - golden["logits"]).abs() / golden["logits"].std(-1, keepdim=True)).max()
        top = logits.topk(2, -1).values
        print(f"{name}: up to {error:.3f} deviations from the stored weights and an f32 cache, least gap {(top[:, 0] - top[:, 1]).min():.4f}")
    save_file(made, folder + "/formats.safetensors")


if __name__ == "__main__":
    main()
