#!/usr/bin/env bash
# Runs the built suites that know instruction sets under processors that stop at SSE4.2 (the scalar level) and at AVX2,
# so that every x86 kernel file but AVX-512's is executed from Swift and its dispatch policed. Rows, masks, cache types and
# lengths are compared bit for bit by the drivers of Tests/CrossArchitecture, under the same processors, and by all suites
# on this one: here a few shapes each do. Usage: Tests/emulated.sh BIN_PATH
set -euo pipefail
bundle=$(find "$1" -maxdepth 1 -name '*PackageTests.xctest' -print -quit)
[ -n "$bundle" ] || { echo "error: no test bundle in $1; build with --build-tests" >&2; exit 1; }
kernels='PackedWeights|VectorOperations|HalfDequantization|MachineLimits|GGMLBlocks'
ternary='PackedTernary|BlockQuantizedTernary|TernaryProduct'
attention='Attention|AttentionCache|QuantizedLatent'
# Sweeps that would take more than a few seconds each.
long='AtModelWidths|AtModelHeights|outputMayReplaceQueries|windowsAndSoftCaps|[tT]hreads|rowsAreIndependent|ForEveryLength|exponentialsEverywhere'
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
printf '%s\n' Nehalem Haswell | xargs -n 1 -P "$(getconf _NPROCESSORS_ONLN)" bash -c '
  status=0
  qemu-x86_64-static -cpu "$4" "$1" --testing-library swift-testing \
    --filter "^QuantKernelsTests\.($2)Tests" --filter "^DeviceModelTests\.MatrixInstructionTests" \
    --skip "($3)[A-Za-z0-9]*\(" --no-parallel >"$0/$4" 2>&1 || status=1
  echo "== emulated $4"
  if [ "$status" = 0 ]; then
    sed -E "/ (started|passed after .*)\.$/{/Test run/!d}; /Test case passing/d; /^qemu.*warning: TCG/d" "$0/$4"
    echo "the longest, s:" $(sed -nE "s/.* Test ([A-Za-z0-9]+)\(.* passed after ([0-9.]+) seconds\./\2 \1/p" "$0/$4" \
      | sort -rn | head -6)
  else
    tail -n 60 "$0/$4"
  fi
  exit "$status"
' "$work" "$bundle" "$kernels|$ternary|$attention" "$long"
