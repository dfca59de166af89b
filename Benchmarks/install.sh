# Sourced by the other scripts: installs what a bare Debian lacks, only when it is missing, and quietly.

note() { printf '%s\n' "$*" >&2; }

# cache: the folder outside the repository where models and environments are kept.
cache="${QUANTKERNELS_CACHE:-${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/quantkernels}"

as_root() {
  if [ "$(id -u)" -eq 0 ]; then "$@"
  elif command -v sudo >/dev/null 2>&1; then sudo "$@"
  else return 1
  fi
}

apt_is_fresh=
# apt_install PACKAGE...: true when the packages are installed afterwards.
apt_install() {
  command -v apt-get >/dev/null 2>&1 || {
    note "missing: $* (there is no apt-get here; install them with this system's package manager)"
    return 1
  }
  note "installing $*"
  if [ -z "$apt_is_fresh" ]; then
    as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq >/dev/null 2>&1 || true
    apt_is_fresh=1
  fi
  as_root env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -qq --no-install-recommends "$@" >/dev/null 2>&1 || {
    note "could not install $* (no network, or neither root nor sudo)"
    return 1
  }
}

# need COMMAND PACKAGE...: installs the packages unless the command is there.
need() {
  local command="$1"
  shift
  command -v "$command" >/dev/null 2>&1 || apt_install "$@"
}

# need_python: python3 with pip and venv.
need_python() {
  need python3 python3-minimal || return 1
  python3 -m pip --version >/dev/null 2>&1 || apt_install python3-pip || return 1
  python3 -c 'import venv, ensurepip' >/dev/null 2>&1 || apt_install python3-venv || return 1
}

need_swift() {
  command -v swift >/dev/null 2>&1 || {
    note "error: swift: not found; install Swift 6.2 or later from https://www.swift.org/install"
    return 1
  }
}

# need_openblas: BLAS and LAPACK for the calibration, which the command line and the tests link on Linux. The
# libraries QuantKernels and LanguageModel need neither.
need_openblas() {
  [ "$(uname -s)" = Linux ] || return 0
  local library
  for library in /usr/lib/*/libopenblas.so /usr/lib/libopenblas.so /usr/lib64/libopenblas.so \
    /usr/local/lib/libopenblas.so; do
    [ -e "$library" ] && return 0
  done
  apt_install libopenblas-dev
}

# need_mpi: Open MPI with what a build needs to find it, for ranks that are processes.
need_mpi() {
  [ "$(uname -s)" = Linux ] || return 1
  { command -v mpirun && pkg-config --exists ompi-c; } >/dev/null 2>&1 \
    || apt_install openmpi-bin libopenmpi-dev pkg-config
}

# test_build: sets `build`, the options of the build that the tests and the smoke run share, so that continuous
# integration compiles once; with MPI where there is one, as the tests are those of the build without and more.
test_build() {
  build=(-c release -Xswiftc -enable-testing --scratch-path .build-test)
  if need_mpi; then build+=(--traits MPI); fi
}
