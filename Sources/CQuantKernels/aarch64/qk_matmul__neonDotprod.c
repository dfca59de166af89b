#if defined(__aarch64__)
#include <arm_neon.h>

#include "bodies/qk_quantize.h"
#include "qk_matmul.h"

#pragma STDC FP_CONTRACT OFF
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("dotprod"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("arch=armv8.2-a+dotprod")
#endif

#define QK_NAME(stem) qk_##stem##__neonDotprod
#define QK_LEVEL QK_ISA_NEON_DOTPROD
#define QK_MAX_HEIGHT 4 // 4 rows × 4 registers of accumulators, of 32
#define QK_FLOAT_HEIGHT 4
#define QK_STEP_K 4
#define QK_UNITS(height) (height)

#include "bodies/qk_matmul_lanes__neon.inc"

typedef struct { uint8x16_t q[4]; } vb;
typedef struct { int32x4_t q[4]; } va;

// A unit is one row.
typedef vf vu;
#define vu_zero vf_zero
#define vu_mul vf_mul
#define vu_fma vf_fma
#define vu_rows vf_row
#define vu_weights(weights, height) (weights)
#define vu_store(out, stride, unit, y, height) vf_store((out) + (size_t)(unit) * (stride), y)
#define vu_store_first(out, stride, unit, y, count, height) \
  vf_store_first((out) + (size_t)(unit) * (stride), y, count)

LAYER vb vb_load(const uint8_t *p) {
  vb b;
  FOUR b.q[r] = vld1q_u8(p + 16 * r);
  return b;
}
#define vb_load_plane vb_load
LAYER void vb_store(uint8_t *p, vb b) { FOUR vst1q_u8(p + 16 * r, b.q[r]); }
LAYER vb vb_low4(vb b) {
  FOUR b.q[r] = vandq_u8(b.q[r], vdupq_n_u8(15));
  return b;
}
LAYER vb vb_high4(vb b) {
  FOUR b.q[r] = vshrq_n_u8(b.q[r], 4);
  return b;
}
// One shift brings the field from `shift` to `up`, one bit selection takes it over.
LAYER vb vb_merge(vb low, vb plane, int shift, int mask, int up) {
  const int8x16_t by = vdupq_n_s8((int8_t)(up - shift)); // negative to the right
  FOUR low.q[r] = vbslq_u8(vdupq_n_u8((uint8_t)(mask << up)), vshlq_u8(plane.q[r], by), low.q[r]);
  return low;
}
// sdot takes signed codes: 4- to 6-bit ones are, 8-bit ones lose 128.
LAYER vb vb_operand(vb b, const int format) {
  if (format == QK_INT8_H || format == QK_UINT8_HM) { FOUR b.q[r] = flip_sign(b.q[r]); }
  return b;
}
LAYER vb vb_plain(vb b, const int format) {
  FOUR b.q[r] = plain_codes(b.q[r], format);
  return b;
}

// A step's activations of up to four rows in one register, four bytes a row: sdot takes a row's by
// its lane.
typedef int32x4_t vx;
LAYER vx vx_load(const int8_t *x, const int height) {
  if (height == 4) return vreinterpretq_s32_s8(vld1q_s8(x));
  if (height == 2) return vreinterpretq_s32_s8(vcombine_s8(vld1_s8(x), vdup_n_s8(0)));
  int32_t four;
  __builtin_memcpy(&four, x, 4);
  return vdupq_n_s32(four);
}
LAYER int8x16_t vx_unit(vx x, const int unit) { return vreinterpretq_s8_s32(vdupq_n_s32(x[unit])); }

LAYER va va_start(const int32_t *start, const int unit, const int height) {
  (void)height;
  va a;
  FOUR a.q[r] = vdupq_n_s32(start[unit]);
  return a;
}
LAYER va va_zero(void) {
  va a;
  FOUR a.q[r] = vdupq_n_s32(0);
  return a;
}
LAYER va va_dot_unit(va acc, vb codes, int8x16_t x, const int bits, const int step,
                     const int height) {
  (void)bits, (void)step, (void)height;
  FOUR acc.q[r] = vdotq_s32(acc.q[r], vreinterpretq_s8_u8(codes.q[r]), x);
  return acc;
}
LAYER vu va_finish_unit(va acc, const int bits, const int height) {
  (void)bits, (void)height;
  vu v;
  FOUR v.q[r] = vcvtq_f32_s32(acc.q[r]);
  return v;
}

#include "bodies/qk_matmul.inc"

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif
