"""llama.cpp's flash attention alone, through its ggml library, over f16, q8_0 and q4_0 caches."""

import ctypes
import math

import ggml
import worker

TYPES = {"f16": 1, "q8_0": 8, "q4_0": 2}


class Peer(ggml.Ggml):
    def __init__(self, threads):
        super().__init__(threads)
        self.about = f"{self.version}, ggml_flash_attn_ext"

    def attention(self, queries, keys, heads, kv_heads, width, type, cache_bytes, check):
        import numpy

        q, k, v = worker.random_attention(queries, keys, heads, kv_heads, width)
        number = TYPES[type]
        rows = keys * kv_heads
        row = self.row_size(number, width)
        blocks = []
        for source in (k, v):
            block = ctypes.create_string_buffer(row * rows)
            self.quantize(number, source.ctypes.data, ctypes.addressof(block), 0, rows, width, None)
            blocks.append(block)
        count = worker.copies_for_cache(queries, 2 * row * rows, cache_bytes)
        context = self.init(ggml.InitParams(1 << 20, None, True))
        caches = [[self.new_3d(context, number, width, keys, kv_heads) for _ in range(2)] for _ in range(count)]
        query = self.new_3d(context, ggml.F32, width, queries, heads)
        padded = -(-queries // 64) * 64
        mask = self.new_2d(context, ggml.F16, keys, padded) if queries > 1 else None
        outputs = [
            self.flash_attention(context, query, k_cache, v_cache, mask, 1 / math.sqrt(width), 0, 0)
            for k_cache, v_cache in caches
        ]
        graph = self.new_graph(context, 8 * count + 8, False)
        for output in outputs:
            self.expand(graph, output)
        buffer = self.allocate(context, self.default_type)
        for pair in caches:
            for tensor, block in zip(pair, blocks):
                self.set(tensor, ctypes.addressof(block), 0, row * rows)
        self.set(query, q.ctypes.data, 0, q.nbytes)
        if mask:
            seen = numpy.zeros((padded, keys), numpy.float16)
            seen[:queries] = numpy.where(worker.is_masked(queries, keys), -numpy.inf, 0)
            self.set(mask, seen.ctypes.data, 0, seen.nbytes)
        samples = worker.timed(lambda: self.compute(self.backend, graph))
        result = {"seconds": [s / count for s in samples]}
        if check:
            y = numpy.empty((queries, heads, width), numpy.float32)
            self.get(outputs[0], y.ctypes.data, 0, y.nbytes)
            result["error"] = worker.attention_error(y.transpose(1, 0, 2), q, k, v)
        self.free_buffer(buffer)
        self.free(context)
        return result


worker.serve(Peer)
