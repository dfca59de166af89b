#!/usr/bin/env bash
# Runs the built tests of kernels under processors that stop at SSE4.2 (the scalar level) and at AVX2, so that
# every x86 level is executed and its dispatch policed. Of the simulated GPU only the arithmetic runs, whose C has
# levels too; its kernels, the NPU's, links and ranks would take minutes and know no instruction set. Rows, masks and
# cache types of attention are compared bit for bit between levels by attention_driver.c, those over latents by
# latent_driver.c, and by the suites on this processor. Usage: Tests/emulated.sh BIN_PATH
set -euo pipefail
bundle=$(find "$1" -maxdepth 1 -name '*PackageTests.xctest' -print -quit)
[ -n "$bundle" ] || { echo "error: no test bundle in $1; build with --build-tests" >&2; exit 1; }
simulated='(DeviceWeights|Gemm[A-Za-z]*|HalfGemm|MarlinGemm|SimulatedMatmul|W2A8Gemv)Tests'
masks='(AttentionLength|AttentionMask|AttentionRowIndependence|TileMask)Tests'
devices='(AttentionLayout|AttentionPartial|Cooperati[A-Za-z]*|NPU[A-Za-z]*|SimulatedAttention[A-Za-z]*)Tests'
ranks='(ActOrder[A-Za-z]*|GroupIndices|Int4Moving|TensorParallel[A-Za-z]*|ThreadCommunicator|TiledAllReduce)Tests'
latents='(HadamardRotation|LowRank[A-Za-z]*)Tests'
for processor in Nehalem Haswell; do
  echo "== emulated $processor"
  qemu-x86_64-static -cpu "$processor" "$bundle" --testing-library swift-testing \
    --filter '^QuantKernelsTests\.' --filter '^DeviceModelTests\.MatrixInstructionTests' \
    --skip "^QuantKernelsTests\.($simulated|$masks|$devices|$ranks|$latents)" --no-parallel 2>&1 \
    | sed -E '/ (started|passed after .*)\.$/{/Test run/!d}; /Test case passing/d; /^qemu.*warning: TCG/d'
done
