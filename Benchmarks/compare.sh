#!/usr/bin/env bash
# Ours and the peers that package registries hold, side by side. Peers live in an environment outside the
# repository; the first run installs them, which compiles llama.cpp (some ten minutes on two cores).
# Arguments go to compare.py, e.g. --only model --rounds 9 --threads 1.
set -euo pipefail
cd "$(dirname "$0")/.."
. Benchmarks/install.sh
need_swift
need_openblas
need_python || { note "error: the peers need python3 with pip and venv"; exit 1; }

llama=llama-cpp-python==0.3.36
torch=torch==2.15.0
onnxruntime=onnxruntime==1.32.0
onnx=onnx==1.23.2

peers="$cache/peers"
python="$peers/bin/python"
mkdir -p "$cache"
[ -x "$python" ] || python3 -m venv "$peers"
log="$cache/peers.log"

# peer NAME COMMAND...: runs the installation once; a failure leaves the peer out, with its log.
peer() {
  local stamp="$peers/.installed-$1"
  shift
  [ -e "$stamp" ] && return 0
  note "installing ${stamp##*.installed-} (log: $log)"
  if "$@" >>"$log" 2>&1; then touch "$stamp"; else note "could not install ${stamp##*.installed-}; it is left out"; fi
}
install() { "$python" -m pip install --disable-pip-version-check "$@"; }

install_llama() {
  need g++ g++ && need gcc gcc || return 1
  CMAKE_ARGS="-DGGML_NATIVE=ON" CMAKE_BUILD_PARALLEL_LEVEL="$(getconf _NPROCESSORS_ONLN)" \
    install --no-binary llama-cpp-python "$llama"
}
# Its Linux wheel names gigabytes of GPU packages, which a processor never calls.
install_torch() {
  need gcc gcc && need readelf binutils || return 1
  install --no-deps "$torch" \
    && install filelock typing-extensions sympy networkx jinja2 fsspec "setuptools>=77" numpy \
    && "$python" Benchmarks/peers/cpu_torch.py \
    && "$python" -c 'import torch; torch.ones(2) @ torch.ones(2)'
}
peer "onnxruntime" install "$onnxruntime" "$onnx" numpy
peer "torch" install_torch
peer "llama.cpp" install_llama

swift build -c release --product quantkernels >&2
tool="$(swift build -c release --show-bin-path)/quantkernels"
if ! model=$(Benchmarks/model.sh); then
  model="$cache/synthetic.gguf"
  "$tool" synthesize -o "$model" >&2
fi
# llama.cpp runs BitNet models of this spelling and type; both heads are float16.
ternary="$cache/bitnet-700M-tq2_0.gguf"
[ -e "$ternary" ] || "$tool" synthesize --bitnet 700M --architecture bitnet --type tq2_0 -o "$ternary" >&2
"$python" Benchmarks/compare.py "$tool" "$model" "$python" --ternary "$ternary" "$@"
