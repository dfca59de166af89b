#!/usr/bin/env bash
# The documentation of every library as one static site in .build-docs/site. A warning is an error, and so is a public
# symbol without a comment, or one that throws and does not say what.
set -euo pipefail
cd "$(dirname "$0")/.."
. Benchmarks/install.sh
need_swift
need git git

# Every library of the manifest.
libraries=()
while read -r library; do libraries+=("$library"); done \
  < <(sed -n 's/^ *\.library(name: "\([A-Za-z]*\)".*/\1/p' Package.swift)

# The trait MPI is on for symbol graphs, see below.
if ! need_mpi; then
  note "left out: MPICommunicator (needs libopenmpi-dev)"
  others=()
  for library in "${libraries[@]}"; do [ "$library" = MPICommunicator ] || others+=("$library"); done
  libraries=("${others[@]}")
fi

# A build of its own, kept from run to run: for symbol graphs SwiftPM turns every trait on, which changes all compile
# commands, so that the build of the tests would be made anew twice. In debug and without the kernels' -O2, as nothing of
# it is run.
work="$PWD/.build-docs"
rm -rf "$work/site"
mkdir -p "$work"
swift package -Xcc -O0 --scratch-path "$work/build" --allow-writing-to-directory "$work" generate-documentation \
  "${libraries[@]/#/--target=}" --enable-experimental-combined-documentation \
  --warnings-as-errors --transform-for-static-hosting --output-path "$work/site"

# The plug-in goes on after an error in one of several libraries.
graphs=()
for library in "${libraries[@]}"; do
  found=$(find "$work/build/" -path "*/extracted-symbols/*" \( -name "$library.symbols.json" -o -name "$library@*.symbols.json" \))
  page="$work/site/documentation/$(tr '[:upper:]' '[:lower:]' <<<"$library")/index.html"
  [ -n "$found" ] && [ -e "$page" ] || { note "error: no documentation of $library"; exit 1; }
  while read -r graph; do graphs+=("$graph"); done <<<"$found"
done
swift Tests/undocumented.swift "${graphs[@]}"
echo "documentation: python3 -m http.server --directory .build-docs/site, then" \
  "http://localhost:8000/documentation/quantkernels"
