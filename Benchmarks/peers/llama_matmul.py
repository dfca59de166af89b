"""llama.cpp's matrix product alone, through its ggml library: Q4_0 (repacked for this processor), Q4_1 and Q4_K."""

import ctypes
import pathlib

import worker

TYPES = {"q4_0": 2, "q4_1": 3, "q8_0": 8, "q4_k": 12, "q6_k": 14}
F32 = 0


class InitParams(ctypes.Structure):
    _fields_ = [("size", ctypes.c_size_t), ("buffer", ctypes.c_void_p), ("no_alloc", ctypes.c_bool)]


class Peer:
    def __init__(self, threads):
        import llama_cpp

        folder = pathlib.Path(llama_cpp.__file__).parent / "lib"
        self.base = ctypes.CDLL(str(folder / "libggml-base.so"), mode=ctypes.RTLD_GLOBAL)
        self.cpu = ctypes.CDLL(str(folder / "libggml-cpu.so"), mode=ctypes.RTLD_GLOBAL)
        pointer, size, long = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int64

        def declare(library, name, result, *arguments):
            function = getattr(library, name)
            function.restype, function.argtypes = result, list(arguments)
            return function

        base, cpu = self.base, self.cpu
        self.init = declare(base, "ggml_init", pointer, InitParams)
        self.free = declare(base, "ggml_free", None, pointer)
        self.new_2d = declare(base, "ggml_new_tensor_2d", pointer, pointer, ctypes.c_int, long, long)
        self.mul_mat = declare(base, "ggml_mul_mat", pointer, pointer, pointer, pointer)
        self.new_graph = declare(base, "ggml_new_graph_custom", pointer, pointer, size, ctypes.c_bool)
        self.expand = declare(base, "ggml_build_forward_expand", None, pointer, pointer)
        self.allocate = declare(
            base, "ggml_backend_alloc_ctx_tensors_from_buft", pointer, pointer, pointer
        )
        self.free_buffer = declare(base, "ggml_backend_buffer_free", None, pointer)
        self.set = declare(base, "ggml_backend_tensor_set", None, pointer, pointer, size, size)
        self.get = declare(base, "ggml_backend_tensor_get", None, pointer, pointer, size, size)
        self.compute = declare(base, "ggml_backend_graph_compute", ctypes.c_int, pointer, pointer)
        self.quantize = declare(
            base, "ggml_quantize_chunk", size, ctypes.c_int, pointer, pointer, long, long, long, pointer
        )
        self.row_size = declare(base, "ggml_row_size", size, ctypes.c_int, long)
        self.default_type = declare(base, "ggml_backend_cpu_buffer_type", pointer)()
        self.buffer_name = declare(base, "ggml_backend_buft_name", ctypes.c_char_p, pointer)
        self.backend = declare(cpu, "ggml_backend_cpu_init", pointer)()
        declare(cpu, "ggml_backend_cpu_set_n_threads", None, pointer, ctypes.c_int)(self.backend, threads)
        self.repack_type = self.find_repack_type(declare)
        self.about = f"llama-cpp-python {llama_cpp.__version__}, ggml_mul_mat" + (
            ", Q4_0 and Q4_K repacked" if self.repack_type else ""
        )

    def find_repack_type(self, declare):
        registry = declare(self.cpu, "ggml_backend_cpu_reg", ctypes.c_void_p)()
        device = declare(
            self.base, "ggml_backend_reg_dev_get", ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t
        )(registry, 0)
        address = declare(
            self.base, "ggml_backend_reg_get_proc_address", ctypes.c_void_p, ctypes.c_void_p,
            ctypes.c_char_p,
        )(registry, b"ggml_backend_dev_get_extra_bufts")
        if not address:
            return None
        listing = ctypes.CFUNCTYPE(ctypes.POINTER(ctypes.c_void_p), ctypes.c_void_p)(address)(device)
        index = 0
        while listing and listing[index]:
            if b"REPACK" in self.buffer_name(listing[index]):
                return listing[index]
            index += 1
        return None

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
        weights = self.init(InitParams(overhead, None, True))
        work = self.init(InitParams(overhead, None, True))
        tensors = [self.new_2d(weights, number, k, n) for _ in range(count)]
        buffer = self.allocate(weights, self.repack_type if repacked else self.default_type)
        for tensor in tensors:
            self.set(tensor, ctypes.addressof(blocks), 0, row * n)
        input = self.new_2d(work, F32, k, m)
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
