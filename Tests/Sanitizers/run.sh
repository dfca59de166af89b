#!/usr/bin/env bash
# The package under sanitizers. Usage: Tests/Sanitizers/run.sh [kernels] [threads] [files]; without a word all three.
#   kernels  the C kernels of every level that this processor has, by the drivers of Tests/CrossArchitecture: a build with
#            the address sanitizer, and one that traps on undefined behavior
#   threads  worker pool, ranks that are threads, and products and attention on several, under the thread sanitizer
#   files    parsers, tokenizers, hostile files and models, loading and generating under the address sanitizer
# The last two compile the libraries and their tests anew, in debug.
set -euo pipefail
cd "$(dirname "$0")/../.."
. Benchmarks/install.sh
need_swift
[ $# -gt 0 ] || set -- kernels threads files
jobs=${QUANTKERNELS_JOBS:-$(getconf _NPROCESSORS_ONLN)}

# The levels that this processor has, in the order that the drivers want.
levels() {
  local flags found=scalar
  if [ "$(uname -m)" = aarch64 ]; then
    flags=" $(grep -m1 '^Features' /proc/cpuinfo) "
    [[ $flags == *" asimddp "* ]] && found+=,neonDotprod
    [[ $flags == *" asimddp "* && $flags == *" i8mm "* ]] && found+=,neonI8mm
  else
    flags=" $(grep -m1 '^flags' /proc/cpuinfo) "
    [[ $flags == *" avx2 "* && $flags == *" fma "* && $flags == *" f16c "* ]] && found+=,avx2
    [[ $found == *avx2 && $flags == *" avx512f "* && $flags == *" avx512bw "* && $flags == *" avx512vl "* \
      && $flags == *" avx512dq "* && $flags == *" avx512_vnni "* ]] && found+=,avx512vnni
  fi
  echo "$found"
}

# drivers NAME FLAG...: builds kernels and drivers with the flags, and runs every driver.
drivers() {
  local folder=Sources/CQuantKernels work=.build-sanitizers/$1 name=$1 status=0 start=$SECONDS driver program
  shift
  # At -O2 the largest files take minutes.
  local compile=(clang -O1 -g1 -std=gnu11 -Wall -Wextra "-I$folder" "-I$folder/include" "$@")
  rm -rf "$work"
  mkdir -p "$work"
  find "$folder" -name '*.c' ! -path "*/$(other_architecture)/*" -print0 | xargs -0 -n 1 -P "$jobs" bash -c '
    work=$1 source=${!#}
    "${@:2:$#-2}" -c -o "$work/$(tr / + <<<"$source").o" "$source"
  ' compile "$work" "${compile[@]}"
  echo "$name: compiled in $((SECONDS - start)) s"
  for driver in Tests/CrossArchitecture/*_driver.c; do
    program=$work/$(basename "$driver" .c)
    "${compile[@]}" -o "$program" "$driver" "$work"/*.o -lm -fuse-ld=lld
    start=$SECONDS
    "$program" "$(levels)" || { status=1; echo "FAILED: $name, $(basename "$program")"; }
    echo "$name: $(basename "$program") of $(levels), $((SECONDS - start)) s"
  done
  return "$status"
}

kernels() {
  command -v clang >/dev/null || { note "error: clang: not found; it comes with Swift's toolchain"; return 1; }
  # Checks are calls, and those of stack variables left out: with them the tiles, inlined into one function a format, take
  # ten times as long to compile. Indices of arrays there are the other build's.
  drivers address -fsanitize=address -fno-omit-frame-pointer -mllvm -asan-instrumentation-with-call-threshold=0 \
    -mllvm -asan-stack=0
  # What is undefined (shifts, signed overflow, indices, conversions) stops the program at once (SIGILL) and needs no
  # library. Checks of each pointer are left out, for the same reason, with which the other build deals.
  drivers undefined -fsanitize=undefined -fsanitize-trap=undefined \
    -fno-sanitize=pointer-overflow,null,object-size,alignment
}

other_architecture() { if [ "$(uname -m)" = x86_64 ]; then echo aarch64; else echo x86_64; fi; }

# suites PART SANITIZER FILTER...: builds the libraries and that part's tests with it, and runs the suites.
suites() {
  local sanitizer=$2 filters=() filter
  export QUANTKERNELS_SANITIZERS=$1
  shift 2
  for filter in "$@"; do filters+=(--filter "$filter"); done
  # Kernels without the manifest's -O2, whose compilation would be half of this: their own part has them all.
  local options=(--sanitize="$sanitizer" --scratch-path ".build-$sanitizer" --jobs "$jobs" -Xcc -O0)
  swift build "${options[@]}" --build-tests
  swift test "${options[@]}" --skip-build "${filters[@]}"
}

threads() {
  suites threads thread '^QuantKernelsTests\.(WorkerPool|ThreadCommunicator)Tests' \
    '^QuantKernelsTests\.PackedWeightsTests/(threadsDoNotChangeResults|refusesBadInput)' \
    '^QuantKernelsTests\.AttentionRowIndependenceTests' '^QuantKernelsTests\.LowRankCacheTests/threadsStoreTheSame'
}

# Not decoders, perplexities, GPTQ and models with any keys and values, which compute for hours without optimization: their
# kernels are the first part's, and the fuzzers run the parsers with this sanitizer. Nor the tests that bound memory, of
# which the sanitizer takes more. Leaks are not looked for: Swift keeps pointers with bits of its own in them.
files() {
  export ASAN_OPTIONS=detect_leaks=0
  suites files address \
    '^LanguageModelTests\.(GGUF|HostileDirectory|HostileFiles|JSON|LowRankFactorsFile|NativeContainer|Safetensors|ChatTemplate)' \
    '^LanguageModelTests\.(Tokenizer|HuggingFace|ModelLoading|Generation|Sampler|UTF)'
}

for part in "$@"; do
  case $part in
    kernels | threads | files) "$part" ;;
    *) note "error: $part: no part of this script; kernels, threads or files"; exit 64 ;;
  esac
done
echo "sanitizers: no findings ($*)"
