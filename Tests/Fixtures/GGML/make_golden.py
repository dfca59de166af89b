"""Writes golden blocks for GGMLBlocks as a Swift file, from PyPI `gguf` (numpy reference quantizers).

    python make_golden.py > ../../QuantKernelsTests/KQuant/GGMLGolden.swift
"""

import numpy as np
from gguf import GGMLQuantizationType as T
from gguf import quants

rng = np.random.default_rng(20240215)


def hexes(data):
    return np.ascontiguousarray(data).view(np.uint8).tobytes().hex()


def lines(text, width=88):
    return "\n".join("      " + text[i : i + width] + "\\" for i in range(0, len(text), width))[:-1]


def literal(text):
    return '"""\n' + lines(text) + '\n      """'


def entry(kind, name, source, wanted):
    print(f"    .init(\n      .{name},\n      {literal(hexes(source))},\n      {literal(hexes(wanted))}),")


print("// Made by Tests/Fixtures/GGML/make_golden.py with PyPI gguf; hexadecimal, little-endian.")
print("import QuantKernels\n")
print("struct GGMLGolden: Sendable {")
print("  let type: GGMLType")
print("  let source: String")
print("  let wanted: String\n")
print("  init(_ type: GGMLType, _ source: String, _ wanted: String) {")
print("    (self.type, self.source, self.wanted) = (type, source, wanted)\n  }\n")
print("  /// Random blocks and the floats that they stand for.")
print("  static let dequantized: [GGMLGolden] = [")
for name, blocks in [("q4_0", 2), ("q4_1", 2), ("q5_0", 2), ("q5_1", 2), ("q8_0", 2),
                     ("q4_k", 1), ("q5_k", 1), ("q6_k", 1), ("bf16", 8), ("f16", 8)]:
    kind = T[name.upper()]
    elements, size = __import__("gguf").GGML_QUANT_SIZES[kind]
    raw = rng.integers(0, 256, (blocks, size), dtype=np.uint8)
    factors = {"q4_0": [0], "q4_1": [0, 2], "q5_0": [0], "q5_1": [0, 2], "q8_0": [0],
               "q4_k": [0, 2], "q5_k": [0, 2], "q6_k": [208], "bf16": [], "f16": [0]}[name]
    for at in factors:  # finite binary16 factors of a usual size
        raw[:, at : at + 2] = rng.normal(0, 0.02, (blocks, 1)).astype(np.float16).view(np.uint8)
    entry(kind, name, raw, quants.dequantize(raw.reshape(-1), kind).astype(np.float32))
print("  ]\n")
print("  /// Floats and the blocks that ggml's reference makes of them.")
print("  static let quantized: [GGMLGolden] = [")
for name in ["q4_0", "q4_1", "q8_0", "bf16", "f16"]:
    values = rng.normal(0, 0.05, (2, 32)).astype(np.float32)
    values[1, 5] = 0.75  # a positive extreme
    values[0, 7] = -values[0].max() * 2
    if name in ("q4_0", "q4_1", "q8_0"):
        values = np.concatenate([values, np.zeros((1, 32), np.float32),
                                 np.full((1, 32), -0.25, np.float32)])
    else:
        values = values[:, :8]
    entry(T, name, values, quants.quantize(values, T[name.upper()]))
print("  ]\n}")
