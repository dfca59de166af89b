"""What all peers share: a process that measures on request, one JSON object a line.

compare.py starts a worker for each peer and number of threads, so that a peer's threads are pinned with it and
none disturbs another. A worker answers its first line with {"ready": versions and flags} or
{"unavailable": reason}, then each request with its result.
"""

import json
import os
import sys
import time


def serve(make):
    """`make(threads)` returns an object with `about` and a method for each request's "op"."""
    threads = int(sys.argv[1])
    # Libraries write to standard output what belongs to nobody; answers go to a copy of it.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(value):
        answers.write(json.dumps(value) + "\n")
        answers.flush()

    try:
        peer = make(threads)
    except Exception as error:
        answer({"unavailable": f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"})
        return
    answer({"ready": peer.about})
    for line in sys.stdin:
        request = json.loads(line)
        operation = request.pop("op")
        try:
            answer(getattr(peer, operation)(**request))
        except Exception as error:
            answer({"failed": f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"})


def timed(run, seconds=0.25, least=3):
    """Seconds of each call, for at least so long and so many calls, after one that is not counted."""
    run()
    samples = []
    start = time.perf_counter()
    while len(samples) < least or time.perf_counter() - start < seconds:
        before = time.perf_counter()
        run()
        samples.append(time.perf_counter() - before)
    return samples


def random_int4(n, k, group):
    """The same weights for every peer: codes, scales, zero points, and their values, [n, k]."""
    import numpy

    random = numpy.random.default_rng(1)
    codes = random.integers(0, 16, size=(n, k), dtype=numpy.uint8)
    scales = (random.uniform(0.5, 1, size=(n, k // group)) * 2.0**-7).astype(numpy.float16)
    zeros = random.integers(4, 12, size=(n, k // group), dtype=numpy.uint8)
    spread = numpy.repeat(zeros.astype(numpy.float32), group, axis=1)
    values = (codes - spread) * numpy.repeat(scales.astype(numpy.float32), group, axis=1)
    return codes, scales, zeros, values


def random_input(m, k):
    import numpy

    return numpy.random.default_rng(2).standard_normal((m, k)).astype(numpy.float32)


def error(output, values, x):
    """Squared error over squared reference, in float64."""
    import numpy

    reference = x.astype(numpy.float64) @ values.T.astype(numpy.float64)
    difference = output.astype(numpy.float64) - reference
    return float((difference**2).sum() / (reference**2).sum())


def copies_for(m, weight_bytes, cache_bytes):
    """Copies that exceed four times the last-level cache where weights should be cold, as our own tool does."""
    return 1 if m > 32 else max(1, -(-4 * cache_bytes // weight_bytes))


def random_attention(queries, keys, heads, kv_heads, width):
    """Standard normal queries [heads, queries, width] and keys and values [kv_heads, keys, width]."""
    import numpy

    random = numpy.random.default_rng(3)

    def normal(*shape):
        return random.standard_normal(shape, dtype=numpy.float32)

    return normal(heads, queries, width), normal(kv_heads, keys, width), normal(kv_heads, keys, width)


def is_masked(queries, keys):
    """[queries, keys]: causal, the last query seeing every key."""
    import numpy

    return numpy.arange(keys)[None, :] > numpy.arange(queries)[:, None] + keys - queries


def attention_error(output, q, k, v):
    """Squared error over squared reference of the last query, in float64; output [heads, queries, width]."""
    import numpy

    group = q.shape[0] // k.shape[0]
    difference = size = 0.0
    for head in range(q.shape[0]):
        keys = k[head // group].astype(numpy.float64)
        scores = keys @ q[head, -1].astype(numpy.float64) / numpy.sqrt(q.shape[2])
        weights = numpy.exp(scores - scores.max())
        reference = weights @ v[head // group].astype(numpy.float64) / weights.sum()
        difference += ((output[head, -1] - reference) ** 2).sum()
        size += (reference**2).sum()
    return float(difference / size)


def copies_for_cache(queries, bytes, cache_bytes):
    """Copies that exceed twice the last-level cache where keys and values should be cold, as our own tool does."""
    return 1 if queries > 8 else max(1, -(-2 * cache_bytes // bytes))
