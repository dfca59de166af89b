"""Quantizes and dequantizes repeatable blocks with PyPI `gguf`, for TernaryReferenceTests.

    python reference.py TYPE BLOCKS OUT

OUT receives the quantized blocks, then a 64-bit sum over their dequantized floats. Float i of block b is a hash of 256 b + i
(murmur3's finalizer) as a signed fraction, times a factor of the block's; every fourth kind of block is ternary.
"""
import sys

import numpy as np
from gguf import GGMLQuantizationType as T
from gguf import quants

kind, blocks, out = T[sys.argv[1]], int(sys.argv[2]), sys.argv[3]
FACTORS = np.array([0, 2.0**-20, 0.37, 1000, 1, 0.37, 2.0**-24, 2.0**-26], np.float32)
PART = 1 << 14


def values(first, count):
    h = np.arange(first * 256, (first + count) * 256, dtype=np.uint32)
    h ^= h >> np.uint32(16)
    h *= np.uint32(0x85EBCA6B)
    h ^= h >> np.uint32(13)
    h *= np.uint32(0xC2B2AE35)
    h ^= h >> np.uint32(16)
    block = np.repeat(np.arange(first, first + count), 256)
    fraction = h.view(np.int32).astype(np.float32) * np.float32(2.0**-31)
    ternary = (h % np.uint32(3)).astype(np.float32) - np.float32(1)
    return (np.where(block % 4 == 2, ternary, fraction) * FACTORS[block % 8]).reshape(count, 256)


total = 0
with open(out, "wb") as file:
    for first in range(0, blocks, PART):
        count = min(PART, blocks - first)
        packed = quants.quantize(values(first, count), kind)
        file.write(packed.tobytes())
        bits = quants.dequantize(packed, kind).astype(np.float32).reshape(-1).view(np.uint32)
        weights = 2 * np.arange(bits.size, dtype=np.uint64) + np.uint64(1)
        total = (total + int((bits.astype(np.uint64) * weights).sum(dtype=np.uint64))) % 2**64
    file.write(total.to_bytes(8, "little"))
