#!/usr/bin/env bash
# All tests: on this processor, under emulated older processors and ARM ones, on ranks that are processes, from a clean
# package that depends on this one by version, and the kernels with sanitizers. The suites run in release: their sweeps
# take 10 to 90 times longer in debug. `make sanitize` and `make fuzz`, which compile all anew, are apart.
set -euo pipefail
cd "$(dirname "$0")/.."
. Benchmarks/install.sh
. Tests/stage.sh
need_swift
need git git
need_openblas

stage "package by version" 5
Tests/Consumer/run.sh

test_build
stage "build of the tests" 12
swift build "${build[@]}" --build-tests
binaries=$(swift build "${build[@]}" --show-bin-path)

if [ "$(uname -m)" = x86_64 ] && need qemu-x86_64-static qemu-user-static; then
  stage "emulated x86" 3
  Tests/emulated.sh "$binaries"
else
  echo "== skipped: older x86 processors (needs x86_64 and qemu-x86_64-static)"
fi
if [ "$(uname -s)" = Linux ] && need qemu-aarch64-static qemu-user-static \
  && need aarch64-linux-gnu-gcc gcc-aarch64-linux-gnu libc6-dev-arm64-cross; then
  stage "emulated ARM, drivers" 7
  Tests/CrossArchitecture/run.sh "$binaries"
else
  echo "== skipped: ARM kernels (needs qemu-user-static, gcc-aarch64-linux-gnu, libc6-dev-arm64-cross)"
fi

if [ "$(uname -s)" = Linux ] && command -v clang >/dev/null; then
  stage "kernels with sanitizers" 4
  Tests/Sanitizers/run.sh kernels
else
  echo "== skipped: kernels with sanitizers (needs Linux and the Swift toolchain's clang)"
fi

if [[ " ${build[*]} " == *" MPI "* ]]; then
  stage "ranks as processes" 3
  Tests/MPI/run.sh "$binaries"
else
  echo "== skipped: ranks that are processes (needs openmpi-bin and libopenmpi-dev)"
fi
end_stage

# The model and a python with numpy and gguf hold the whole engine against an independent computation. Without
# network these tests are skipped, and say so.
Benchmarks/model.sh >/dev/null || true
reference="$cache/reference/bin/python"
if [ ! -x "$reference" ] && need_python; then
  note "installing numpy and gguf"
  python3 -m venv "$cache/reference" \
    && "$reference" -m pip install -q --disable-pip-version-check numpy gguf >/dev/null 2>&1 \
    || { note "could not install numpy and gguf (no network?)"; rm -rf "$cache/reference"; }
fi
[ -x "$reference" ] && export QUANTKERNELS_PYTHON="${QUANTKERNELS_PYTHON:-$reference}"

stage_table
# Last, so that its summary, which has its time, ends the output.
echo "== this processor, 6 minutes"
swift test "${build[@]}" --skip-build
