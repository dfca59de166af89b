#!/usr/bin/env bash
# Runs the built tests of kernels under processors that stop at SSE4.2 (the scalar level) and at AVX2, so that
# every x86 level is executed and its dispatch policed. Of the simulated GPU only the arithmetic runs, whose C has
# levels too; its kernels would take minutes and know no instruction set. Usage: Tests/emulated.sh BIN_PATH
set -euo pipefail
bundle=$(find "$1" -maxdepth 1 -name '*PackageTests.xctest' -print -quit)
[ -n "$bundle" ] || { echo "error: no test bundle in $1; build with --build-tests" >&2; exit 1; }
simulated='(DeviceWeights|Gemm[A-Za-z]*|HalfGemm|MarlinGemm|SimulatedMatmul|W2A8Gemv)Tests'
for processor in Nehalem Haswell; do
  echo "== emulated $processor"
  qemu-x86_64-static -cpu "$processor" "$bundle" --testing-library swift-testing \
    --filter '^QuantKernelsTests\.' --filter '^DeviceModelTests\.MatrixInstructionTests' \
    --skip "^QuantKernelsTests\.$simulated" --no-parallel 2>&1 \
    | sed -E '/ (started|passed after .*)\.$/{/Test run/!d}; /Test case passing/d; /^qemu.*warning: TCG/d'
done
