#ifndef QK_ISA_H
#define QK_ISA_H

// Levels of instruction sets, clustered: one level is one set of kernel files.
typedef enum qk_isa {
  QK_ISA_SCALAR = 0,
  QK_ISA_AVX2 = 1,         // AVX2, FMA, F16C
  QK_ISA_AVX512VNNI = 2,   // AVX-512 F, BW, VL, DQ, VNNI
  QK_ISA_NEON_DOTPROD = 3, // ASIMD, FP16 conversion, SDOT
  QK_ISA_NEON_I8MM = 4,    // the above and SMMLA
  QK_ISA_COUNT = 5
} qk_isa;

// 1 when this processor runs the level (and the level is compiled in), else 0.
int qk_isa_supported(qk_isa isa);

// The highest supported level, not above the one that the environment variable QK_MAX_ISA names
// (scalar, avx2, avx512vnni, neonDotprod, neonI8mm). An unknown name caps nothing.
qk_isa qk_isa_best(void);

const char *qk_isa_name(qk_isa isa);

#endif
