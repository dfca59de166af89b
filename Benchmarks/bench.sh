#!/usr/bin/env bash
# The main job: the machine's limits, the model's speed, the int4 kernels' speed, a generated sentence.
# --smoke: a few seconds of it, on a small synthetic model.
set -euo pipefail
cd "$(dirname "$0")/.."
. Benchmarks/install.sh
need_swift
need git git

# The smoke run shares the build of the tests.
smoke=
[ "${1:-}" = --smoke ] && smoke=1
if [ -n "$smoke" ]; then build=(-c release -Xswiftc -enable-testing --scratch-path .build-test)
else build=(-c release); fi
swift build "${build[@]}" --product quantkernels >&2
tool="$(swift build "${build[@]}" --show-bin-path)/quantkernels"

"$tool" bench machine --threads 1
"$tool" bench machine
