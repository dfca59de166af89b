"""The questions that the cases file leaves open, as access patterns and a rule that turns cycles into an answer.

A question names a probe, three patterns whose base passes are not in doubt (low, middle, high), and what each answer
predicts. Middle and high give the cycles of a pass, low the point to start from:

    pass          = (cycles(high) - cycles(middle)) / (passes(high) - passes(middle))
    passes(probe) = passes(low) + (cycles(probe) - cycles(low)) / pass

For stores, middle and high are both no consecutive segments, so that a penalty on such stores leaves the difference alone;
low is one segment in the order of the lanes. The spread is the sum of (maximum - minimum) over the repetitions of probe
and low, in passes. An answer counts when

    - low by itself costs its own passes, within 0.1 and 10 %: else the loop waits for something else than the data
      stage, and a pass more could hide behind that,
    - the spread is at most half of the gap between the answers' predictions,
    - the probe is nearer than 0.35 gaps to the answer,
    - no answer's prediction lies below what one instruction costs at least (the cycles of a conflict-free 4-byte
      access); else the two could not be told apart by cycles.

Otherwise the verdict is "unsettled", with the reason. Profiler counters are shown beside, and never overrule cycles.
"""

ALL = 0xFFFFFFFF
MANY = 16  # warps: enough to hide every latency

