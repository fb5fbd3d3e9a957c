#!/usr/bin/env python3
"""Makes blocks.safetensors: a few rows of weights, and what they are in each format of blocks (docs/quantisation.md).

    python3 test/golden/make_blocks.py test/golden/blocks.safetensors

An account of the formats of its own, one number at a time in float32, with every sum in the order that the format states.
"""
import sys

import numpy as np
from safetensors.numpy import save_file

F = np.float32
BLOCK = 32


def finite_f16(value):
    return np.float16(min(max(value, F(-65504)), F(65504)))


def inverse_or_zero(step):
    return F(1) / step if step != 0 else F(0)


def int8(block):
    scale = finite_f16(np.max(np.abs(block)) / F(127))
    q = np.clip(np.rint(block * inverse_or_zero(F(scale))), -127, 127).astype(np.int8)
    return q, [scale], F(scale) * q.astype(F)


def assign(block, scale, minimum):
    scale, minimum = finite_f16(scale), finite_f16(minimum)
    step, start = F(scale), F(minimum)
    q = np.clip(np.rint((block - start) * inverse_or_zero(step)), 0, 15).astype(F)
    errors = [F(0)] * 8
    for i in range(BLOCK):
        e = start + step * q[i] - block[i]
        errors[i % 8] += e * e
    total = F(0)
    for e in errors:
        total += e
    return total, scale, minimum, q


def refit(block, found):
    q = found[3]
    q_sum = q_squares = total = products = F(0)
    for i in range(BLOCK):
        q_sum += q[i]
        q_squares += q[i] * q[i]
        total += block[i]
        products += q[i] * block[i]
    determinant = F(BLOCK) * q_squares - q_sum * q_sum
    if determinant <= 0:
        return found
    scale = (F(BLOCK) * products - q_sum * total) / determinant
    return assign(block, scale, (total - scale * q_sum) / F(BLOCK))


def int4(block):
    best = None
    for a in range(3):
        for b in range(3):
            low = np.min(block) * (F(1) - F(0.1) * F(a))
            high = np.max(block) * (F(1) - F(0.1) * F(b))
            found = assign(block, (high - low) / F(15), low)
            for refits in range(3):
                if best is None or found[0] < best[0]:
                    best = found
                if refits < 2:
                    found = refit(block, found)
    _, scale, minimum, q = best
    levels = q.astype(np.uint8)
    packed = levels[: BLOCK // 2] | levels[BLOCK // 2 :] << 4
    return packed, [scale, minimum], F(minimum) + F(scale) * q


def rows_of(encode, weights):
    integers, scales, decoded = [], [], []
    for row in weights:
        blocks = [encode(row[i : i + BLOCK]) for i in range(0, len(row), BLOCK)]
        integers.append(np.concatenate([b[0] for b in blocks]))
        scales.append(np.array([[b[1][p] for b in blocks] for p in range(len(blocks[0][1]))], dtype=np.float16))
        decoded.append(np.concatenate([b[2] for b in blocks]))
    scales = np.stack(scales)
    return np.stack(integers), scales[:, 0] if scales.shape[1] == 1 else scales, np.stack(decoded)


def in_groups(integers, scales):
    """As they lie in memory: [rows / 16, blocks, units, 16, 4] and [rows / 16, blocks, planes, 16], filled up with zeros."""
    blocks, planes = scales.shape[-1], scales.shape[1] if scales.ndim == 3 else 1
    rows = -(-len(integers) // 16) * 16

    def of_rows(array, *shape):
        filled = np.zeros((rows, *shape), array.dtype)
        filled[: len(array)] = array.reshape(len(array), *shape)
        return filled.reshape(rows // 16, 16, *shape)

    units = of_rows(integers, blocks, integers.shape[1] // blocks // 4, 4)
    return np.ascontiguousarray(units.transpose(0, 2, 3, 1, 4)), np.ascontiguousarray(of_rows(scales, planes, blocks).transpose(0, 3, 2, 1))


def main():
    random = np.random.default_rng(8)
    weights = random.normal(0, 0.02, (18, 3 * BLOCK)).astype(F)
    weights[1, :BLOCK] = 0  # a block of zeros
    weights[1, BLOCK:] = 0.25  # blocks of one value
    weights[2, 7] = 1.5  # an outlier
    weights[3] = np.abs(weights[3])
    weights[4] *= F(1e-5)  # scales below the least normal f16
    tensors = {"w": weights}
    for name, encode in (("int8", int8), ("int4", int4)):
        integers, scales, tensors[name + "_decoded"] = rows_of(encode, weights)
        tensors[name], tensors[name + "_scale"] = in_groups(integers, scales)
    save_file(tensors, sys.argv[1])


if __name__ == "__main__":
    main()
