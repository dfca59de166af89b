#include "qk_isa.h"

#include <stdlib.h>
#include <string.h>

#if defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif
#if defined(__aarch64__) && defined(__APPLE__)
#include <sys/sysctl.h>
#endif

static const char *const names[QK_ISA_COUNT] = {"scalar", "avx2", "avx512vnni", "neonDotprod",
                                                "neonI8mm"};

const char *qk_isa_name(qk_isa isa) { return isa < QK_ISA_COUNT ? names[isa] : "unknown"; }

#if defined(__aarch64__) && defined(__APPLE__)
static int apple_feature(const char *name) {
  int value = 0;
  size_t size = sizeof value;
  return sysctlbyname(name, &value, &size, NULL, 0) == 0 && value != 0;
}
#endif

int qk_isa_supported(qk_isa isa) {
  if (isa == QK_ISA_SCALAR) return 1;
#if defined(__x86_64__)
  __builtin_cpu_init();
  int avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
             __builtin_cpu_supports("f16c");
  if (isa == QK_ISA_AVX2) return avx2;
  if (isa == QK_ISA_AVX512VNNI)
    return avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vnni");
#elif defined(__aarch64__) && defined(__linux__)
  // Bits of the kernel's HWCAP words (arch/arm64/include/uapi/asm/hwcap.h): ASIMDDP 20; I8MM 13 of
  // HWCAP2.
  int dotprod = (getauxval(AT_HWCAP) >> 20) & 1;
  int i8mm = (getauxval(AT_HWCAP2) >> 13) & 1;
  if (isa == QK_ISA_NEON_DOTPROD) return dotprod;
  if (isa == QK_ISA_NEON_I8MM) return dotprod && i8mm;
#elif defined(__aarch64__) && defined(__APPLE__)
  int dotprod = apple_feature("hw.optional.arm.FEAT_DotProd");
  if (isa == QK_ISA_NEON_DOTPROD) return dotprod;
  if (isa == QK_ISA_NEON_I8MM) return dotprod && apple_feature("hw.optional.arm.FEAT_I8MM");
#endif
  return 0;
}

static qk_isa find_best(void) {
  int cap = QK_ISA_COUNT - 1;
  const char *wanted = getenv("QK_MAX_ISA");
  if (wanted != NULL)
    for (int i = 0; i < QK_ISA_COUNT; i++)
      if (strcmp(wanted, names[i]) == 0) cap = i;
  qk_isa best = QK_ISA_SCALAR;
  for (int i = 0; i <= cap; i++)
    if (qk_isa_supported((qk_isa)i)) best = (qk_isa)i;
  return best;
}

qk_isa qk_isa_best(void) {
  // Racing first calls compute the same value.
  static volatile int cached = -1;
  if (cached < 0) cached = (int)find_best();
  return (qk_isa)cached;
}
