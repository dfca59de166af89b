#include "qk_vector.h"

const qk_vector_kernels *qk_vector_kernels_for(qk_isa isa) {
#if defined(__x86_64__)
  if (isa >= QK_ISA_AVX512VNNI && qk_isa_supported(QK_ISA_AVX512VNNI))
    return &qk_vector__avx512vnni;
  if (isa >= QK_ISA_AVX2 && qk_isa_supported(QK_ISA_AVX2)) return &qk_vector__avx2;
#elif defined(__aarch64__)
  if (isa >= QK_ISA_NEON_DOTPROD && qk_isa_supported(QK_ISA_NEON_DOTPROD)) return &qk_vector__neon;
#endif
  (void)isa;
  return &qk_vector__scalar;
}
