#!/usr/bin/env bash
# All tests: on this processor, under emulated older processors and ARM ones, on ranks that are processes, and from a
# clean package that depends on this one by version. The suites run in release: their sweeps take 10 to 90 times longer
# in debug.
set -euo pipefail
cd "$(dirname "$0")/.."
. Benchmarks/install.sh
need_swift
need git git
need_openblas

echo "== a clean package that depends by version"
Tests/Consumer/run.sh

test_build
echo "== building the tests"
swift build "${build[@]}" --build-tests

if [ "$(uname -m)" = x86_64 ] && need qemu-x86_64-static qemu-user-static; then
  Tests/emulated.sh "$(swift build "${build[@]}" --show-bin-path)"
else
  echo "== skipped: older x86 processors (needs x86_64 and qemu-x86_64-static)"
fi
if [ -x Tests/CrossArchitecture/run.sh ]; then
  if [ "$(uname -s)" = Linux ] && need qemu-aarch64-static qemu-user-static \
    && need aarch64-linux-gnu-gcc gcc-aarch64-linux-gnu libc6-dev-arm64-cross; then
    echo "== ARM kernels, emulated"
    Tests/CrossArchitecture/run.sh
  else
    echo "== skipped: ARM kernels (needs qemu-user-static, gcc-aarch64-linux-gnu, libc6-dev-arm64-cross)"
  fi
fi

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

if [[ " ${build[*]} " == *" MPI "* ]]; then
  echo "== ranks that are processes"
  Tests/MPI/run.sh "$(swift build "${build[@]}" --show-bin-path)"
else
  echo "== skipped: ranks that are processes (needs openmpi-bin and libopenmpi-dev)"
fi

# Last, so that its summary ends the output.
echo "== this processor"
swift test "${build[@]}" --skip-build
