#!/usr/bin/env python3
"""Logits of a GGUF model computed in float32 by numpy alone: an independent reference for the decoder.

Weights are dequantized by PyPI's gguf package; everything else is written here from the models' papers, naively,
with no code shared with the package. Architectures: llama, qwen2, qwen3, gemma3.

    python3 reference_logits.py --model F.gguf --tokens ids.txt --count 128 -o reference.bin

ids.txt holds token ids between spaces. The output is little-endian: 8 bytes "QKLOGITS", uint32 count, uint32
vocabulary, int32 tokens[count], float32 logits[count][vocabulary].
"""
import argparse
import math
import struct
import sys

import numpy
from gguf import GGUFReader
from gguf.quants import dequantize


class Model:
    def __init__(self, path):
        self.reader = GGUFReader(path)
        self.tensors = {t.name: t for t in self.reader.tensors}
        self.architecture = self.field("general.architecture")

    def field(self, key, default=None):
        found = self.reader.get_field(key)
        return default if found is None else found.contents()

    def value(self, key, default=None):
        return self.field(f"{self.architecture}.{key}", default)

    def tensor(self, name):
        """A tensor in float32, rows first, or None."""
        found = self.tensors.get(name)
        if found is None:
            return None
        return dequantize(found.data, found.tensor_type).astype(numpy.float32)


def rms_norm(x, weight, epsilon):
    return x / numpy.sqrt(numpy.mean(x * x, axis=-1, keepdims=True) + epsilon) * weight


