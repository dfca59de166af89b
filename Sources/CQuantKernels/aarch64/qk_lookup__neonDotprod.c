#if defined(__aarch64__)
#include "qk_lookup.h"

#include <arm_neon.h>

#pragma STDC FP_CONTRACT OFF

#define QK_NAME(stem) qk_lookup_##stem##__neonDotprod
#define QK_LEVEL QK_ISA_NEON_DOTPROD
#define LAYER static inline __attribute__((always_inline))

typedef struct { uint8x16_t group[2]; } lb;
typedef struct { int16x8_t low[2], high[2]; } la; // outputs 0-7 and 8-15 of each group
typedef struct { uint8x16_t bits; } ls;
#define GROUPS _Pragma("clang loop unroll(full)") for (int g = 0; g < 2; g++)

LAYER lb lb_load(const uint8_t *p) { return (lb){{vld1q_u8(p), vld1q_u8(p + 16)}}; }
LAYER lb lb_low(lb b) {
  GROUPS b.group[g] = vandq_u8(b.group[g], vdupq_n_u8(15));
  return b;
}
LAYER lb lb_high(lb b) {
  GROUPS b.group[g] = vshrq_n_u8(b.group[g], 4);
  return b;
}
LAYER lb lb_lookup(lb table, lb index) {
  GROUPS index.group[g] = vqtbl1q_u8(table.group[g], index.group[g]);
  return index;
}
LAYER la la_zero(void) {
  la a;
  GROUPS a.low[g] = a.high[g] = vdupq_n_s16(0);
  return a;
}
LAYER la la_add(la a, lb low, lb high) {
  GROUPS {
    a.low[g] = vaddq_s16(a.low[g], vreinterpretq_s16_u8(vzip1q_u8(low.group[g], high.group[g])));
    a.high[g] = vaddq_s16(a.high[g], vreinterpretq_s16_u8(vzip2q_u8(low.group[g], high.group[g])));
  }
  return a;
}
LAYER ls ls_load(const uint8_t *p) { return (ls){vld1q_u8(p)}; }
LAYER ls ls_next(ls s) { return (ls){vshlq_n_u8(s.bits, 2)}; }
// With s 0 or -1: (value ^ s) - s
LAYER la la_add_signed(la a, lb low, lb high, ls signs) {
  GROUPS {
    const uint8x16_t at = g ? vaddq_u8(signs.bits, signs.bits) : signs.bits;
    const int8x16_t bytes = vshrq_n_s8(vreinterpretq_s8_u8(at), 7);
    const int16x8_t s0 = vmovl_s8(vget_low_s8(bytes)), s1 = vmovl_s8(vget_high_s8(bytes));
    const int16x8_t v0 = vreinterpretq_s16_u8(vzip1q_u8(low.group[g], high.group[g]));
    const int16x8_t v1 = vreinterpretq_s16_u8(vzip2q_u8(low.group[g], high.group[g]));
    a.low[g] = vaddq_s16(a.low[g], vsubq_s16(veorq_s16(v0, s0), s0));
    a.high[g] = vaddq_s16(a.high[g], vsubq_s16(veorq_s16(v1, s1), s1));
  }
  return a;
}
LAYER la la_add_fast(la a, lb one, lb two) {
  GROUPS {
    const int8x16_t b = vreinterpretq_s8_u8(one.group[g]), c = vreinterpretq_s8_u8(two.group[g]);
    a.low[g] = vaddq_s16(a.low[g], vaddl_s8(vget_low_s8(b), vget_low_s8(c)));
    a.high[g] = vaddq_s16(a.high[g], vaddl_high_s8(b, c));
  }
  return a;
}
LAYER void la_fold(int32_t *sums, la a) {
  GROUPS {
    vst1q_s32(sums, vaddw_s16(vld1q_s32(sums), vget_low_s16(a.low[g])));
    vst1q_s32(sums + 4, vaddw_high_s16(vld1q_s32(sums + 4), a.low[g]));
    vst1q_s32(sums + 8, vaddw_s16(vld1q_s32(sums + 8), vget_low_s16(a.high[g])));
    vst1q_s32(sums + 12, vaddw_high_s16(vld1q_s32(sums + 12), a.high[g]));
  }
}
LAYER void lo_output(const int32_t *sums, const float *w_scale, float scale, float *y, size_t count) {
  float all[16];
  float *to = count < 16 ? all : y;
  for (int r = 0; r < 4; r++) {
    const float32x4_t factor = vdivq_f32(vld1q_f32(w_scale + 4 * r), vdupq_n_f32(scale));
    vst1q_f32(to + 4 * r, vmulq_f32(vcvtq_f32_s32(vld1q_s32(sums + 4 * r)), factor));
  }
  if (count < 16) __builtin_memcpy(y, all, 4 * count);
}

#include "bodies/qk_lookup.inc"
#endif
