"""llama.cpp's ggml library by its C functions, as the Python package carries it."""

import ctypes
import pathlib

F32, F16 = 0, 1


class InitParams(ctypes.Structure):
    _fields_ = [("size", ctypes.c_size_t), ("buffer", ctypes.c_void_p), ("no_alloc", ctypes.c_bool)]


class Ggml:
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
        self.new_3d = declare(
            base, "ggml_new_tensor_3d", pointer, pointer, ctypes.c_int, long, long, long
        )
        self.flash_attention = declare(
            base, "ggml_flash_attn_ext", pointer, pointer, pointer, pointer, pointer, pointer,
            ctypes.c_float, ctypes.c_float, ctypes.c_float,
        )
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
        self.version = f"llama-cpp-python {llama_cpp.__version__}"

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
