#!/usr/bin/env bash
# Builds the C kernels and every driver of this folder for arm64 and runs the drivers on emulated processors of three
# levels, so that each kernel file is executed and dispatch picks what each processor has; on x86 also, with the objects
# of a build of the package, on emulated processors without and with AVX2. Then checks that the kernels compile for
# macOS. Usage: Tests/CrossArchitecture/run.sh [BIN_PATH]
#
# Needs qemu-user-static, gcc-aarch64-linux-gnu and libc6-dev-arm64-cross. The Swift toolchain's clang compiles, as it
# does the package; gcc where there is none. Without the cross compiler or qemu this says so and succeeds, unless
# QUANTKERNELS_REQUIRE_CROSS is set.
#
# A driver is a file NAME_driver.c; its argument lists the levels that the processor must support, in order.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
kernels=$(cd "$here/../../Sources/CQuantKernels" && pwd)

for tool in aarch64-linux-gnu-gcc qemu-aarch64-static; do
  command -v "$tool" >/dev/null && continue
  echo "$tool is missing: apt-get install qemu-user-static gcc-aarch64-linux-gnu libc6-dev-arm64-cross" >&2
  [ -z "${QUANTKERNELS_REQUIRE_CROSS:-}" ] || exit 1
  echo "skipped: the arm64 kernels were not run" >&2
  exit 0
done

build=$(mktemp -d)
trap 'rm -rf "$build"' EXIT

flags=(-O2 -std=gnu11 -Wall -Wextra "-I$kernels" "-I$kernels/include")
if command -v clang >/dev/null; then
  compile=(clang --target=aarch64-linux-gnu --gcc-toolchain=/usr --sysroot=/usr/aarch64-linux-gnu
    -isystem /usr/aarch64-linux-gnu/include)
else
  # gcc would fuse operations across statements and does not read clang's pragmas.
  compile=(aarch64-linux-gnu-gcc -ffp-contract=off -Wno-unknown-pragmas)
fi

# Each source to an object named for its path, one compilation a processor at a time.
cd "$kernels"
find . -name '*.c' -print0 >"$build/kernels"
find "$here" -name '*_driver.c' -print0 >"$build/drivers"
cat "$build/kernels" "$build/drivers" | xargs -0 -n 1 -P "$(getconf _NPROCESSORS_ONLN)" bash -c '
  source=${!#}
  exec "$@" -c -o "$0/$(tr / + <<<"$source").o"
' "$build" "${compile[@]}" "${flags[@]}"

# Runs of drivers, a line each: processor, levels that it must support, cap, driver.
runs="$build/runs"
while IFS= read -r -d '' driver; do
  program="$build/$(basename "$driver" .c)"
  aarch64-linux-gnu-gcc -static -o "$program" "$build/$(tr / + <<<"$driver").o" "$build"/.+*.o -lm
  for run in "cortex-a53 scalar -" "neoverse-n1 scalar,neonDotprod -" "max scalar,neonDotprod,neonI8mm -" \
    "max scalar,neonDotprod,neonI8mm neonDotprod"; do
    echo "qemu-aarch64-static $run $program"
  done
done <"$build/drivers" >"$runs"

# The same drivers on x86: with the very objects that the package's tests run. Those of attention and latents not on an
# emulated AVX2: qemu reads what vmaskmovps masks, and buffers end at a page that may not be touched. Processors with AVX2
# run them in Tests/Sanitizers/run.sh.
objects="${1:-}/CQuantKernels.build"
if [ -d "$objects" ] && [ "$(uname -m)" = x86_64 ] && command -v clang qemu-x86_64-static >/dev/null; then
  mkdir "$build/x86"
  while IFS= read -r -d '' driver; do
    program="$build/x86/$(basename "$driver" .c)"
    find "$objects" -name '*.o' -print0 | xargs -0 clang "${flags[@]}" -o "$program" "$driver" -lm
    echo "qemu-x86_64-static Nehalem scalar - $program"
    case $program in
      */matmul_driver | */ternary_driver) echo "qemu-x86_64-static Haswell scalar,avx2 - $program" ;;
    esac
  done <"$build/drivers" >>"$runs"
fi

# One at a time on each processor of this machine, each run's lines together.
xargs -n 5 -P "$(getconf _NPROCESSORS_ONLN)" bash -c '
  emulator=$1 processor=$2 levels=$3 cap=$4 program=$5
  [ "$cap" = - ] && capped=() || capped=(-E "QK_MAX_ISA=$cap")
  status=0
  start=$SECONDS
  output=$("$emulator" -cpu "$processor" "${capped[@]}" "$program" "$levels" 2>&1) || status=1
  printf "%s on %s, capped to %s, %s s: %s\n" "$(basename "$program")" "$processor" "$cap" "$((SECONDS - start))" \
    "$(grep -v "^qemu.*warning: TCG" <<<"$output")"
  exit "$status"
' run <"$runs"

if command -v clang >/dev/null; then
  # No Apple headers here: these declarations stand in for what the kernels call. C11 as clang reads it refuses a call
  # of anything else.
  mkdir -p "$build/headers/sys"
  cat >"$build/headers/string.h" <<'HEADER'
#include <stddef.h>
void *memcpy(void *, const void *, size_t);
void *memmove(void *, const void *, size_t);
void *memset(void *, int, size_t);
int strcmp(const char *, const char *);
HEADER
  cat >"$build/headers/math.h" <<'HEADER'
#define INFINITY __builtin_inff()
#define NAN __builtin_nanf("")
#define isnan(x) __builtin_isnan(x)
#define isfinite(x) __builtin_isfinite(x)
float fmaf(float, float, float);
double log2(double);
float copysignf(float, float), fmaxf(float, float), fminf(float, float), ldexpf(float, int), nanf(const char *);
float ceilf(float), fabsf(float), floorf(float), nearbyintf(float), rintf(float), roundf(float), truncf(float);
float cosf(float), exp2f(float), expf(float), logf(float), powf(float, float), sinf(float), sqrtf(float), tanhf(float);
HEADER
  cat >"$build/headers/stdlib.h" <<'HEADER'
#include <stddef.h>
char *getenv(const char *);
HEADER
  cat >"$build/headers/sys/sysctl.h" <<'HEADER'
#include <stddef.h>
int sysctlbyname(const char *, void *, size_t *, void *, size_t);
HEADER
  # The files that tell macOS apart and those with instructions; the rest is plain C. Nothing of it is run.
  for source in ./*.c aarch64/*.c; do
    clang -target arm64-apple-macos15 -ffreestanding "${flags[@]}" -O0 -isystem "$build/headers" \
      -c "$source" -o "$build/macos.o"
  done
  echo "the kernels compile for macOS"
fi
