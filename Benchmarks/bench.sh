#!/usr/bin/env bash
# The main job: the machine's limits, the model's speed, the int4 kernels' speed, a generated sentence, the papers'
# headlines.
# --smoke: a short run of every command on a small model made on the spot.
set -euo pipefail
cd "$(dirname "$0")/.."
. Benchmarks/install.sh
need_swift
need git git
need_openblas

if [ "${1:-}" = --smoke ]; then
  test_build
  swift build "${build[@]}" --product quantkernels
  tool="$(swift build "${build[@]}" --show-bin-path)/quantkernels"
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  "$tool" bench machine --repetitions 1
  "$tool" synthesize --tiny -o "$work/tiny.gguf"
  "$tool" inspect "$work/tiny.gguf" --json >/dev/null
  "$tool" tokenize --model "$work/tiny.gguf" --text-file README.md >/dev/null
  "$tool" bench model --model "$work/tiny.gguf" -p 64 -n 16 --repetitions 1
  "$tool" perplexity --model "$work/tiny.gguf" --text CONTRIBUTING.md --context 64 --chunks 4
  "$tool" generate --model "$work/tiny.gguf" --prompt "A sentence" -n 16
  "$tool" convert "$work/tiny.gguf" --to q8_0 -o "$work/tiny.q8_0.gguf"
  "$tool" convert "$work/tiny.gguf" --to awq -o "$work/tiny.safetensors"
  "$tool" calibrate-kv --model "$work/tiny.gguf" --text CONTRIBUTING.md --context 64 --samples 16 \
    --gradient-samples 4 -o "$work/tiny.palu"
  "$tool" bench matmul --format int4 --m 16 --n 1024 --k 1024 --repetitions 1
  "$tool" reproduce --short --report "$work/report.html"
  exit 0
fi

swift build -c release --product quantkernels >&2
tool="$(swift build -c release --show-bin-path)/quantkernels"
if ! model=$(Benchmarks/model.sh); then
  mkdir -p "$cache"
  model="$cache/synthetic.gguf"
  note "running on a synthetic model of the same shape instead: its speed counts, its text does not"
  "$tool" synthesize -o "$model" >&2
fi

# The seconds keep the whole under a minute where the model takes two of them for a prompt.
counts=(1)
processors=$(getconf _NPROCESSORS_ONLN)
[ "$processors" -gt 1 ] && counts+=("$processors")
for threads in "${counts[@]}"; do "$tool" bench machine --threads "$threads" --seconds 1; done
for threads in "${counts[@]}"; do "$tool" bench model --model "$model" --threads "$threads" --seconds 3; done
"$tool" bench matmul --shapes Benchmarks/Shapes/int4.txt --threads 1 --seconds 0.3
[ "$processors" -gt 1 ] \
  && "$tool" bench matmul --shapes Benchmarks/Shapes/int4.txt --seconds 0.3
echo "a generated sentence"
"$tool" generate --model "$model" --prompt "Explain in one sentence why the sky is blue." -n 60
echo "the papers' headlines (all claims, with plots: quantkernels reproduce --report report.html)"
"$tool" reproduce --short
