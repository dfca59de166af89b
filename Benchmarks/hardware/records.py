"""Cases in, records out: the parts of run.sh that are not a GPU's work. Needs nothing but Python 3.9.

    python3 records.py text FILE.json... > CASES       cases files and the experiments, in the program's text form
    python3 records.py record OUT KEY=VALUE... < LINES the program's JSON lines and the profiler's, joined to a record
    python3 records.py counters CSV LINES              the profiler's table, joined by row to the launches in LINES
    python3 records.py show RECORD.json                what a record settles
    python3 records.py test                            checks of the above on made-up measurements
"""

import csv
import datetime
import json
import sys

import experiments

WIDTHS = {"ld": (1, 2, 4, 8, 16), "st": (1, 2, 4, 8, 16), "ldgsts": (4, 8, 16), "ldmatrix": (16,), "stmatrix": (16,)}
ROOM = 40 * 1024  # what a case may span in shared memory; the program adds 2 KiB of its own

# Profiler metric → key in a record; sums over the chip of one launch.
METRICS = {
    "smsp__inst_executed_op_shared_ld.sum": "loadInstructions",
    "smsp__inst_executed_op_shared_st.sum": "storeInstructions",
    "smsp__inst_executed_op_ldsm.sum": "ldmatrixInstructions",
    "smsp__inst_executed_op_ldgsts.sum": "copyInstructions",
    "l1tex__data_pipe_lsu_wavefronts_mem_shared.sum": "wavefronts",
    "l1tex__data_pipe_lsu_wavefronts_mem_shared_op_ld.sum": "loadWavefronts",
    "l1tex__data_pipe_lsu_wavefronts_mem_shared_op_st.sum": "storeWavefronts",
    "l1tex__data_bank_conflicts_pipe_lsu_mem_shared.sum": "conflicts",
    "l1tex__data_bank_conflicts_pipe_lsu_mem_shared_op_ld.sum": "loadConflicts",
    "l1tex__data_bank_conflicts_pipe_lsu_mem_shared_op_st.sum": "storeConflicts",
    "l1tex__data_bank_conflicts_pipe_lsu_mem_shared_op_ldgsts.sum": "copyConflicts",
    "sm__sass_l1tex_data_bank_conflicts_pipe_lsu_mem_shared_op_ldsm.sum": "ldmatrixConflicts",
    "l1tex__t_requests_pipe_lsu_mem_global_op_ld.sum": "globalRequests",
    "l1tex__t_sectors_pipe_lsu_mem_global_op_ld.sum": "globalSectors",
    "sm__cycles_elapsed.max": "cyclesElapsed",
}


class Problem(Exception):
    pass


