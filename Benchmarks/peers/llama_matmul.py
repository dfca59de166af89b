"""llama.cpp's matrix product alone, through its ggml library: Q4_0 (repacked for this processor), Q4_1 and Q4_K."""

import ctypes

import ggml
import worker

TYPES = {"q4_0": 2, "q4_1": 3, "q8_0": 8, "q4_k": 12, "q6_k": 14}

class Peer(ggml.Ggml):
    def __init__(self, threads):
        super().__init__(threads)
        self.about = f"{self.version}, ggml_mul_mat" + (", Q4_0 and Q4_K repacked" if self.repack_type else "")

    def matmul(self, m, n, k, type, cache_bytes, check):
        import numpy

        number = TYPES[type]
        _, _, _, values = worker.random_int4(n, k, 32)
        values = numpy.ascontiguousarray(values)
        row = self.row_size(number, k)
        blocks = ctypes.create_string_buffer(row * n)
        self.quantize(number, values.ctypes.data, ctypes.addressof(blocks), 0, n, k, None)
        count = worker.copies_for(m, row * n, cache_bytes)
        repacked = type in ("q4_0", "q4_k", "q8_0", "q6_k") and self.repack_type
        overhead = 1 << 20
        weights = self.init(ggml.InitParams(overhead, None, True))
        work = self.init(ggml.InitParams(overhead, None, True))
        tensors = [self.new_2d(weights, number, k, n) for _ in range(count)]
        buffer = self.allocate(weights, self.repack_type if repacked else self.default_type)
        for tensor in tensors:
            self.set(tensor, ctypes.addressof(blocks), 0, row * n)
        input = self.new_2d(work, ggml.F32, k, m)
        outputs = [self.mul_mat(work, tensor, input) for tensor in tensors]
        graph = self.new_graph(work, 4 * count + 8, False)
        for output in outputs:
            self.expand(graph, output)
        work_buffer = self.allocate(work, self.default_type)
        x = worker.random_input(m, k)
        self.set(input, x.ctypes.data, 0, x.nbytes)
        samples = worker.timed(lambda: self.compute(self.backend, graph))
        result = {"seconds": [s / count for s in samples], "repacked": bool(repacked)}
        if check:
            y = numpy.empty((m, n), numpy.float32)
            self.get(outputs[0], y.ctypes.data, 0, y.nbytes)
            # The quantizer's own error is not the product's: for these types it is known, below 1e-2.
            result["error"] = worker.error(y, values, x)
        self.free_buffer(work_buffer)
        self.free_buffer(buffer)
        self.free(work)
        self.free(weights)
        return result


worker.serve(Peer)
