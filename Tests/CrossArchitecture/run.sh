#!/bin/sh
# Builds the C kernels and every driver of this folder for arm64 and runs them on emulated processors of three levels, so
# that each kernel file runs and dispatch picks what each processor has. Then checks that the files compile for macOS.
#
# Needs qemu-user-static, gcc-aarch64-linux-gnu and libc6-dev-arm64-cross, and the Swift toolchain's clang, which is what
# compiles the package; without it gcc compiles. Where the cross compiler or qemu is missing it says so and succeeds,
# unless QUANTKERNELS_REQUIRE_CROSS is set.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
kernels=$(cd "$here/../../Sources/CQuantKernels" && pwd)

for tool in aarch64-linux-gnu-gcc qemu-aarch64-static; do
  command -v "$tool" >/dev/null && continue
  echo "$tool is missing: apt-get install qemu-user-static gcc-aarch64-linux-gnu libc6-dev-arm64-cross" >&2
  if [ -n "${QUANTKERNELS_REQUIRE_CROSS:-}" ]; then exit 1; fi
  echo "skipped: the arm64 kernels were not run" >&2
  exit 0
done

build=$(mktemp -d)
trap 'rm -rf "$build"' EXIT

if command -v clang >/dev/null; then
  # Headers and the C library of the cross gcc; -nostdinc would lose clang's own arm_neon.h.
  compile="clang --target=aarch64-linux-gnu --gcc-toolchain=/usr --sysroot=/usr/aarch64-linux-gnu
    -isystem /usr/aarch64-linux-gnu/include"
else
  # gcc fuses across statements unless told not to; clang takes the pragma in the files.
  compile="aarch64-linux-gnu-gcc -ffp-contract=off -Wno-unknown-pragmas"
fi
flags="-O2 -std=gnu11 -Wall -Wextra -Werror -I $kernels -I $kernels/include"

sources=$(find "$kernels" -name '*.c' | sort)
number=0
objects=
for source in $sources; do
  number=$((number + 1))
  objects="$objects $build/$number.o"
done

# One compilation a processor at a time: NAME SOURCE OBJECT, a line each.
number=0
for source in $sources "$here"/*_driver.c; do
  number=$((number + 1))
  case $source in
  "$here"/*) object=$build/$(basename "$source" .c).o ;;
  *) object=$build/$number.o ;;
  esac
  printf '%s\0%s\0' "$source" "$object"
done | xargs -0 -n 2 -P "$(getconf _NPROCESSORS_ONLN)" sh -c '
  compile=$1 flags=$2
  exec $compile $flags -c "$3" -o "$4"
' compile "$compile" "$flags"

for driver in "$here"/*_driver.c; do
  name=$(basename "$driver" .c)
  # shellcheck disable=SC2086 # words
  aarch64-linux-gnu-gcc -static -o "$build/$name" "$build/$name.o" $objects -lm
  # An emulated processor, and the levels that it must be found to support.
  while read -r processor levels; do
    echo "$name on $processor"
    qemu-aarch64-static -cpu "$processor" "$build/$name" "$levels"
  done <<'PROCESSORS'
cortex-a53 scalar
neoverse-n1 scalar,neonDotprod
max scalar,neonDotprod,neonI8mm
PROCESSORS
  echo "$name on max, capped to neonDotprod"
  qemu-aarch64-static -cpu max -E QK_MAX_ISA=neonDotprod "$build/$name" scalar,neonDotprod,neonI8mm
done

if command -v clang >/dev/null; then
  # No Apple headers here: declarations stand in for the few functions that the files call.
  mkdir "$build/headers"
  echo 'typedef __SIZE_TYPE__ size_t; void *memcpy(void *, const void *, size_t); void *memset(void *, int, size_t);
    void *memmove(void *, const void *, size_t);' >"$build/headers/string.h"
  echo 'float fmaf(float, float, float); float sqrtf(float); float expf(float); float nanf(const char *);
    float fmaxf(float, float); float fabsf(float);
    #define INFINITY __builtin_inff()
    #define NAN __builtin_nanf("")' | sed 's/^ *//' >"$build/headers/math.h"
  for source in "$kernels"/aarch64/*.c; do
    clang -target arm64-apple-macos14 -ffreestanding -O2 -std=gnu11 -Wall -Wextra -Werror \
      -isystem "$build/headers" -I "$kernels" -I "$kernels/include" -c "$source" -o "$build/macos.o"
  done
  echo "the arm64 kernels compile for macOS"
fi
