"""Reads the machine code of a compiled program and tells what its inner loops are made of.

    python3 sass.py loops CUBIN     the loop that multiplies in each int4 kernel: instructions a warp and K32 step
    python3 sass.py banks CUBIN     fails unless each bank case's loop holds its 16 accesses, between two clock reads

The text comes from cuobjdump (CUOBJDUMP in the environment, or on the path), registers from cuobjdump
-res-usage. A loop is what lies between a backward branch and its target; the inner one is the smallest that holds the
instruction looked for.
"""

import json
import os
import re
import subprocess
import sys

TOOL = os.environ.get("CUOBJDUMP", "cuobjdump")
LINE = re.compile(r"/\*([0-9a-f]{4,})\*/\s+(?:@(!?U?P\w+)\s+)?([A-Z][A-Z0-9_.]*)([^;]*);")

# First match wins. Conversion is the LOP3, the packed halves and a shift a word; address arithmetic is the rest.
CLASSES = [
    ("HMMA", r"HMMA"),
    ("LDSM", r"LDSM"),
    ("STS.128", r"STS\.128"),
    ("STS", r"STS"),
    ("LDS.128", r"LDS\.128"),
    ("LDS", r"LDS$|LDS\."),
    ("LDGSTS", r"LDGSTS"),
    ("barrier", r"BAR|DEPBAR|LDGDEPBAR|WARPSYNC|NOP"),
    ("LDG.128", r"LDG\.E\.128"),
    ("LDG.64", r"LDG\.E\.64"),
    ("LDG.32", r"LDG"),
    ("packed half", r"HADD2|HMUL2|HFMA2"),
    ("PRMT", r"PRMT"),
    ("LOP3", r"LOP3|ULOP3"),
    ("shift", r"SHF|USHF"),
    ("integer", r"IMAD|IADD|LEA|ISETP|UIADD|UIMAD|ULEA|UISETP|IABS|I2F|F2I|MUFU|SEL|USEL|IMNMX|VIADD|VIMNMX"),
    ("constant", r"U?LDC"),
    ("move", r"MOV|UMOV|CS2R|S2R|R2UR|S2UR|PLOP3|P2R|R2P|UPLOP3"),
    ("control", r"BRA|BSSY|BSYNC|YIELD|EXIT|CALL|RET|BREAK|JMP"),
]


def functions(cubin):
    text = subprocess.run([TOOL, "-sass", cubin], check=True, capture_output=True, text=True).stdout
    for part in re.split(r"\bFunction : ", text)[1:]:
        name = part.split()[0]
        code = [(int(a, 16), guard or "", op, rest.strip()) for a, guard, op, rest in LINE.findall(part)]
        yield name, code


def registers(cubin):
    text = subprocess.run([TOOL, "-res-usage", cubin], check=True, capture_output=True, text=True)
    found = re.findall(r"Function (\S+?):\s*\n?\s*REG:(\d+) STACK:(\d+) SHARED:(\d+)", text.stdout + text.stderr)
    return {name: {"registers": int(r), "stackBytes": int(s), "sharedBytes": int(b)} for name, r, s, b in found}


def inner_loop(code, wanted):
    loops = []
    for address, _, op, rest in code:
        if op.startswith("BRA"):
            target = re.search(r"0x([0-9a-f]+)", rest)
            if target and int(target.group(1), 16) < address:
                body = [c for c in code if int(target.group(1), 16) <= c[0] <= address]
                if any(wanted(c) for c in body):
                    loops.append(body)
    return min(loops, key=len) if loops else None


def classify(op):
    for name, pattern in CLASSES:
        if re.match(pattern, op):
            return name
    return "other " + op


def short(name):
    match = re.search(r"loop_\w+?_?\d*(?=7Problem|$)", name)
    return match.group(0) if match else name


def loops(cubin):
    usage = registers(cubin)
    result = {}
    for name, code in functions(cubin):
        if "loop_" not in name:
            continue
        body = inner_loop(code, lambda c: c[2].startswith("HMMA"))
        if body is None:
            sys.exit(f"error: {name}: no loop holds an HMMA; the product was hoisted or unrolled away")
        counts = {}
        for _, guard, op, _ in body:
            if guard == "!PT":
                continue  # never executed: a workaround that the assembler puts before asynchronous copies
            counts[classify(op)] = counts.get(classify(op), 0) + 1
        result[short(name)] = {**usage.get(name, {}), "instructions": sum(counts.values()), **counts}
    if not result:
        sys.exit(f"error: {cubin}: holds no loop_ kernel")
    print(json.dumps(result, indent=1))


ACCESS = {1: r"LDS(\.|$)", 2: r"STS(\.|$)", 3: r"LDSM", 4: r"STSM", 5: r"LDGSTS.*BYPASS", 6: r"LDGSTS"}


def banks(cubin):
    arch = re.search(r"sm_(\d+)", subprocess.run([TOOL, "-sass", cubin], check=True, capture_output=True, text=True).stdout)
    arch = int(arch.group(1)) if arch else 0
    bad = checked = 0
    for name, code in functions(cubin):
        kind = re.search(r"bank_caseIL2Op(\d+)ELi(\d+)", name)
        if not kind or int(kind.group(1)) == 0 or (int(kind.group(1)) == 4 and arch < 90):
            continue
        op = int(kind.group(1))
        is_access = lambda c: re.match(ACCESS[op], c[2]) and not c[1].endswith("PT")
        body = inner_loop(code, is_access)
        count = len([c for c in body if is_access(c)]) if body else 0
        clocks = [c[0] for c in code if "CLOCKLO" in c[3]]
        outside = [c for c in code if is_access(c) and (not body or not body[0][0] <= c[0] <= body[-1][0])]
        timed = body and len(clocks) == 2 and clocks[0] < body[0][0] and body[-1][0] < clocks[1]
        checked += 1
        if count != 16 or outside or not timed:
            print(f"error: {name}: {count} accesses in the loop, {len(outside)} outside, clock reads {len(clocks)}", file=sys.stderr)
            bad += 1
    print(f"{cubin}: {checked} loops hold 16 accesses each between two clock reads" if not bad else f"{bad} of {checked} wrong")
    sys.exit(1 if bad or not checked else 0)


if __name__ == "__main__":
    commands = {"loops": loops, "banks": banks}
    if len(sys.argv) != 3 or sys.argv[1] not in commands:
        print(__doc__, file=sys.stderr)
        sys.exit(64)
    commands[sys.argv[1]](sys.argv[2])
