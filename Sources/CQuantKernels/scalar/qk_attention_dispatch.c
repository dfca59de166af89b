#include "qk_attention.h"

const qk_attention_kernels *qk_attention_kernels_for(qk_isa isa) {
#if defined(__x86_64__)
  if (isa >= QK_ISA_AVX512VNNI && qk_isa_supported(QK_ISA_AVX512VNNI))
    return &qk_attention__avx512vnni;
  if (isa >= QK_ISA_AVX2 && qk_isa_supported(QK_ISA_AVX2)) return &qk_attention__avx2;
#elif defined(__aarch64__)
  if (isa >= QK_ISA_NEON_DOTPROD && qk_isa_supported(QK_ISA_NEON_DOTPROD))
    return &qk_attention__neon;
#endif
  (void)isa;
  return &qk_attention__scalar;
}

const qk_attention_pairs *qk_attention_pairs_for(qk_isa isa) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (isa >= QK_ISA_AVX512VNNI && qk_isa_supported(QK_ISA_AVX512VNNI) &&
      __builtin_cpu_supports("avx512bf16"))
    return &qk_attention__avx512bf16;
#endif
  (void)isa;
  return NULL;
}
