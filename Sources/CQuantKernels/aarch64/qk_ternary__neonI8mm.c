#if defined(__aarch64__)
#include "qk_ternary.h"

#include "bodies/qk_ternary_quantize.h"

#include <arm_neon.h>

#pragma STDC FP_CONTRACT OFF
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("dotprod,i8mm"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("arch=armv8.2-a+dotprod+i8mm")
#endif

#define QK_NAME(stem) qk_##stem##__neonI8mm
#define QK_LEVEL QK_ISA_NEON_I8MM
#define QK_STEP_K 8
#define QK_REGISTERS 8
#define QK_FOLD2 15
#define QK_HEIGHTS(X) X(4) X(2) X(1) // 2 pairs of rows × 8 registers of sums, of 32
#define QK_TERNARY_QUANTIZE QK_NAME(ternary_quantize)
#define QK_TILE_OWN

#include "bodies/qk_ternary_lanes__neon.inc"

// One or two rows take sdot: register r holds outputs 2r and 2r + 1 of 8 k each, and gets two sums of each.
typedef int8x16_t tx;
LAYER tx tx_load(const int8_t *x) {
  const int8x8_t eight = vld1_s8(x);
  return vcombine_s8(eight, eight);
}
// Codes are at most 12, so that they are the same signed and unsigned.
LAYER ta ta_dot(ta a, tw w, tx x) {
  REGISTERS a.q[r] = vdotq_s32(a.q[r], vreinterpretq_s8_u8(w.q[r]), x);
  return a;
}
LAYER ti ti_fold(ti s, ta a, const int factor) {
  FOUR {
    const int32x4_t sums = vpaddq_s32(a.q[2 * r], a.q[2 * r + 1]);
    s.q[r] = vaddq_s32(s.q[r], factor == 4 ? vshrq_n_s32(sums, 2) : sums); // a multiple of the factor
  }
  return s;
}

// smmla leaves in register r of a pair of rows row 0 and row 1 of outputs 2r and 2r + 1.
LAYER void qk_tile__neonI8mm(const uint8_t *codes, size_t steps, const int8_t *x, const int pitch, int32_t *sums,
                             int first, const int height, const int wide) {
  (void)wide; // one panel
  const int pairs = (height + 1) / 2;
  ta acc[2];
  for (int i = 0; i < pairs; i++) acc[i] = ta_zero();
  for (size_t s = 0; s < steps; s++, codes += 16 * QK_STEP_K, x += QK_STEP_K) {
    const tw c = tw_load(codes);
    _Pragma("clang loop unroll(full)") for (int i = 0; i < pairs; i++) {
      const int8x8_t row = vld1_s8(x + 2 * i * pitch);
      const int8x16_t rows = vcombine_s8(row, height == 1 ? row : vld1_s8(x + (2 * i + 1) * pitch));
      REGISTERS acc[i].q[r] = vmmlaq_s32(acc[i].q[r], rows, vreinterpretq_s8_u8(c.q[r]));
    }
  }
  for (int i = 0; i < height; i++) {
    int32_t *to = sums + 16 * i;
    const ta a = acc[i / 2];
    FOUR {
      const int64x2_t low = vreinterpretq_s64_s32(a.q[2 * r]), high = vreinterpretq_s64_s32(a.q[2 * r + 1]);
      const int32x4_t row = vreinterpretq_s32_s64(i % 2 ? vzip2q_s64(low, high) : vzip1q_s64(low, high));
      vst1q_s32(to + 4 * r, first ? row : vaddq_s32(vld1q_s32(to + 4 * r), row));
    }
  }
}

#include "bodies/qk_ternary.inc"

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif
