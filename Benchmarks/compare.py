"""Ours and theirs side by side: every figure of a row is measured in the same rounds, one after the other.

Usage: compare.py TOOL MODEL VENV_PYTHON [--ternary MODEL] [--rounds R] [--only model|depth|ternary|matmul|attention|latent] [--threads 1,2]

Prints medians with extremes, ratios of medians, versions and flags. A peer whose numbers are wrong is marked
(!), one that cannot run is named with the reason.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
SIZE = 4096
# Weights of four bits and activations of eight: an honest product is well within; swapped nibbles or a missed zero
# point are far outside. llama.cpp quantizes the weights itself, which adds the error of its types.
WORST_ERROR = {"llama.cpp": 1e-2, "onnxruntime": 1e-3, "PyTorch": 1e-3}


class Worker:
    """A peer's process, pinned to the first processors; asleep while others measure."""

    def __init__(self, python, script, threads):
        self.process = subprocess.Popen(
            [python, str(HERE / "peers" / script), str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            preexec_fn=pin(threads),
            env={**os.environ, "OMP_NUM_THREADS": str(threads)},
        )
        first = self.read()
        self.about = first.get("ready")
        self.reason = first.get("unavailable", first.get("failed"))

    def read(self):
        line = self.process.stdout.readline()
        return json.loads(line) if line else {"failed": "the process ended"}

    def ask(self, **request):
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
        except OSError:
            return {"failed": "the process ended"}
        return self.read()

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def pin(threads):
    if not hasattr(os, "sched_setaffinity"):
        return None
    processors = sorted(os.sched_getaffinity(0))[:threads]
    return lambda: os.sched_setaffinity(0, processors)


def ours(tool, threads, *arguments):
    result = subprocess.run(
        [tool, *arguments, "--threads", str(threads), "--json"],
        capture_output=True, text=True, preexec_fn=pin(threads),
    )
    if result.returncode != 0:
        sys.exit(f"error: {' '.join(arguments)}: {result.stderr.strip()}")
    return json.loads(result.stdout)


def cache_bytes():
    sizes = [32 << 20]
    for file in pathlib.Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        text = file.read_text().strip()
        unit = {"K": 1 << 10, "M": 1 << 20}.get(text[-1], 1)
        sizes.append(int(text.rstrip("KM")) * unit)
    return max(sizes)


def spread(values, scale=1.0, places=1):
    """`median (minimum–maximum)`."""
    if not values:
        return "–"
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle * scale:.{places}f} ({low * scale:.{places}f}–{high * scale:.{places}f})"


def compare_models(options, threads, model, prompt, decode):
    worker = Worker(options.python, "llama_model.py", threads)
    print(f"\nmodel {pathlib.Path(model).name}, {threads} thread(s), prompt {prompt}, decode {decode}, f16 cache")
    mark = ""
    if worker.reason:
        print(f"  llama.cpp: unavailable: {worker.reason}")
    else:
        print(f"  llama.cpp: {worker.about}")
        worker.ask(op="open", path=model, context=640)
        text = (HERE.parent / "LICENSE").read_text()
        theirs = worker.ask(op="perplexity", text=text, context=512, windows=2)
        mine = ours(
            options.tool, threads, "perplexity", "--model", model, "--text",
            str(HERE.parent / "LICENSE"), "--context", "512", "--chunks", "2",
        )["perplexity"]
        other = theirs.get("perplexity", float("nan"))
        agrees = abs(other / mine - 1) < 0.03
        mark = "" if agrees else " !"
        print(
            f"  perplexity of the licence, 2 windows: ours {mine:.4f}, llama.cpp {other:.4f}"
            + ("" if agrees else "  ! one of them computes wrongly")
        )
    samples = {"prompt": ([], []), "decode": ([], [])}
    shares = []
    for _ in range(options.rounds):
        run = ours(
            options.tool, threads, "bench", "model", "--model", model, "-p", str(prompt), "-n",
            str(decode), "--repetitions", "1",
        )
        for kind in samples:
            samples[kind][0].append(run[kind]["tokensPerSecond"]["median"])
        shares.append(run["decode"]["shareOfReadBandwidth"])
        if not worker.reason:
            theirs = worker.ask(op="bench", prompt=prompt, decode=decode)
            for kind in samples:
                if kind in theirs:
                    samples[kind][1].append(theirs[kind])
    for kind, (mine, theirs) in samples.items():
        ratio = f"{statistics.median(mine) / statistics.median(theirs):.2f}×" if theirs else "–"
        print(
            f"  {kind:7} tokens/s   ours {spread(mine):26} llama.cpp {spread(theirs) + mark:26} ratio {ratio}"
        )
    print(f"  decode, share of read bandwidth: ours {spread(shares, 100)} %")
    if run["ternaryFormat"]:
        print(
            f"  ours holds ternary weights as {run['ternaryFormat']} ({run['ternaryFormatReason']}); of"
            f" {run['bytesPerToken'] / 1e6:.1f} MB a token the head has {run['headBytesPerToken'] / 1e6:.1f}, of the"
            " same type in both"
        )
    worker.close()


