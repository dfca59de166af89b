#include "qk_lookup.h"

extern const qk_lookup_table qk_lookup_table__scalar;
#if defined(__x86_64__)
extern const qk_lookup_table qk_lookup_table__avx2;
#elif defined(__aarch64__)
extern const qk_lookup_table qk_lookup_table__neonDotprod;
#endif

const qk_lookup_table *qk_lookup_kernels(qk_isa isa) {
  if (!qk_isa_supported(isa)) return 0;
  switch (isa) {
#if defined(__x86_64__)
  case QK_ISA_AVX2:
  case QK_ISA_AVX512VNNI: return &qk_lookup_table__avx2;
#elif defined(__aarch64__)
  case QK_ISA_NEON_DOTPROD:
  case QK_ISA_NEON_I8MM: return &qk_lookup_table__neonDotprod;
#endif
  default: return &qk_lookup_table__scalar;
  }
}
