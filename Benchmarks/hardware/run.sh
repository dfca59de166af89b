#!/usr/bin/env bash
# Runs the access patterns and the int4 loops on this machine's GPU and writes results/<gpu>-<date>.json.
#   run.sh [--install] [--cases FILE.json]... [--no-counters]
# Installs nothing unless told --install. Counters need Nsight Compute (ncu) and the right to use it.
set -euo pipefail
cd "$(dirname "$0")"
. ./cuda.sh
install= counters=yes cases=()
while [ $# -gt 0 ]; do
  case "$1" in
    --install) install=--install ;;
    --no-counters) counters= ;;
    --cases) [ -r "${2:-}" ] || { note "error: --cases ${2:-}: cannot be read"; exit 66; }
      cases+=("$(realpath "$2")"); shift ;;
    *) note "usage: run.sh [--install] [--cases FILE.json]... [--no-counters]"; exit 64 ;;
  esac
  shift
done

command -v nvidia-smi >/dev/null || { note "error: no nvidia-smi; this needs a machine with an NVIDIA GPU and its driver"; exit 69; }
# The programs use device 0 of what CUDA shows them; ask the driver about that one only.
query() { nvidia-smi --id="${CUDA_VISIBLE_DEVICES:-0}" --query-gpu="$1" --format=csv,noheader,nounits | head -1 | sed 's/^ *//; s/ *$//'; }
gpu=$(query name)
capability=$(query compute_cap)
arch=${capability/./}
if [ "$arch" -lt 80 ]; then
  note "skipped: $gpu has compute capability $capability; mma.m16n8k16 and cp.async need 8.0"
  exit 0
fi
find_nvcc $install || exit 69

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
build "$arch" "$work"
python3 records.py text ${cases[@]+"${cases[@]}"} >"$work/cases"

note "access patterns"
"$work/bank_cases" "$work/cases" >"$work/bank.jsonl"
note "int4 loops"
# A wrong product is part of the record; its exit code must not lose the rest.
"$work/int4_loops" >"$work/loops.jsonl" || note "warning: int4_loops reported an error; see the checks in the record"

# counted NAME PROGRAM ARGUMENTS...: the profiler's counters of each launch.
counted() {
  local name="$1" launches="$work/$1.launches" table="$work/$1.csv" filter="$2"
  shift 2
  ncu --csv --page raw --print-units base --log-file "$table" --kernel-name "regex:$filter" --metrics "$metrics" "$@" >"$launches" 2>"$work/$name.log" \
    && python3 records.py counters "$table" <(grep '^{' "$launches") >"$work/$name-counters.jsonl" \
    || { note "warning: no counters for $name: $(grep -hm1 -iE 'error|perm' "$table" "$launches" "$work/$name.log" || echo 'ncu failed')"; : >"$work/$name-counters.jsonl"; }
}
: >"$work/bank-counters.jsonl" >"$work/loops-counters.jsonl"
if [ -n "$counters" ] && command -v ncu >/dev/null; then
  # Ask only for what this GPU has: one unknown name fails the whole run.
  known=$(ncu --query-metrics 2>/dev/null | awk '{print $1}')
  metrics=$(python3 -c 'import records, sys
known = set(sys.stdin.read().split())
print(",".join(m for m in records.METRICS if m.rsplit(".", 1)[0] in known))' <<<"$known")
  if [ -n "$metrics" ]; then
    counted bank bank_case "$work/bank_cases" "$work/cases" --counters
    counted loops loop_ "$work/int4_loops" --counters
  else
    note "warning: ncu names none of the counters; the record holds cycles only"
  fi
elif [ -n "$counters" ]; then
  note "no ncu here: the record holds cycles only"
fi

program=$(git describe --always --dirty 2>/dev/null || echo unknown)
mkdir -p results
out="results/$(tr -cs 'A-Za-z0-9' - <<<"$gpu" | sed 's/^-*//; s/-*$//' | tr 'A-Z' 'a-z')-$(date -u +%Y-%m-%d).json"
cat "$work"/bank.jsonl "$work"/bank-counters.jsonl "$work"/loops.jsonl "$work"/loops-counters.jsonl \
  | python3 records.py record "$out" "program=$program" "driver=$(query driver_version)" \
    "cuda=$(nvcc --version | sed -n 's/.*release \([^,]*\), V\(.*\)/\2/p')" "clockMegahertz=$(query clocks.sm)" \
    "maximumClockMegahertz=$(query clocks.max.sm)" ${cases[@]+"${cases[@]/#/cases=}"}
note "wrote Benchmarks/hardware/$out; commit it, and Tests/DeviceModelTests compares it with the model"
