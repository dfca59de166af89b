#!/usr/bin/env bash
# Builds the fuzzers of this folder with libFuzzer and the address sanitizer, and runs each for SECONDS (default 300):
# GGUF files, safetensors files, texts, cases files, and arguments of the command line. A crash, a hang of 25 seconds or 2
# GiB of memory fails, and the input that did it is kept under .build-fuzz/crashes. What one run finds out (.build-fuzz/
# corpus-NAME) the next one starts from. Usage: Tests/Fuzz/run.sh [SECONDS [FUZZER...]]
set -euo pipefail
cd "$(dirname "$0")/../.."
. Benchmarks/install.sh
need_swift
need_openblas
seconds="${1:-300}"
[ $# -gt 0 ] && shift
fuzzers=("$@")
[ "${#fuzzers[@]}" -gt 0 ] || fuzzers=(FuzzGGUF FuzzSafetensors FuzzTokenizer FuzzCases FuzzArguments)
# libFuzzer without its main, as programs of Swift have their own.
runtime=$(clang --print-file-name=libclang_rt.fuzzer_no_main-x86_64.a)
[ -e "$runtime" ] || runtime=$(clang --print-resource-dir)/lib/linux/libclang_rt.fuzzer_no_main-$(uname -m).a
[ -e "$runtime" ] || { note "error: libclang_rt.fuzzer_no_main: not found; it comes with Swift's toolchain"; exit 1; }
export QUANTKERNELS_FUZZ=1
# The kernels have Tests/Sanitizers: here they are as they stand, and not optimized, which saves minutes of compilation.
build=(-c release --scratch-path .build-fuzz --jobs "${QUANTKERNELS_JOBS:-$(getconf _NPROCESSORS_ONLN)}"
  -Xswiftc -enable-testing -Xswiftc -sanitize=address
  -Xswiftc "-sanitize-coverage=edge,indirect-calls,trace-cmp,inline-8bit-counters,pc-table" -Xcc -O0
  -Xlinker "$runtime" -Xlinker -lstdc++ -Xlinker -lm)
start=$SECONDS
for fuzzer in "${fuzzers[@]}"; do swift build "${build[@]}" --product "$fuzzer" >&2; done
folder=$(swift build "${build[@]}" --show-bin-path)
echo "built in $((SECONDS - start)) s"

corpus() { echo ".build-fuzz/corpus-$1"; }
mkdir -p .build-fuzz/crashes
for fuzzer in "${fuzzers[@]}"; do
  mkdir -p "$(corpus "$fuzzer")"
  case $fuzzer in
    FuzzGGUF)
      "$folder/FuzzGGUF" seeds="$(corpus FuzzGGUF)"
      cp Tests/Fixtures/Files/official-gguf.bin "$(corpus FuzzGGUF)/"
      ;;
    FuzzSafetensors) cp Tests/Fixtures/Files/official-safetensors.bin "$(corpus FuzzSafetensors)/" ;;
    FuzzTokenizer) printf '\x01<|im_start|>user\nÇa va, 日本? 🙂<|im_end|>' >"$(corpus FuzzTokenizer)/turn" ;;
    FuzzCases) head -c 3000 Tests/Fixtures/DeviceModel/bank-cases.json >"$(corpus FuzzCases)/cases" ;;
    FuzzArguments) printf 'bench\nmatmul\n--format\nint4\n--m\n1' >"$(corpus FuzzArguments)/arguments" ;;
  esac
done

# The longest input that is tried.
length() {
  case $1 in
    FuzzGGUF) echo 131072 ;;
    FuzzSafetensors) echo 16384 ;;
    *) echo 4096 ;;
  esac
}

status=0
# One on each processor.
printf '%s\n' "${fuzzers[@]}" | while read -r fuzzer; do
  # Leaks are not looked for: Swift's metadata live as long as the process.
  echo "$folder/$fuzzer -max_total_time=$seconds -timeout=25 -rss_limit_mb=2048 -detect_leaks=0" \
    "-print_final_stats=1 -max_len=$(length "$fuzzer") -artifact_prefix=.build-fuzz/crashes/" \
    "$(corpus "$fuzzer") >.build-fuzz/$fuzzer.log 2>&1"
done | xargs -d '\n' -n 1 -P "$(getconf _NPROCESSORS_ONLN)" bash -c || status=1
for fuzzer in "${fuzzers[@]}"; do
  echo "== $fuzzer, $seconds s"
  grep -E '^(stat::number_of_executed_units|stat::new_units_added|stat::peak_rss_mb|SUMMARY|artifact)|ERROR|Fatal|^Done ' \
    .build-fuzz/"$fuzzer".log || tail -5 .build-fuzz/"$fuzzer".log
done
[ "$status" = 0 ] && echo "fuzzers: no findings"
exit "$status"
