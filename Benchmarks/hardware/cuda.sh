# Sourced by check.sh and run.sh: finds a CUDA compiler, or installs one outside the repository when asked to.

note() { printf '%s\n' "$*" >&2; }

cache="${QUANTKERNELS_CACHE:-${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/quantkernels}/cuda"

# The versions that were tried together. Programs built by them need a driver that speaks CUDA 13; for an older
# driver install a toolkit of its own age (the packages of CUDA 12 hold no nvcc).
packages=(nvidia-cuda-nvcc==13.5.37 nvidia-cuda-crt==13.5.37 nvidia-nvvm==13.5.37 nvidia-cuda-runtime==13.5.37
  nvidia-cuda-cccl==13.3.5.0.6 nvidia-cuda-cuobjdump==13.5.37 nvidia-cuda-nvdisasm==13.5.37)

# find_nvcc [--install]: puts nvcc and cuobjdump on the path and sets cuda_include.
find_nvcc() {
  local from
  if [ "${1:-}" = --install ] && ! compgen -G "$cache/venv/lib/python3*/site-packages/nvidia/cu13/bin/nvcc" >/dev/null; then
    command -v python3 >/dev/null || { note "error: python3 is needed to install ${packages[0]}"; return 1; }
    note "installing ${packages[*]} into an environment of their own"
    mkdir -p "$cache"
    python3 -m venv "$cache/venv"
    "$cache/venv/bin/python" -m pip install --quiet --disable-pip-version-check "${packages[@]}" >&2
  fi
  from=$(compgen -G "$cache/venv/lib/python3*/site-packages/nvidia/cu13/bin" | head -1 || true)
  # An installed toolkit comes first: it fits the machine's driver.
  if [ -n "${NVCC:-}" ]; then PATH="$(dirname "$NVCC"):$PATH"
  elif command -v nvcc >/dev/null; then :
  elif [ -x /usr/local/cuda/bin/nvcc ]; then PATH="/usr/local/cuda/bin:$PATH"
  elif [ -n "$from" ]; then PATH="$from:$PATH"
  else
    note "error: no nvcc; install a CUDA toolkit, name one as NVCC=..., or run this with --install, which puts"
    note "       ${packages[*]}"
    note "       into an environment outside the repository"
    return 1
  fi
  export PATH
  command -v g++ >/dev/null || { note "error: nvcc needs a host compiler: install g++"; return 1; }
  cuda_include="$(dirname "$(dirname "$(command -v nvcc)")")/include"
}

# build ARCH FOLDER [EXTRA...]: both programs for one architecture, e.g. 80.
build() {
  local arch="$1" folder="$2" program
  shift 2
  for program in bank_cases int4_loops; do
    nvcc -std=c++17 -O3 -Werror all-warnings -gencode "arch=compute_$arch,code=sm_$arch" "$@" -o "$folder/$program" "$program.cu"
  done
}
