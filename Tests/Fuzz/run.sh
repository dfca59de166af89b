#!/usr/bin/env bash
# Builds the fuzzers of this folder with libFuzzer and the address sanitizer, and runs each for SECONDS (default 300):
# GGUF files, safetensors files, texts, and arguments and cases files of the command line. A crash, a hang of 25 seconds
# or 2 GiB of memory fails, and the input that did it is kept under .build-fuzz/crashes. Usage: Tests/Fuzz/run.sh [SECONDS]
set -euo pipefail
cd "$(dirname "$0")/../.."
. Benchmarks/install.sh
need_swift
need_openblas
seconds="${1:-300}"
export QUANTKERNELS_FUZZ=1
build=(-c release --scratch-path .build-fuzz -Xswiftc -enable-testing
  -Xswiftc -sanitize=fuzzer,address -Xcc -fsanitize=address,fuzzer-no-link)
for fuzzer in FuzzGGUF FuzzSafetensors FuzzTokenizer FuzzCommandLine; do
  swift build "${build[@]}" --product "$fuzzer" >&2
done
folder=$(swift build "${build[@]}" --show-bin-path)
mkdir -p .build-fuzz/crashes
status=0
run() {
  local fuzzer="$1"
  shift
  local corpus=".build-fuzz/corpus-$fuzzer"
  mkdir -p "$corpus"
  echo "== $fuzzer, $seconds s"
  # Leaks are not looked for: Swift's metadata live as long as the process.
  "$folder/$fuzzer" -max_total_time="$seconds" -timeout=25 -rss_limit_mb=2048 -detect_leaks=0 -print_final_stats=1 \
    -artifact_prefix=.build-fuzz/crashes/ "$@" "$corpus" 2>.build-fuzz/"$fuzzer".log || status=1
  grep -E '^(stat::number_of_executed_units|stat::new_units_added|stat::peak_rss_mb|SUMMARY|artifact)|ERROR' \
    .build-fuzz/"$fuzzer".log || tail -5 .build-fuzz/"$fuzzer".log
}
mkdir -p .build-fuzz/corpus-FuzzGGUF .build-fuzz/corpus-FuzzSafetensors .build-fuzz/corpus-FuzzTokenizer \
  .build-fuzz/corpus-FuzzCommandLine
"$folder/FuzzGGUF" seeds=.build-fuzz/corpus-FuzzGGUF
cp Tests/Fixtures/Files/official-gguf.bin .build-fuzz/corpus-FuzzGGUF/
cp Tests/Fixtures/Files/official-safetensors.bin .build-fuzz/corpus-FuzzSafetensors/
printf '\x01<|im_start|>user\nÇa va, 日本? 🙂<|im_end|>' >.build-fuzz/corpus-FuzzTokenizer/turn
{ printf '\x01'; head -c 3000 Tests/Fixtures/DeviceModel/bank-cases.json; } >.build-fuzz/corpus-FuzzCommandLine/cases
printf '\x00bench\nmatmul\n--format\nint4\n--m\n1' >.build-fuzz/corpus-FuzzCommandLine/arguments
run FuzzGGUF -max_len=131072
run FuzzSafetensors -max_len=16384
run FuzzTokenizer -max_len=4096
run FuzzCommandLine -max_len=4096
exit "$status"
