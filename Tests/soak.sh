#!/usr/bin/env bash
# Generates for SECONDS (default 3600) in one process: random prompts, cache types, contexts and sampling, each case twice
# on different threads. Fails when two texts differ, or when the median resident memory of the last quarter is more than 5
# % above that of the first. On the model of `make model`, else on a synthetic one. Usage: Tests/soak.sh [SECONDS [SEED]]
set -euo pipefail
cd "$(dirname "$0")/.."
. Benchmarks/install.sh
need_swift
need git git
need_openblas
test_build
swift build "${build[@]}" --product Soak >&2
binaries=$(swift build "${build[@]}" --show-bin-path)
if ! model=$(Benchmarks/model.sh); then
  mkdir -p "$cache"
  model="$cache/synthetic.gguf"
  note "on a synthetic model of the same shape instead"
  swift build "${build[@]}" --product quantkernels >&2
  "$binaries/quantkernels" synthesize -o "$model" >&2
fi
exec "$binaries/Soak" "$model" "${1:-3600}" "${2:-1}"