def frequencies(model, head, base, scaled):
    """Radians a position of each pair, and the factor of sines and cosines."""
    rotated = model.value("rope.dimension_count", head)
    pairs = numpy.arange(rotated // 2, dtype=numpy.float64)
    frequency = base ** (-2 * pairs / rotated)
    magnitude = 1.0
    if not scaled:
        return frequency, magnitude
    divisors = model.tensor("rope_freqs.weight")
    if divisors is not None:
        frequency = frequency / divisors
    kind = model.value("rope.scaling.type")
    factor = model.value("rope.scaling.factor", 1.0)
    if kind == "linear":
        frequency = frequency / factor
    elif kind == "yarn":
        original = model.value("rope.scaling.original_context_length", model.value("context_length"))

        def pair(rotations):
            return rotated * math.log(original / (rotations * 2 * math.pi)) / (2 * math.log(base))

        low = max(0.0, math.floor(pair(32.0)))
        high = min(rotated - 1.0, math.ceil(pair(1.0)))
        ramp = numpy.clip((pairs - low) / max(0.001, high - low), 0, 1)
        frequency = frequency / factor * ramp + frequency * (1 - ramp)
        magnitude = 1 + 0.1 * math.log(factor)
    return frequency, magnitude


def rotate(x, frequency, magnitude, interleaved):
    """x is [tokens, heads, head]."""
    angles = numpy.arange(x.shape[0], dtype=numpy.float64)[:, None] * frequency[None, :]
    cosine = (numpy.cos(angles) * magnitude).astype(numpy.float32)[:, None, :]
    sine = (numpy.sin(angles) * magnitude).astype(numpy.float32)[:, None, :]
    pairs = frequency.shape[0]
    y = x.copy()
    if interleaved:
        a, b = x[..., 0 : 2 * pairs : 2], x[..., 1 : 2 * pairs : 2]
        y[..., 0 : 2 * pairs : 2] = a * cosine - b * sine
        y[..., 1 : 2 * pairs : 2] = a * sine + b * cosine
    else:
        a, b = x[..., :pairs], x[..., pairs : 2 * pairs]
        y[..., :pairs] = a * cosine - b * sine
        y[..., pairs : 2 * pairs] = a * sine + b * cosine
    return y


def attention(q, k, v, scale, window):
    """Causal, q [tokens, heads, head], k and v [tokens, fewer heads, head]."""
    tokens, heads, _ = q.shape
    group = heads // k.shape[1]
    distance = numpy.arange(tokens)[:, None] - numpy.arange(tokens)[None, :]
    hidden = distance < 0
    if window:
        hidden |= distance >= window
    out = numpy.empty_like(q)
    for head in range(heads):
        scores = q[:, head] @ k[:, head // group].T * numpy.float32(scale)
        scores[hidden] = -numpy.inf
        scores = numpy.exp(scores - scores.max(axis=1, keepdims=True))
        out[:, head] = scores / scores.sum(axis=1, keepdims=True) @ v[:, head // group]
    return out


def silu(x):
    return x / (1 + numpy.exp(-x))


def gelu(x):
    return 0.5 * x * (1 + numpy.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def logits(model, tokens):
    kind = model.architecture
    if kind not in ("llama", "qwen2", "qwen3", "gemma3"):
        sys.exit(f"{kind}: not one of llama, qwen2, qwen3, gemma3")
    layers = model.value("block_count")
    width = model.value("embedding_length")
    heads = model.value("attention.head_count")
    key_heads = model.value("attention.head_count_kv", heads)
    head = model.value("attention.key_length", width // heads)
    epsilon = numpy.float32(model.value("attention.layer_norm_rms_epsilon"))
    base = model.value("rope.freq_base", 10000.0)
    window = model.value("attention.sliding_window", 0) if kind == "gemma3" else 0
    embedding = model.tensor("token_embd.weight")
    x = embedding[tokens]
    if kind == "gemma3":
        x = x * numpy.float32(math.sqrt(width))
    for layer in range(layers):
        def linear(y, name):
            y = y @ model.tensor(f"blk.{layer}.{name}.weight").T
            bias = model.tensor(f"blk.{layer}.{name}.bias")
            return y if bias is None else y + bias

        def normed(y, name):
            weight = model.tensor(f"blk.{layer}.{name}.weight")
            return y if weight is None else rms_norm(y, weight, epsilon)

        local = window > 0 and layer % 6 < 5
        frequency, magnitude = frequencies(model, head, 10000.0 if local else base, not local)
        y = normed(x, "attn_norm")
        q = linear(y, "attn_q").reshape(-1, heads, head)
        k = linear(y, "attn_k").reshape(-1, key_heads, head)
        v = linear(y, "attn_v").reshape(-1, key_heads, head)
        q = rotate(normed(q, "attn_q_norm"), frequency, magnitude, kind == "llama")
        k = rotate(normed(k, "attn_k_norm"), frequency, magnitude, kind == "llama")
        y = attention(q, k, v, 1 / math.sqrt(head), window if local else 0)
        y = linear(y.reshape(-1, heads * head), "attn_output")
        x = x + normed(y, "post_attention_norm")
        y = normed(x, "ffn_norm")
        gate = linear(y, "ffn_gate")
        y = (gelu(gate) if kind == "gemma3" else silu(gate)) * linear(y, "ffn_up")
        x = x + normed(linear(y, "ffn_down"), "post_ffw_norm")
    x = rms_norm(x, model.tensor("output_norm.weight"), epsilon)
    output = model.tensor("output.weight")
    x = x @ (embedding if output is None else output).T
    cap = model.value("final_logit_softcapping", 0.0)
    return cap * numpy.tanh(x / cap) if cap else x


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--tokens", required=True, help="file of token ids between spaces")
    parser.add_argument("--count", type=int, default=128, help="how many of them")
    parser.add_argument("-o", "--output", required=True)
    arguments = parser.parse_args()
    with open(arguments.tokens) as file:
        tokens = numpy.array([int(word) for word in file.read().split()[: arguments.count]], dtype=numpy.int32)
    result = logits(Model(arguments.model), tokens)
    with open(arguments.output, "wb") as file:
        file.write(b"QKLOGITS" + struct.pack("<II", *result.shape))
        file.write(tokens.astype("<i4").tobytes())
        file.write(result.astype("<f4").tobytes())


if __name__ == "__main__":
    main()
