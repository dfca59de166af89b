"""PyTorch's scaled_dot_product_attention on a CPU."""

import worker


class Peer:
    def __init__(self, threads):
        import torch

        torch.set_num_threads(threads)
        self.torch = torch
        self.about = (
            f"torch {torch.__version__}, scaled_dot_product_attention, {torch.backends.cpu.get_cpu_capability()}"
        )

    def attention(self, queries, keys, heads, kv_heads, width, type, cache_bytes, check):
        torch = self.torch
        number = {"f32": torch.float32, "bf16": torch.bfloat16}[type]
        arrays = worker.random_attention(queries, keys, heads, kv_heads, width)
        q, k, v = (torch.from_numpy(a).to(number)[None] for a in arrays)
        count = worker.copies_for_cache(queries, 2 * k.numel() * k.element_size(), cache_bytes)
        copies = [(k.clone(), v.clone()) for _ in range(count)]
        attend = torch.nn.functional.scaled_dot_product_attention
        # Its causal mask is aligned top left: right for as many queries as keys, and unneeded for one query.
        causal = queries > 1

        def run():
            for keys_copy, values_copy in copies:
                attend(q, keys_copy, values_copy, is_causal=causal, enable_gqa=heads != kv_heads)

        with torch.inference_mode():
            result = {"seconds": [s / count for s in worker.timed(run)]}
            if check:
                y = attend(q, k, v, is_causal=causal, enable_gqa=heads != kv_heads)[0].float().numpy()
                result["error"] = worker.attention_error(y, *arrays)
        return result


worker.serve(Peer)
