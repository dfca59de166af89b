"""Writes golden ternary blocks as a Swift file: TQ1_0 and TQ2_0 from PyPI `gguf`, TL1 and TL2 from their published
index formulas (numpy), which share nothing with the package's loops.

    python make_golden.py > ../../QuantKernelsTests/Ternary/TernaryGolden.swift
"""

import numpy as np
from gguf import GGMLQuantizationType as T
from gguf import quants

rng = np.random.default_rng(20241018)


def hexes(data):
    return np.ascontiguousarray(data).view(np.uint8).tobytes().hex()


def literal(text, width=88):
    lines = "\n".join("      " + text[i : i + width] + "\\" for i in range(0, len(text), width))[:-1]
    return '"""\n' + lines + '\n      """'


def golden_weights(count):
    x, out = 1, np.empty(count, np.int64)
    for i in range(count):
        x = (1103515245 * x + 12345) % 2**31
        out[i] = (x >> 16) % 3 - 1
    return out


def fnv(data):
    value = 0xCBF29CE484222325
    for byte in data.tobytes():
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return value


def tl1(rows, columns, BM, BK, bm):
    w = golden_weights(rows * columns).reshape(rows, columns)
    by = 256 // bm
    m, p = np.meshgrid(np.arange(rows), np.arange(columns // 2), indexing="ij")
    index = 3 * w[:, 0::2] + w[:, 1::2] + 4
    mb, mi, h, r = m // BM, m % BM // bm, m % bm // 16, m % 16
    kb, s, q, t = p // (BK // 2), p % (BK // 2) // (by // 2), p % (by // 2) // 2, p % 2
    at = mb * (columns // BK) + kb
    for extent, digit in [(BM // bm, mi), (BK // by, s), (bm // 16, h), (by // 4, q), (16, r)]:
        at = at * extent + digit
    out = np.zeros(rows * columns // 4, np.int64)
    np.add.at(out, at.ravel(), (index << (4 * (1 - t))).ravel())
    return out.astype(np.uint8)


def tl2(rows, columns, BM, BK):
    w = golden_weights(rows * columns).reshape(rows, columns)
    threes = columns // BK * BK
    twos = columns - threes
    pi = np.array([0, 2, 1, 3])

    def vectors(index, block, per):
        m, p = np.meshgrid(np.arange(rows), np.arange(index.shape[1]), indexing="ij")
        kb, s, t = p // (block // per), p % (block // per) // 2, p % 2
        mb, mi, r = m // BM, m % BM // 32, m % 32
        v = ((mb * (index.shape[1] * per // block) + kb) * (BM // 32) + mi) * (block // per // 2) + s
        out = np.zeros(index.size // 2, np.int64)
        np.add.at(out, (v * 32 + 8 * pi[r // 8] + r % 8).ravel(), (index << (4 * (1 - t))).ravel())
        return out

    parts = []
    if threes:
        v = 9 * w[:, 0:threes:3] + 3 * w[:, 1:threes:3] + w[:, 2:threes:3]
        parts.append(vectors(np.abs(v), BK, 3))
        m, p = np.meshgrid(np.arange(rows), np.arange(threes // 3), indexing="ij")
        kb, s, t8 = p // (BK // 3), p % (BK // 3) // 8, p % 8
        mb, mi, r = m // BM, m % BM // 32, m % 32
        word = (((mb * (threes // BK) + kb) * (BM // 32) + mi) * (BK // 24) + s) * 16 + r % 16
        signs = np.zeros(rows * threes // 48, np.int64)
        np.add.at(signs, word.ravel(), ((v < 0) * (1 << (15 - (2 * t8 + r // 16)))).ravel())
        parts.append(signs.astype("<u2").view(np.uint8))
    if twos:
        parts.append(vectors(3 * w[:, threes::2] + w[:, threes + 1 :: 2] + 4, 32, 2))
    out = np.concatenate(parts).astype(np.uint8)
    fixed = (columns - 256) * rows // 3 * 5 // 8 + 256 * rows // 2 * 4 // 8
    return np.pad(out, (0, (fixed + 31) // 32 * 32 - out.size))


def entry(kind, source, wanted):
    print(f"    .init(\n      .{kind},\n      {literal(hexes(source))},\n      {literal(hexes(wanted))}),")


if __name__ == "__main__":
    print("// Made by Tests/Fixtures/Ternary/make_golden.py with PyPI gguf; hexadecimal, little-endian.")
    print("import QuantKernels\n")
    print("struct TernaryGolden: Sendable {")
    print("  let type: GGMLType\n  let source: String\n  let wanted: String\n")
    print("  init(_ type: GGMLType, _ source: String, _ wanted: String) {")
    print("    (self.type, self.source, self.wanted) = (type, source, wanted)\n  }\n")
    print("  /// Random bytes, codes that no quantizer writes with them, and the floats they stand for.")
    print("  static let dequantized: [TernaryGolden] = [")
    for kind, size in [("tq1_0", 54), ("tq2_0", 66)]:
        raw = rng.integers(0, 256, (1, size), dtype=np.uint8)
        raw[:, -2:] = np.array([0.0123], np.float16).view(np.uint8)
        entry(kind, raw, quants.dequantize(raw.reshape(-1), T[kind.upper()]).astype(np.float32))
    print("  ]\n")
    print("  /// Floats and the blocks that ggml's reference makes of them.")
    print("  static let quantized: [TernaryGolden] = [")
    for kind in ["tq1_0", "tq2_0"]:
        for values in [rng.normal(0, 0.05, 256), np.zeros(256), rng.uniform(-1, 1, 256) * 2.0**-17]:
            values = values.astype(np.float32)
            entry(kind, values, quants.quantize(values, T[kind.upper()]))
    print("  ]\n")
    print("  /// FNV-1a (64 bits) of the codes of the golden weights in TL1: rows, columns, BM, BK, bm.")
    print("  static let tl1: [([Int], UInt64)] = [")
    for case in [(320, 256, 160, 64, 32), (128, 256, 64, 128, 64), (64, 64, 32, 32, 32)]:
        print(f"    ({list(case)}, 0x{fnv(tl1(*case)):016x}),")
    print("  ]\n")
    print("  /// The same of TL2, its padding with them: rows, columns, BM, BK.")
    print("  static let tl2: [([Int], UInt64)] = [")
    for case in [(320, 192, 160, 192), (64, 256, 32, 96), (96, 608, 96, 96), (32, 1536, 32, 192), (32, 32, 32, 96)]:
        print(f"    ({list(case)}, 0x{fnv(tl2(*case)):016x}),")
    print("  ]\n}")
