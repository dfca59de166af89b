#!/usr/bin/env bash
# Formatting by swift-format's defaults, and nothing under version control that a build makes.
set -euo pipefail
cd "$(dirname "$0")/.."
. Benchmarks/install.sh
need_swift
need git git
paths=(Sources Tests Package.swift)
[ -n "$(find Benchmarks -name '*.swift' -print -quit)" ] && paths+=(Benchmarks)
swift format lint --strict --parallel --recursive "${paths[@]}"
products=$(git ls-files | grep -E '(^|/)\.build|(^|/)Package\.resolved$|\.(gguf|safetensors|o|a|so|xctest|swiftmodule|pyc)$' || true)
if [ -n "$products" ]; then
  printf 'error: build products under version control, remove them with git rm --cached:\n%s\n' "$products" >&2
  exit 1
fi
echo "lint: no findings"
