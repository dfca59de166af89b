"""llama.cpp running a GGUF model: prompt and decode speed as llama-bench counts them, perplexity as its tool does."""

import ctypes
import time

import worker


class Peer:
    def __init__(self, threads):
        import llama_cpp

        self.llama, self.threads, self.model = llama_cpp, threads, None
        self.silence = llama_cpp.llama_log_callback(lambda *_: None)
        llama_cpp.llama_log_set(self.silence, ctypes.c_void_p(0))
        llama_cpp.llama_backend_init()
        flags = llama_cpp.llama_print_system_info().decode()
        on = " ".join(f.split(" = ")[0].split()[-1] for f in flags.split("|") if " = 1" in f)
        self.about = f"llama-cpp-python {llama_cpp.__version__}, flash attention on; {on}"

    def open(self, path, context, cache="f16"):
        llama = self.llama
        if self.model:
            llama.llama_free(self.context)
            llama.llama_model_free(self.model)
        parameters = llama.llama_model_default_params()
        parameters.n_gpu_layers = 0
        self.model = llama.llama_model_load_from_file(path.encode(), parameters)
        if not self.model:
            raise RuntimeError("the model does not load")
        options = llama.llama_context_default_params()
        options.n_ctx, options.n_batch, options.n_ubatch = context, 512, 512
        options.n_threads = options.n_threads_batch = self.threads
        options.flash_attn_type = llama.LLAMA_FLASH_ATTN_TYPE_ENABLED
        options.type_k = options.type_v = {"f16": 1, "q4_0": 2, "q8_0": 8}[cache]
        self.context = llama.llama_init_from_model(self.model, options)
        self.vocabulary = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(self.model))
        return {}

    def clear(self):
        self.llama.llama_memory_clear(self.llama.llama_get_memory(self.context), True)

    def decode(self, tokens):
        llama = self.llama
        array = (llama.llama_token * len(tokens))(*tokens)
        if llama.llama_decode(self.context, llama.llama_batch_get_one(array, len(tokens))) != 0:
            raise RuntimeError("llama_decode failed")

    def bench(self, prompt, decode):
        import random

        generator = random.Random(1)
        tokens = [generator.randrange(self.vocabulary) for _ in range(max(prompt, decode))]
        self.clear()
        self.decode(tokens[:8])  # warms up
        self.llama.llama_synchronize(self.context)
        self.clear()
        start = time.perf_counter()
        self.decode(tokens[:prompt])
        self.llama.llama_synchronize(self.context)
        prompt_seconds = time.perf_counter() - start
        self.clear()
        start = time.perf_counter()
        for token in tokens[:decode]:
            self.decode([token])
            self.llama.llama_synchronize(self.context)
        return {"prompt": prompt / prompt_seconds, "decode": decode / (time.perf_counter() - start)}

    def depth(self, depth, decode):
        """Tokens a second decoded behind a prompt of `depth` tokens."""
        import random

        generator = random.Random(1)
        tokens = [generator.randrange(self.vocabulary) for _ in range(depth + decode)]
        self.clear()
        for first in range(0, depth, 512):
            self.decode(tokens[first : min(first + 512, depth)])
        self.llama.llama_synchronize(self.context)
        start = time.perf_counter()
        for token in tokens[depth:]:
            self.decode([token])
            self.llama.llama_synchronize(self.context)
        return {"decode": decode / (time.perf_counter() - start)}

    def perplexity(self, text, context, windows):
        import numpy

        llama = self.llama
        vocabulary = llama.llama_model_get_vocab(self.model)
        data = text.encode()
        room = (llama.llama_token * (len(data) + 8))()
        count = llama.llama_tokenize(vocabulary, data, len(data), room, len(room), True, False)
        tokens = list(room[:count])
        adds = llama.llama_vocab_get_add_bos(vocabulary)
        total, scored = 0.0, 0
        batch = llama.llama_batch_init(context, 0, 1)
        for window in range(min(windows, len(tokens) // context)):
            part = tokens[window * context : (window + 1) * context]
            if adds:
                part[0] = llama.llama_vocab_bos(vocabulary)
            self.clear()
            batch.n_tokens = context
            for i, token in enumerate(part):
                batch.token[i], batch.pos[i] = token, i
                batch.n_seq_id[i], batch.seq_id[i][0] = 1, 0
                batch.logits[i] = i >= context // 2
            if llama.llama_decode(self.context, batch) != 0:
                raise RuntimeError("llama_decode failed")
            for i in range(context // 2, context - 1):
                logits = numpy.ctypeslib.as_array(
                    llama.llama_get_logits_ith(self.context, i), (self.vocabulary,)
                ).astype(numpy.float64)
                top = logits.max()
                total += top + numpy.log(numpy.exp(logits - top).sum()) - logits[part[i + 1]]
                scored += 1
        llama.llama_batch_free(batch)
        import math

        return {"perplexity": math.exp(total / scored), "tokens": scored}


worker.serve(Peer)