def checked(case, source):
    """A case as the program can run it, or a Problem that names file, case and lane."""
    name = case.get("name")
    if not isinstance(name, str) or not name or any(c.isspace() or c in '"\\' for c in name):
        raise Problem(f"{source}: a case without a usable name")
    where = f"{source}: {name}"
    op, width, mask, addresses = (case.get(k) for k in ("op", "width_bytes", "active_mask", "byte_addresses"))
    if op not in WIDTHS or width not in WIDTHS[op]:
        raise Problem(f"{where}: op {op!r} with a width of {width!r}; known: {WIDTHS}")
    if not isinstance(mask, int) or not 0 < mask < 1 << 32:
        raise Problem(f"{where}: active_mask {mask!r} is not within 1 ... 2^32 - 1")
    if op.endswith("matrix") and mask not in (0xFF, 0xFFFF, 0xFFFFFFFF):
        raise Problem(f"{where}: {op} takes the rows of 8, 16 or 32 lanes, not of mask {mask:#x}")
    if not isinstance(addresses, list) or len(addresses) != 32:
        raise Problem(f"{where}: byte_addresses must be 32 numbers")
    active = [lane for lane in range(32) if mask >> lane & 1]
    for lane in active:
        a = addresses[lane]
        if not isinstance(a, int) or isinstance(a, bool) or a < 0 or a % width:
            raise Problem(f"{where}: lane {lane}: address {a!r} is not a multiple of {width}")
    kept = [addresses[lane] if mask >> lane & 1 else 0 for lane in range(32)]
    folded = max(kept) + width > ROOM
    if folded:
        # Too far apart for shared memory. Lines of 128 bytes move together, in order; every lane keeps its bank, and
        # what was the same word stays the same, so the rule sees no difference.
        lines = {line: i for i, line in enumerate(sorted({kept[lane] // 128 for lane in active}))}
        kept = [lines[kept[l] // 128] * 128 + kept[l] % 128 if mask >> l & 1 else 0 for l in range(32)]
    return {"name": name, "op": op, "widthBytes": width, "activeMask": mask, "byteAddresses": kept, "folded": folded,
            "uncertain": bool(case.get("uncertain", False)) or name in {q["probe"] for q in experiments.QUESTIONS}}


def load_cases(paths):
    cases = [checked(c, "experiments") for c in experiments.cases()]
    for path in paths:
        with open(path) as file:
            try:
                content = json.load(file)
            except ValueError as error:
                raise Problem(f"{path}: not JSON: {error}") from None
        if not isinstance(content, dict) or not isinstance(content.get("cases"), list):
            raise Problem(f"{path}: no list of cases")
        cases += [checked(c, path) for c in content["cases"]]
    names = [c["name"] for c in cases]
    for name in names:
        if names.count(name) > 1:
            raise Problem(f"{name}: a case by that name appears twice")
    return cases


def text(paths):
    for c in load_cases(paths):
        print(c["name"], c["op"], c["widthBytes"], c["activeMask"], *c["byteAddresses"])


def join_counters(rows, launches):
    """The profiler prints one row a launch, in order; so does the program."""
    lines = list(rows)
    start = next((i for i, row in enumerate(lines) if row and row[0] == "ID"), None)
    if start is None:
        raise Problem("the profiler's output holds no table")
    header, body = lines[start], [r for r in lines[start + 1 :] if len(r) == len(lines[start]) and r[0].strip().isdigit()]
    if len(body) != len(launches):
        raise Problem(f"the profiler saw {len(body)} launches, the program made {len(launches)}")
    for row, launch in zip(body, launches):
        values = {}
        for column, value in zip(header, row):
            if column in METRICS:
                try:
                    values[METRICS[column]] = float(value.replace(",", ""))
                except ValueError:
                    pass  # "n/a" on chips without it
        yield {"kind": "counters", **{k: v for k, v in launch.items() if k != "kind"}, "counters": values}


def record(lines, facts, cases):
    by_case = {c["name"]: {**c, "cyclesPerAccess": {}, "emptyCyclesPerAccess": {}} for c in cases}
    result = {"version": 1, **facts, "gpu": {}, "bankCases": [], "verdicts": [], "checks": [], "loops": [], "loopCounters": [], "skipped": []}
    for line in lines:
        kind = line.pop("kind")
        if kind == "device":
            result["gpu"] |= {k: v for k, v in line.items() if k != "program"}
        elif kind == "bank":
            case = by_case[line["case"]]
            case["cyclesPerAccess"][str(line["warps"])] = line["cyclesPerAccess"]
            case["emptyCyclesPerAccess"][str(line["warps"])] = line["emptyCyclesPerAccess"]
        elif kind == "counters":
            if line["case"] in by_case:
                by_case[line["case"]] |= {"counters": line["counters"], "countedAccesses": line["accesses"]}
            else:
                result["loopCounters"].append(line)
        elif kind == "skipped":
            result["skipped"].append(line)
        elif kind == "check":
            result["checks"].append(line)
        elif kind == "loop":
            result["loops"].append(line)
    result["bankCases"] = [c for c in by_case.values() if c["cyclesPerAccess"] or "counters" in c]
    many = {c["name"]: c["cyclesPerAccess"][str(experiments.MANY)] for c in result["bankCases"]
            if str(experiments.MANY) in c["cyclesPerAccess"]}
    for question in experiments.QUESTIONS:
        verdict = experiments.verdict(question, many)
        counted = by_case.get(question["probe"], {})
        if "counters" in counted:
            verdict["countedPasses"] = counted["counters"].get("wavefronts", 0) / counted["countedAccesses"]
        result["verdicts"].append(verdict)
    return result


def show(result):
    gpu = result["gpu"]
    print(f"{gpu.get('gpu')}, {result.get('recorded')}, program {result.get('program')}")
    for v in result["verdicts"]:
        found = f"{v['passes']:.2f} passes (spread {v['spread']:.2f})" if "passes" in v else ""
        counted = f", counted {v['countedPasses']:.2f}" if "countedPasses" in v else ""
        print(f"  {v['name']}: {v['answer']}  {found}{counted} {v.get('reason', '')}".rstrip())
    wrong = [c for c in result["checks"] if not c["correct"]]
    print(f"  int4 loops: {len(result['checks']) - len(wrong)} of {len(result['checks'])} results correct")
    for loop in result["loops"]:
        print(f"  {loop['kernel']:14} m {loop['m']:<4} {loop['weights']}: {loop['microsecondsWithSum']['median']:.1f} us")


def test():
    def rule(case):
        lanes = {1: 32, 2: 32, 4: 32, 8: 16, 16: 8}[case["widthBytes"]]
        total = 0
        for phase in range(0, 32, lanes):
            banks = {}
            for lane in range(phase, phase + lanes):
                if case["activeMask"] >> lane & 1:
                    for byte in range(0, case["widthBytes"], 4):
                        word = (case["byteAddresses"][lane] + byte) // 4
                        banks.setdefault(word % 32, set()).add(word)
            total += max((len(w) for w in banks.values()), default=0)
        return total

    cases = load_cases([])
    for q in experiments.QUESTIONS:  # the reference patterns cost by the base rule what the questions say
        for name, passes in (q["low"], q["middle"], q["high"]):
            assert rule(next(c for c in cases if c["name"] == name)) == passes, (q["name"], name)

    def measured(extra, noise=0.0, per_pass=1.0):
        return {c["name"]: {"median": v, "minimum": v - noise, "maximum": v + noise}
                for c in cases for v in [0.07 + per_pass * (rule(c) + extra.get(c["name"], 0))]}

    def answer(name, cycles):
        return experiments.verdict(next(q for q in experiments.QUESTIONS if q["name"] == name), cycles)["answer"]

    probe = "x-st128-two-rows-pitch-272"
    assert answer("m1-or-m2", measured({})) == "M1"
    assert answer("m1-or-m2", measured({}, per_pass=2.0)) == "M1"  # a data stage of 64 bytes a cycle
    split = [c["name"] for c in cases if c["op"] == "st" and c["widthBytes"] == 16 and "one-segment" not in c["name"]]
    for penalty in (1, 4):
        m2 = measured({name: penalty for name in split})
        assert answer("m1-or-m2", m2) == "M2" and answer("a-tile store at pitch 80", m2) == "M2 on top"
        assert answer("m1-or-m2 (one segment, lanes permuted)", m2) == "M1"
    assert answer("m1-or-m2", measured({probe: 0.5})) == "unsettled"
    assert answer("m1-or-m2", measured({}, noise=0.3)) == "unsettled"
    slow = measured({"x-st128-one-segment": 2, probe: 2})  # both wait for six passes' worth of something else
    assert answer("m1-or-m2", slow) == "unsettled"
    assert answer("m1-or-m2", {}) == "unsettled"
    assert answer("pair merge, 16 bytes", measured({})) == "no"
    assert answer("pair merge, 16 bytes", measured({"x-ld128-pairs-equal": -2})) == "yes"
    assert answer("pair merge, 8 bytes", measured({"x-ld32-contiguous": 1})) == "unsettled"  # one instruction costs two passes
    assert answer("empty phases skipped, 16-byte load", measured({"x-ld128-first-phase-only": 3})) == "no"
    assert answer("ldmatrix, one row eight times", measured({})) == "broadcast"

    far = {"name": "far", "op": "ld", "width_bytes": 4, "active_mask": 0xFFFFFFFF, "byte_addresses": [16392 * l for l in range(32)]}
    near = checked(far, "test")
    assert near["folded"] and rule(near) == rule({**near, "byteAddresses": far["byte_addresses"]}) and max(near["byteAddresses"]) < ROOM
    for change in ({"width_bytes": 3}, {"op": "atom"}, {"active_mask": 0}, {"byte_addresses": [1] * 32}, {"byte_addresses": [0] * 31},
                   {"byte_addresses": [-4] * 32}, {"name": "two words"}, {"op": "ldmatrix", "width_bytes": 16, "active_mask": 3}):
        try:
            checked({**far, **change}, "test")
        except Problem:
            continue
        raise AssertionError(f"accepted {change}")

    table = [["==PROF== noise"], ["ID", "Kernel Name", "l1tex__data_pipe_lsu_wavefronts_mem_shared.sum"], ["", "", ""],
             ["0", "k", "1,024"], ["1", "k", "n/a"]]
    joined = list(join_counters(table, [{"kind": "launch", "case": probe, "accesses": 256}, {"kind": "launch", "case": "y", "accesses": 1}]))
    assert joined[0]["counters"] == {"wavefronts": 1024.0} and joined[1]["counters"] == {}
    line = {"kind": "bank", "case": probe, "op": "st", "widthBytes": 16, "warps": 16, "accesses": 1,
            "cyclesPerAccess": {"median": 4.0, "minimum": 4.0, "maximum": 4.0, "runs": 1},
            "emptyCyclesPerAccess": {"median": 0.1, "minimum": 0.1, "maximum": 0.1, "runs": 1}}
    whole = record([{"kind": "device", "program": "bank_cases", "gpu": "made up"}, line, joined[0]], {"program": "test"}, cases)
    assert whole["bankCases"][0]["counters"]["wavefronts"] == 1024 and whole["verdicts"][0]["countedPasses"] == 4
    print("records: no findings")


def main(arguments):
    if arguments[:1] == ["text"]:
        text(arguments[1:])
    elif arguments[:1] == ["counters"] and len(arguments) == 3:
        with open(arguments[2]) as file:
            launches = [l for l in map(json.loads, (l for l in file if l.startswith("{"))) if l["kind"] == "launch"]
        with open(arguments[1], newline="") as file:
            for line in join_counters(csv.reader(file), launches):
                print(json.dumps(line))
    elif arguments[:1] == ["record"] and len(arguments) >= 2:
        facts = dict(a.split("=", 1) for a in arguments[2:] if "=" in a and not a.startswith("cases="))
        facts = {k: int(v) if k.endswith("Megahertz") and v.isdigit() else v for k, v in facts.items()}
        cases = load_cases([a.split("=", 1)[1] for a in arguments[2:] if a.startswith("cases=")])
        facts["recorded"] = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        result = record([json.loads(l) for l in sys.stdin if l.startswith("{")], facts, cases)
        with open(arguments[1], "w") as file:
            json.dump(result, file, indent=1)
            file.write("\n")
        show(result)
    elif arguments[:1] == ["show"] and len(arguments) == 2:
        with open(arguments[1]) as file:
            show(json.load(file))
    elif arguments == ["test"]:
        test()
    else:
        print(__doc__, file=sys.stderr)
        return 64
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except Problem as problem:
        print(f"error: {problem}", file=sys.stderr)
        sys.exit(65)