def compare_depths(options, threads, model, depth, decode):
    worker = Worker(options.python, "llama_model.py", threads)
    print(f"\nmodel {pathlib.Path(model).name}, {threads} thread(s), decode {decode} tokens behind {depth}, by cache")
    if worker.reason:
        print(f"  llama.cpp: unavailable: {worker.reason}")
    for cache in ("f16", "q8_0", "q4_0"):
        mine, theirs = [], []
        if not worker.reason:
            worker.ask(op="open", path=model, context=depth + decode, cache=cache)
        for _ in range(options.rounds):
            run = ours(
                options.tool, threads, "bench", "model", "--model", model, "-p", "0", "-n", str(decode),
                "--depth", str(depth), "--kv-cache", cache, "--repetitions", "1",
            )
            mine.append(run["decode"]["tokensPerSecond"]["median"])
            if not worker.reason:
                theirs.append(worker.ask(op="depth", depth=depth, decode=decode).get("decode", float("nan")))
        ratio = f"{statistics.median(mine) / statistics.median(theirs):.2f}×" if theirs else "–"
        print(f"  {cache:5} tokens/s   ours {spread(mine):26} llama.cpp {spread(theirs):26} ratio {ratio}")
    worker.close()


# Attention of standard normal numbers: float32 and bfloat16 arithmetic, f16 sums, and codes of 8 and 4 bits.
WORST_ATTENTION_ERROR = {"f32": 1e-6, "bf16": 1e-4, "f16": 1e-4, "q8_0": 1e-3, "q4_0": 5e-2}


def attention_workers(options, threads):
    workers = {
        "llama.cpp": Worker(options.python, "llama_attention.py", threads),
        "PyTorch": Worker(options.python, "torch_attention.py", threads),
    }
    for name, worker in workers.items():
        print(f"  {name}: {worker.about or 'unavailable: ' + str(worker.reason)}")
    return workers


def attention_requests(workers):
    """What each peer that runs can be asked for: the peer and its type of keys and values."""
    requests = {("llama.cpp", type) for type in ("f16", "q8_0", "q4_0")} | {("PyTorch", t) for t in ("f32", "bf16")}
    return sorted(r for r in requests if not workers[r[0]].reason)


def compare_attentions(options, threads):
    print(f"\nattention, 32 query heads of 128, {threads} thread(s); decoding with keys and values from memory")
    workers = attention_workers(options, threads)
    for length in (2048, 4096):
        compare_attention(options, threads, workers, length, length, 32)
    for kv_heads in (8, 32):
        for length in (4096, 16384, 65536):
            if kv_heads == 8 or length == 16384:
                compare_attention(options, threads, workers, 1, length, kv_heads)
    for worker in workers.values():
        worker.close()


