#if defined(__aarch64__)
#include "qk_ternary.h"

#include "bodies/qk_ternary_quantize.h"

#include <arm_neon.h>

#pragma STDC FP_CONTRACT OFF
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("dotprod"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("arch=armv8.2-a+dotprod")
#endif

#define QK_NAME(stem) qk_##stem##__neonDotprod
#define QK_LEVEL QK_ISA_NEON_DOTPROD
#define QK_STEP_K 4
#define QK_REGISTERS 4
// sdot sums in 32 bits: a chunk's largest sum, 60 steps · 4 k · 4·2·128, is under 2^18.
#define QK_FOLD2 15
#define QK_HEIGHTS(X) X(4) X(2) X(1) // 4 rows × 4 registers of sums, 4 of codes, of 32
#define QK_TERNARY_QUANTIZE QK_NAME(ternary_quantize)

#include "bodies/qk_ternary_lanes__neon.inc"

typedef int8x16_t tx;
LAYER tx tx_load(const int8_t *x) {
  int32_t four;
  __builtin_memcpy(&four, x, 4);
  return vreinterpretq_s8_s32(vdupq_n_s32(four));
}
// Codes are at most 12, so that they are the same signed and unsigned.
LAYER ta ta_dot(ta a, tw w, tx x) {
  REGISTERS a.q[r] = vdotq_s32(a.q[r], vreinterpretq_s8_u8(w.q[r]), x);
  return a;
}
LAYER ti ti_fold(ti s, ta a, const int factor) {
  FOUR s.q[r] = vaddq_s32(s.q[r], factor == 4 ? vshrq_n_s32(a.q[r], 2) : a.q[r]); // a multiple of the factor
  return s;
}

#include "bodies/qk_ternary.inc"

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif
