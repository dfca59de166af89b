#!/usr/bin/env bash
# The kernels in the standard view of ordo-one/benchmark (Benchmarks/Package.swift). Arguments go to it, e.g.
#   Benchmarks/benchmark.sh --filter 'int4\.int4\.m1\..*'
#   Benchmarks/benchmark.sh baseline update before        then, changed:  ... baseline compare before
#   Benchmarks/benchmark.sh --format jmh --path stdout
# Without its allocation counters, which need a library of their own, only wall clock and throughput mean something.
set -euo pipefail
cd "$(dirname "$0")"
. install.sh
need_swift
need git git
# Its tool runs in a sandbox of its own, which a container may forbid.
exec swift package --disable-sandbox --allow-writing-to-package-directory benchmark "$@"