def compare_attention(options, threads, workers, queries, keys, kv_heads):
    # bf16*: keys and values in bf16, products in bfloat16.
    own = ("f32", "f16", "bf16", "q8_0", "q4_0", "bf16*")
    requests = attention_requests(workers)
    times = {("ours", type): [] for type in own} | {r: [] for r in requests}
    errors, failures, rooflines = {}, {}, {type: [] for type in own}
    for round in range(options.rounds):
        for type in own:
            run = ours(
                options.tool, threads, "bench", "attention", "--query-length", str(queries), "--kv-length", str(keys),
                "--kv-heads", str(kv_heads), "--kv-type", type.rstrip("*"), "--causal", "--repetitions", "1",
                "--products", "bfloat16" if "*" in type else "float32",
            )
            times["ours", type].append(run["microseconds"]["median"] * 1e-6)
            rooflines[type].append(run["shareOfRoofline"])
        for peer, type in requests:
            answer = workers[peer].ask(
                op="attention", queries=queries, keys=keys, heads=32, kv_heads=kv_heads, width=128, type=type,
                cache_bytes=cache_bytes(), check=round == 0,
            )
            if "failed" in answer:
                failures[peer, type] = answer["failed"]
                continue
            times[peer, type].append(statistics.median(answer["seconds"]))
            if "error" in answer:
                errors[peer, type] = answer["error"]
    what = f"prefill {queries}" if queries > 1 else f"decode at {keys}, {kv_heads} key-value heads"
    print(f"\n  {what}: ms, and how many times faster ours is")
    pairs = queries * (2 * keys - queries + 1) / 2
    for (name, type), seconds in times.items():
        if not seconds:
            print(f"    {name:10} {type:5} failed: {failures.get((name, type), 'no time')}")
            continue
        middle = statistics.median(seconds)
        cells = f"{spread(seconds, 1e3, 2):28} {4 * pairs * 32 * 128 / middle * 1e-9:6.1f} GFLOP/s"
        if name == "ours":
            print(f"    {name:10} {type:5} {cells}  {statistics.median(rooflines[type]) * 100:5.1f} % of roofline")
            continue
        equals = [type] if type.startswith("q") else [type, "bf16*"]
        ratios = ", ".join(f"ours {own} {middle / statistics.median(times['ours', own]):.2f}×" for own in equals)
        wrong = " ! inexact" if errors.get((name, type), 0) > WORST_ATTENTION_ERROR[type] else ""
        print(
            f"    {name:10} {type:5} {cells}  {ratios}, error {errors.get((name, type), 0):.1e}{wrong}"
        )


def compare_latents(options, threads):
    print(
        f"\nlow-rank decode attention, 32 query heads of 128, 8 key-value heads, {threads} thread(s): 4-bit rotated keys,"
        " 4-bit latents of half the values' elements, from memory"
    )
    workers = attention_workers(options, threads)
    for length in (4096, 16384, 65536):
        compare_latent(options, threads, workers, length)
    for worker in workers.values():
        worker.close()


def compare_latent(options, threads, workers, length):
    groups = (1, 2, 4)
    own = ("f16", "q8_0", "q4_0")
    requests = attention_requests(workers)
    latent = {group: [] for group in groups}
    times = {("ours", type): [] for type in own} | {r: [] for r in requests}
    bounds = {}
    for _ in range(options.rounds):
        for group in groups:
            run = ours(
                options.tool, threads, "bench", "latent-attention", "--kv-length", str(length), "--group", str(group),
                "--beside", ",".join(own), "--repetitions", "1",
            )
            bounds[group] = run["bound"]
            for row in run["caches"]:
                seconds = row["microseconds"]["median"] * 1e-6
                (latent[group] if row["cache"] == "low-rank" else times["ours", row["cache"]]).append(seconds)
        for peer, type in requests:
            answer = workers[peer].ask(
                op="attention", queries=1, keys=length, heads=32, kv_heads=8, width=128, type=type,
                cache_bytes=cache_bytes(), check=False,
            )
            if "failed" not in answer:
                times[peer, type].append(statistics.median(answer["seconds"]))
    print(f"\n  decode at {length}: ms, and how many times faster low-rank is")
    for group, seconds in latent.items():
        print(f"    low-rank, latents of {group} heads  {spread(seconds, 1e3, 2):28} bound by {bounds[group]}")
    for (name, type), seconds in times.items():
        ratios = ", ".join(
            f"group {group} {statistics.median(seconds) / statistics.median(latent[group]):.2f}×" for group in groups
        ) if seconds else "failed"
        print(f"    {name:10} {type:5}              {spread(seconds, 1e3, 2):28} {ratios}")