CASES = {
    # name: (op, bytes, mask, address of a lane)
    "x-ld32-contiguous": ("ld", 4, ALL, lambda l: 4 * l),
    "x-st32-contiguous": ("st", 4, ALL, lambda l: 4 * l),
    # 16-byte stores: one segment of 512 bytes; two rows 16 bytes apart; four; eight; a column of the XOR layout.
    "x-st128-one-segment": ("st", 16, ALL, lambda l: 16 * l),
    "x-st128-one-segment-permuted": ("st", 16, ALL, lambda l: 16 * (l ^ 5)),
    "x-st128-two-rows-pitch-272": ("st", 16, ALL, lambda l: l // 16 * 272 + 16 * (l % 16)),
    "x-st128-four-rows-pitch-144": ("st", 16, ALL, lambda l: l // 8 * 144 + 16 * (l % 8)),
    "x-st128-two-rows-far": ("st", 16, ALL, lambda l: l // 16 * 4096 + 16 * (l % 16)),
    "x-st128-lanes-pitch-528": ("st", 16, ALL, lambda l: l % 8 * 528 + 16 * (l // 8)),
    "x-st128-two-way": ("st", 16, ALL, lambda l: 32 * l),
    "x-st128-a-tile-pitch-80": ("st", 16, ALL, lambda l: 80 * (l // 4) + 16 * (l % 4)),
    "x-st128-eight-way": ("st", 16, ALL, lambda l: 128 * l),
    # Equal neighbors.
    "x-ld128-contiguous": ("ld", 16, ALL, lambda l: 16 * l),
    "x-ld128-two-way": ("ld", 16, ALL, lambda l: 32 * l),
    "x-ld128-eight-way": ("ld", 16, ALL, lambda l: 128 * l),
    "x-ld128-pairs-equal": ("ld", 16, ALL, lambda l: 16 * (l // 2)),
    "x-ld128-second-neighbors-equal": ("ld", 16, ALL, lambda l: 16 * (l % 2 + 2 * (l // 4))),
    "x-ld128-uniform": ("ld", 16, ALL, lambda l: 0),
    "x-ld64-contiguous": ("ld", 8, ALL, lambda l: 8 * l),
    "x-ld64-two-way": ("ld", 8, ALL, lambda l: 16 * l),
    "x-ld64-sixteen-way": ("ld", 8, ALL, lambda l: 128 * l),
    "x-ld64-pairs-equal": ("ld", 8, ALL, lambda l: 8 * (l // 2)),
    "x-ld64-halves-equal": ("ld", 8, ALL, lambda l: 8 * (l % 16)),
    # Phases without an active lane.
    "x-ld128-first-phase-only": ("ld", 16, 0xFF, lambda l: 16 * l),
    "x-ld128-a-lane-a-phase": ("ld", 16, 0x01010101, lambda l: 16 * l),
    "x-st128-first-phase-only": ("st", 16, 0xFF, lambda l: 16 * l),
    "x-ld64-first-phase-only": ("ld", 8, 0xFFFF, lambda l: 8 * l),
    # ldmatrix: rows that repeat inside a matrix, and across matrices.
    "x-ldmatrix-x4-rows": ("ldmatrix", 16, ALL, lambda l: 16 * l),
    "x-ldmatrix-x4-two-way": ("ldmatrix", 16, ALL, lambda l: 32 * l),
    "x-ldmatrix-x4-eight-way": ("ldmatrix", 16, ALL, lambda l: 128 * l),
    "x-ldmatrix-x4-one-row-a-matrix": ("ldmatrix", 16, ALL, lambda l: 16 * (l // 8)),
    "x-ldmatrix-x4-matrices-equal": ("ldmatrix", 16, ALL, lambda l: 16 * (l % 8)),
    "x-ldmatrix-x4-trans-rows": ("ldmatrix", 16, ALL, lambda l: 16 * l),
    # stmatrix (9.0) and asynchronous copies: no question of their own, counters and cycles for the record.
    "x-stmatrix-x4-rows": ("stmatrix", 16, ALL, lambda l: 16 * l),
    "x-stmatrix-x4-pitch-144": ("stmatrix", 16, ALL, lambda l: 144 * l),
    "x-stmatrix-x4-pitch-128": ("stmatrix", 16, ALL, lambda l: 128 * l),
    "x-copy-one-segment": ("ldgsts", 16, ALL, lambda l: 16 * l),
    "x-copy-two-rows-pitch-272": ("ldgsts", 16, ALL, lambda l: l // 16 * 272 + 16 * (l % 16)),
    "x-copy-ca-one-segment": ("ldgsts", 16, ALL, lambda l: 16 * l),
    "x-copy-ca-two-rows-pitch-272": ("ldgsts", 16, ALL, lambda l: l // 16 * 272 + 16 * (l % 16)),
    "x-copy-eight-way": ("ldgsts", 16, ALL, lambda l: 128 * l),
}

STORE = {"low": ("x-st128-one-segment", 4), "middle": ("x-st128-two-way", 8), "high": ("x-st128-eight-way", 32), "floor": "x-st32-contiguous"}
LOAD16 = {"low": ("x-ld128-contiguous", 4), "middle": ("x-ld128-two-way", 8), "high": ("x-ld128-eight-way", 32), "floor": "x-ld32-contiguous"}
LOAD8 = {"low": ("x-ld64-contiguous", 2), "middle": ("x-ld64-two-way", 4), "high": ("x-ld64-sixteen-way", 32), "floor": "x-ld32-contiguous"}
MATRIX = {"low": ("x-ldmatrix-x4-rows", 4), "middle": ("x-ldmatrix-x4-two-way", 8), "high": ("x-ldmatrix-x4-eight-way", 32), "floor": "x-ld32-contiguous"}

# M1: the pass rule alone. M2: it plus a penalty for a warp's 16-byte store that is not one consecutive segment. The least
# penalty is one pass; a larger one is M2 as well, and the passes found are its size.
M1_OR_M2 = {"M1": 4, "M2": (5, "or more")}

QUESTIONS = [
    {"name": "m1-or-m2", "probe": "x-st128-two-rows-pitch-272", "answers": M1_OR_M2, **STORE},
    {"name": "m1-or-m2 (four rows)", "probe": "x-st128-four-rows-pitch-144", "answers": M1_OR_M2, **STORE},
    {"name": "m1-or-m2 (two rows far apart)", "probe": "x-st128-two-rows-far", "answers": M1_OR_M2, **STORE},
    {"name": "m1-or-m2 (lane-major)", "probe": "x-st128-lanes-pitch-528", "answers": M1_OR_M2, **STORE},
    {"name": "m1-or-m2 (one segment, lanes permuted)", "probe": "x-st128-one-segment-permuted", "answers": M1_OR_M2, **STORE},
    {"name": "a-tile store at pitch 80", "probe": "x-st128-a-tile-pitch-80", "answers": {"two-way": 8, "M2 on top": (9, "or more")}, **STORE},
    {"name": "pair merge, 16 bytes", "probe": "x-ld128-pairs-equal", "answers": {"no": 4, "yes": 2}, **LOAD16},
    {"name": "pair merge, 16 bytes, second neighbors", "probe": "x-ld128-second-neighbors-equal", "answers": {"no": 4, "yes": 2}, **LOAD16},
    {"name": "pair merge, 8 bytes", "probe": "x-ld64-pairs-equal", "answers": {"no": 2, "yes": 1}, **LOAD8},
    {"name": "half-warps with the same words, 8 bytes", "probe": "x-ld64-halves-equal", "answers": {"apart": 2, "joined": 1}, **LOAD8},
    {"name": "empty phases skipped, 16-byte load", "probe": "x-ld128-first-phase-only", "answers": {"yes": 1, "no": 4}, **LOAD16},
    {"name": "one lane a phase, 16-byte load", "probe": "x-ld128-a-lane-a-phase", "answers": {"a pass a phase": 4, "pooled": 1}, **LOAD16},
    {"name": "empty phases skipped, 16-byte store", "probe": "x-st128-first-phase-only", "answers": {"yes": 1, "no": 4}, **STORE},
    {"name": "empty phases skipped, 8-byte load", "probe": "x-ld64-first-phase-only", "answers": {"yes": 1, "no": 2}, **LOAD8},
    {"name": "ldmatrix, one row eight times", "probe": "x-ldmatrix-x4-one-row-a-matrix", "answers": {"broadcast": 4, "apart": 32}, **MATRIX},
    {"name": "ldmatrix, equal matrices", "probe": "x-ldmatrix-x4-matrices-equal", "answers": {"apart": 4, "joined": 1}, **MATRIX},
]


def cases():
    return [
        {"name": name, "op": op, "width_bytes": width, "active_mask": mask,
         "byte_addresses": [address(lane) for lane in range(32)]}
        for name, (op, width, mask, address) in CASES.items()
    ]


def verdict(question, cycles):
    """`cycles`: case → {"median", "minimum", "maximum"} of cycles an access at MANY warps."""
    result = {"name": question["name"], "probe": question["probe"], "answer": "unsettled"}
    needed = [question["probe"], question["low"][0], question["middle"][0], question["high"][0], question["floor"]]
    missing = [name for name in needed if name not in cycles]
    if missing:
        return {**result, "reason": "not measured: " + ", ".join(missing)}
    low, low_passes = question["low"]
    middle, middle_passes = question["middle"]
    high, high_passes = question["high"]
    per_pass = (cycles[high]["median"] - cycles[middle]["median"]) / (high_passes - middle_passes)
    if not per_pass > 0:
        return {**result, "reason": f"{high} is not slower than {middle}: the loop does not wait for the data stage"}

    def passes(name):
        return low_passes + (cycles[name]["median"] - cycles[low]["median"]) / per_pass

    spread = sum(cycles[n]["maximum"] - cycles[n]["minimum"] for n in (question["probe"], low)) / per_pass
    found = passes(question["probe"])
    result |= {"passes": round(found, 3), "spread": round(spread, 3), "cyclesPerPass": round(per_pass, 4),
               "ratioToLow": round(cycles[question["probe"]]["median"] / cycles[low]["median"], 4)}
    alone = cycles[low]["median"] / per_pass
    if abs(alone - low_passes) > 0.1 + 0.1 * low_passes:
        return {**result, "reason": f"{low} costs {alone:.2f} passes by itself, not {low_passes}: the loop waits for something else"}
    predicted = {a: p if isinstance(p, tuple) else (p, None) for a, p in question["answers"].items()}
    numbers = sorted(p for p, _ in predicted.values())
    gap = min(b - a for a, b in zip(numbers, numbers[1:]))
    if spread > 0.5 * gap:
        return {**result, "reason": f"spread of {spread:.2f} passes is too large for a gap of {gap}"}
    least = low_passes + (cycles[question["floor"]]["median"] - cycles[low]["median"]) / per_pass
    if numbers[0] < low_passes and least > numbers[0] + 0.25 * gap:
        return {**result, "reason": f"one instruction costs as much as {least:.2f} passes: cycles cannot show {numbers[0]}"}
    for answer, (number, more) in predicted.items():
        near = found > number - 0.35 * gap if more else abs(found - number) <= 0.35 * gap
        if near:
            return {**result, "answer": answer}
    return {**result, "reason": f"{found:.2f} passes fit no answer"}
