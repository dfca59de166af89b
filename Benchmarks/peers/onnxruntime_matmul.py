"""onnxruntime's MatMulNBits: int4 weights with zero points, int8 activations (accuracy_level 4)."""

import worker


class Peer:
    def __init__(self, threads):
        import onnx
        import onnxruntime

        self.onnx, self.runtime, self.threads = onnx, onnxruntime, threads
        self.about = f"onnxruntime {onnxruntime.__version__}, MatMulNBits, accuracy_level 4, zero points"

    def matmul(self, m, n, k, group, cache_bytes, check):
        import numpy

        helper, numeric = self.onnx.helper, self.onnx.numpy_helper
        codes, scales, zeros, values = worker.random_int4(n, k, group)
        packed = (codes[:, 0::2] | codes[:, 1::2] << 4).reshape(n, k // group, group // 2)
        packed_zeros = (zeros[:, 0::2] | zeros[:, 1::2] << 4).reshape(-1)
        count = worker.copies_for(m, n * k // 2, cache_bytes)
        nodes, constants, outputs = [], [], []
        for copy in range(count):
            names = [f"B{copy}", f"s{copy}", f"z{copy}"]
            constants += [
                # Copies must differ: equal constants and the nodes that read them would be merged, and stay in a cache.
                numeric.from_array(numpy.roll(packed, copy, axis=0), names[0]),
                numeric.from_array(scales.astype(numpy.float32).reshape(-1), names[1]),
                numeric.from_array(packed_zeros, names[2]),
            ]
            nodes.append(
                helper.make_node(
                    "MatMulNBits", ["x", *names], [f"y{copy}"], domain="com.microsoft",
                    K=k, N=n, bits=4, block_size=group, accuracy_level=4,
                )
            )
            outputs.append(
                helper.make_tensor_value_info(f"y{copy}", self.onnx.TensorProto.FLOAT, [m, n])
            )
        graph = helper.make_graph(
            nodes, "g",
            [helper.make_tensor_value_info("x", self.onnx.TensorProto.FLOAT, [m, k])],
            outputs, constants,
        )
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)],
        )
        model.ir_version = 9
        options = self.runtime.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        session = self.runtime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        x = worker.random_input(m, k)
        result = {"seconds": [s / count for s in worker.timed(lambda: session.run(None, {"x": x}))]}
        if check:
            result["error"] = worker.error(session.run(["y0"], {"x": x})[0], values, x)
        return result


worker.serve(Peer)
