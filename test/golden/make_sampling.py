#!/usr/bin/env python3
"""Distributions that transformers' logits processors leave of rows of logits.

usage: make_sampling.py SAMPLING                                       needs: torch, transformers

SAMPLING/cases.json: [{scores, tokens, temperature, top_k, top_p, min_p, repetition_penalty, kept, probabilities}]; `tokens` are
the sequence so far, `kept` the ids that may be drawn, by logit and then by id, `probabilities` theirs.
A case in which a threshold falls within 1e-4 of a cumulated probability is left out: rounding would decide it.
"""
import itertools
import json
import os
import sys

import torch
from transformers.generation import logits_process as process


def rows():
    generator = torch.Generator().manual_seed(3)
    # Multiples of 1/64: exact in binary, and short in decimal.
    for name, scores in unrounded_rows(generator):
        yield name, (scores * 64).round() / 64


def unrounded_rows(generator):
    yield "normal", 3 * torch.randn(64, generator=generator)
    yield "flat", 0.1 * torch.randn(64, generator=generator)
    yield "peaked", torch.cat([torch.tensor([9.0]), torch.randn(63, generator=generator)])
    yield "ties", (2 * torch.randn(64, generator=generator)).round()
    yield "negative", -5 - torch.rand(64, generator=generator)
    yield "alone", torch.tensor([1.5])


def processors(temperature, top_k, top_p, min_p, penalty):
    """In the order of GenerationMixin._get_logits_processor."""
    if penalty != 1.0:
        yield process.RepetitionPenaltyLogitsProcessor(penalty)
    if temperature != 1.0:
        yield process.TemperatureLogitsWarper(temperature)
    if top_k != 0:
        yield process.TopKLogitsWarper(top_k)
    if top_p < 1.0:
        yield process.TopPLogitsWarper(top_p)
    if min_p > 0.0:
        yield process.MinPLogitsWarper(min_p)


def near_a_threshold(scores, step):
    """Whether `step` cuts so close to a candidate that rounding, or the order of equal logits, decides."""
    probabilities = scores.double().softmax(-1).sort(descending=True).values[0]
    if isinstance(step, process.TopPLogitsWarper):
        before = probabilities.cumsum(-1)
        if (before - step.top_p).abs().min() < 1e-4:
            return True
        cut = int((before < step.top_p).sum())
        return cut + 1 < len(probabilities) and probabilities[cut] > 0 and bool(probabilities[cut] == probabilities[cut + 1])
    if isinstance(step, process.MinPLogitsWarper):
        return bool((probabilities / probabilities[0] - step.min_p).abs().min() < 1e-4)
    return False


def case(scores, tokens, temperature, top_k, top_p, min_p, penalty):
    row = scores[None].clone()
    ids = torch.tensor([tokens])
    for step in processors(temperature, top_k, top_p, min_p, penalty):
        if near_a_threshold(row, step):
            return None
        row = step(ids, row)
    row = row[0].double()
    kept = [i for i in range(len(row)) if row[i] > -torch.inf]
    kept.sort(key=lambda i: (-row[i].item(), i))
    probabilities = row.softmax(-1)
    return {"scores": scores.tolist(), "tokens": tokens, "temperature": temperature, "top_k": top_k, "top_p": top_p, "min_p": min_p,
            "repetition_penalty": penalty, "kept": kept, "probabilities": [float(f"{probabilities[i].item():.8g}") for i in kept]}


cases = []
for (name, scores), (temperature, top_k, top_p, min_p, penalty) in itertools.product(rows(), [
        (1.0, 0, 1.0, 0.0, 1.0), (0.6, 0, 1.0, 0.0, 1.0), (1.7, 0, 1.0, 0.0, 1.3), (1.0, 5, 1.0, 0.0, 1.0), (1.0, 1, 1.0, 0.0, 1.0),
        (1.0, 0, 0.8, 0.0, 1.0), (1.0, 0, 0.0, 0.0, 1.0), (1.0, 0, 1.0, 0.1, 1.0), (0.6, 20, 0.95, 0.0, 1.0), (0.7, 20, 0.8, 0.0, 1.05),
        (1.5, 40, 0.9, 0.05, 1.2), (1.0, 100, 0.5, 0.3, 0.8), (0.3, 3, 0.99, 0.01, 2.0)]):
    tokens = [0] if len(scores) == 1 else [3, 0, 3, 17, 63, 3, 17]
    made = case(scores, tokens, temperature, top_k, top_p, min_p, penalty)
    if made:
        cases.append(made)
with open(os.path.join(sys.argv[1], "cases.json"), "w") as file:
    file.write("[\n" + ",\n".join(json.dumps(c) for c in cases) + "\n]\n")
print(len(cases), "cases")
