"""PyTorch's int4 product for CPUs: bfloat16 activations, int4 weights with zero points."""

import worker


class Peer:
    def __init__(self, threads):
        import torch

        torch.set_num_threads(threads)
        self.torch = torch
        capability = torch.backends.cpu.get_cpu_capability()
        self.about = f"torch {torch.__version__}, _weight_int4pack_mm_for_cpu, bfloat16, {capability}"

    def matmul(self, m, n, k, group, cache_bytes, check):
        import numpy

        torch = self.torch
        codes, scales, zeros, _ = worker.random_int4(n, k, group)
        # Its zero is a float: value = (code - 8) * scale + zero.
        scale = torch.from_numpy(scales.astype(numpy.float32)).to(torch.bfloat16)
        zero = ((8 - torch.from_numpy(zeros.astype(numpy.float32))) * scale.float()).to(torch.bfloat16)
        pair = torch.stack([scale.T.contiguous(), zero.T.contiguous()], dim=2).contiguous()
        weights = torch.from_numpy(codes.astype(numpy.int32))
        packed = torch._convert_weight_to_int4pack_for_cpu(weights, 1)
        count = worker.copies_for(m, n * k // 2, cache_bytes)
        copies = [(packed.clone(), pair.clone()) for _ in range(count)]
        x = torch.from_numpy(worker.random_input(m, k)).to(torch.bfloat16)

        def run():
            for weight, scales_and_zeros in copies:
                torch._weight_int4pack_mm_for_cpu(x, weight, group, scales_and_zeros)

        with torch.inference_mode():
            result = {"seconds": [s / count for s in worker.timed(run)]}
            if check:
                # Against the values that its own bfloat16 scales and zeros stand for.
                spread = torch.repeat_interleave(scale.float(), group, dim=1)
                offset = torch.repeat_interleave(zero.float(), group, dim=1)
                values = ((weights - 8).float() * spread + offset).numpy()
                output = torch._weight_int4pack_mm_for_cpu(x, packed, group, pair).float().numpy()
                result["error"] = worker.error(output, values, x.float().numpy())
        return result


worker.serve(Peer)