def compare_matmuls(options, threads):
    workers = {
        "llama.cpp": Worker(options.python, "llama_matmul.py", threads),
        "onnxruntime": Worker(options.python, "onnxruntime_matmul.py", threads),
        "PyTorch": Worker(options.python, "torch_matmul.py", threads),
    }
    print(f"\nint4 matmul N = K = {SIZE}, {threads} thread(s); M ≤ 32 with weights from memory")
    for name, worker in workers.items():
        print(f"  {name}: {worker.about or 'unavailable: ' + str(worker.reason)}")
    for group in (32, 128):
        for m in (1, 16, 128, 512):
            compare_matmul(options, threads, workers, m, group)
    for worker in workers.values():
        worker.close()


def compare_matmul(options, threads, workers, m, group):
    ours_names = {f"ours int4 group {group}": ("int4", group)}
    requests = {
        f"onnxruntime group {group}": ("onnxruntime", {"group": group}),
        f"PyTorch group {group}": ("PyTorch", {"group": group}),
    }
    if group == 32:
        ours_names["ours q4_0"] = ("q4_0", None)
        ours_names["ours q4_1"] = ("q4_1", None)
        requests["llama.cpp q4_0"] = ("llama.cpp", {"type": "q4_0"})
        requests["llama.cpp q4_1"] = ("llama.cpp", {"type": "q4_1"})
    times = {name: [] for name in [*ours_names, *requests]}
    errors, failures, peaks = {}, {}, []
    requests = {n: r for n, r in requests.items() if not workers[r[0]].reason}
    for round in range(options.rounds):
        for name, (format, size) in ours_names.items():
            arguments = ["bench", "matmul", "--format", format, "--m", str(m), "--n", str(SIZE), "--k",
                         str(SIZE), "--repetitions", "1"]
            run = ours(options.tool, threads, *arguments, *(["--group", str(size)] if size else []))
            times[name].append(run["microseconds"]["median"] * 1e-6)
            peaks.append(run["int8GigaMACPerSecond"]["median"])
        for name, (peer, request) in requests.items():
            answer = workers[peer].ask(
                op="matmul", m=m, n=SIZE, k=SIZE, cache_bytes=cache_bytes(), check=round == 0, **request
            )
            if "failed" in answer:
                failures[name] = answer["failed"]
                continue
            times[name].append(statistics.median(answer["seconds"]))
            if "error" in answer:
                errors[name] = answer["error"]
    print(f"\n  M = {m}, groups of {group}, int8 peak {statistics.median(peaks):.0f} GMAC/s")
    macs = m * SIZE * SIZE
    reference = statistics.median(times[f"ours int4 group {group}"])
    for name, seconds in times.items():
        if not seconds:
            if name in failures:
                print(f"    {name:24} failed: {failures[name]}")
            continue
        middle = statistics.median(seconds)
        peer = requests[name][0] if name in requests else None
        wrong = peer and not errors.get(name, float("inf")) < WORST_ERROR[peer]
        print(
            f"    {name:24} {spread(seconds, 1e6):34} µs {macs / middle * 1e-9:7.1f} GMAC/s"
            f"  ours is {middle / reference:5.2f}× as fast"
            + (f"  ! wrong numbers (error {errors.get(name, float('nan')):.1e})" if wrong else "")
        )


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("tool")
    parser.add_argument("model")
    parser.add_argument("python")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--ternary", help="a BitNet model, measured as the first one is")
    parser.add_argument("--only", choices=["model", "depth", "ternary", "matmul", "attention", "latent"])
    parser.add_argument("--threads")
    options = parser.parse_args()
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    counts = [int(t) for t in options.threads.split(",")] if options.threads else sorted({1, available})
    print(f"medians (minimum–maximum) of {options.rounds} interleaved rounds, each process pinned to its processors")
    for threads in counts:
        if options.only in (None, "model"):
            compare_models(options, threads, options.model, 512, 128)
        if options.only in (None, "depth"):
            compare_depths(options, threads, options.model, 4096, 64)
        if options.only in (None, "ternary") and options.ternary:
            compare_models(options, threads, options.ternary, 128, 24)
        if options.only in (None, "matmul"):
            compare_matmuls(options, threads)
        if options.only in (None, "attention"):
            compare_attentions(options, threads)
        if options.only in (None, "latent"):
            compare_latents(options, threads)


main()
