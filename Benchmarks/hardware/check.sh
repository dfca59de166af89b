#!/usr/bin/env bash
# What can be checked without a GPU: that both programs compile for every architecture without a warning or a spill, that
# the machine code of their loops is what was meant, that the loops' own text gives right products on a processor,
# and that the verdict rules say what they should about made-up measurements.
#   check.sh [--install] [--registers]     --registers prints registers and instructions a step of the int4 loops
set -euo pipefail
cd "$(dirname "$0")"
. ./cuda.sh
install= registers=
for argument; do
  case "$argument" in
    --install | --registers) printf -v "${argument#--}" %s "$argument" ;;
    *) note "usage: check.sh [--install] [--registers]"; exit 64 ;;
  esac
done

python3 records.py test
find_nvcc $install || exit 69
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
nvcc --version | tail -1
for arch in 80 86 89 90; do
  mkdir "$folder/$arch"
  build "$arch" "$folder/$arch" -Xptxas -v 2>"$folder/$arch/report" || { cat "$folder/$arch/report" >&2; exit 1; }
  if grep -E '[1-9][0-9]* bytes spill' "$folder/$arch/report" >&2; then note "error: sm_$arch: registers spill"; exit 1; fi
  if command -v cuobjdump >/dev/null; then
    printf 'sm_%s: ' "$arch"
    python3 sass.py banks "$folder/$arch/bank_cases"
    python3 sass.py loops "$folder/$arch/int4_loops" >"$folder/$arch/loops.json"
    [ -z "$registers" ] || cat "$folder/$arch/loops.json"
  else
    note "sm_$arch: compiled; its machine code was not looked at (no cuobjdump)"
  fi
done
# The CUDA header of halves carries warnings of its own for a plain compiler.
g++ -std=c++17 -O1 -w -I "$cuda_include" emulated/run.cpp -o "$folder/emulated"
"$folder/emulated"
echo "hardware: no findings"
