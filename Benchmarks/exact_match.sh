#!/usr/bin/env bash
# The exact-match test of arXiv 2410.16144, table 7, at its size: 1,000 prompts continued by 100 tokens, in every ternary
# format and from three file types, on a network of random weights. Arguments go to the tool, e.g. --prompts 50.
set -euo pipefail
cd "$(dirname "$0")/.."
. Benchmarks/install.sh
need_swift
need_openblas
swift build -c release --product quantkernels >&2
tool="$(swift build -c release --show-bin-path)/quantkernels"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
models=()
for type in i2_s tq1_0 tq2_0; do
  # The head is quantized: it is not what is tested, and would take half of the time.
  "$tool" synthesize --bitnet 125M --type "$type" --head q4_0 -o "$work/$type.gguf" >&2
  models+=(--model "$work/$type.gguf")
done
"$tool" exact-match "${models[@]}" --prompts 1000 --tokens 100 "$@"
