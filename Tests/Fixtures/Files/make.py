"""Makes the fixtures of this folder with the formats' own Python packages.

    pip install gguf==0.19.0 safetensors==0.8.0 numpy
    python make.py
"""
import struct

import gguf
import numpy as np
from safetensors.numpy import save_file

w = gguf.GGUFWriter("official-gguf.bin", "test")
w.add_uint8("u8", 200)
w.add_int8("i8", -100)
w.add_uint16("u16", 60000)
w.add_int16("i16", -30000)
w.add_uint32("u32", 4000000000)
w.add_int32("i32", -2000000000)
w.add_float32("f32", 1.5)
w.add_uint64("u64", 2**63 + 1)
w.add_int64("i64", -(2**62))
w.add_float64("f64", 0.1)
w.add_bool("yes", True)
w.add_string("text", "naïve ☃")
w.add_array("tokens", ["a", "", "Ġb"])
w.add_array("numbers", [1, -2, 3])
w.add_array("scores", [0.5, -1.25])
w.add_tensor("matrix", np.arange(6, dtype=np.float32).reshape(2, 3))
w.add_tensor("half", np.array([1, -2, 0.5], dtype=np.float16))
q = gguf.quants.quantize(np.linspace(-8, 7, 64, dtype=np.float32).reshape(2, 32),
                         gguf.GGMLQuantizationType.Q4_0)
w.add_tensor("blocks", q, raw_dtype=gguf.GGMLQuantizationType.Q4_0)
w.write_header_to_file()
w.write_kv_data_to_file()
w.write_tensors_to_file()
w.close()

save_file(
    {
        "b.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
        "a \"quoted\" ☃": np.array([1, -2, 0.5], dtype=np.float16),
        "ids": np.array([-1, 2**40], dtype=np.int64),
        "qweight": np.array([[1, -2]], dtype=np.int32),
        "bytes": np.array([0, 255, 7], dtype=np.uint8),
        "scalar": np.array(2.5, dtype=np.float32),
        "empty": np.zeros((0, 4), dtype=np.float32),
    },
    "official-safetensors.bin",
    metadata={"format": "pt"},
)
