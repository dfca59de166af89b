#if defined(__aarch64__)
#include <arm_neon.h>

#include "bodies/qk_quantize.h"
#include "qk_matmul.h"

#pragma STDC FP_CONTRACT OFF
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("dotprod,i8mm"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("arch=armv8.2-a+dotprod+i8mm")
#endif

#define QK_NAME(stem) qk_##stem##__neonI8mm
#define QK_LEVEL QK_ISA_NEON_I8MM
#define QK_MAX_HEIGHT 4 // 2 pairs of rows × 8 registers of accumulators, of 32
#define QK_FLOAT_HEIGHT 4
#define QK_STEP_K 8
#define QK_UNITS(height) (((height) + 1) / 2)

#include "bodies/qk_matmul_lanes__neon.inc"

#define EIGHT _Pragma("clang loop unroll(full)") for (int r = 0; r < 8; r++)

// A step: register r holds outputs 2r and 2r + 1, 8 k each.
typedef struct { uint8x16_t q[8]; } vb;

// A unit is two rows: smmla leaves in register r row 0 and row 1 of outputs 2r and 2r + 1, and
// floats stay in that order until they are stored. A tile of one row takes sdot, which leaves two
// sums for each of the outputs 2r and 2r + 1; its floats are the four registers of 16 outputs in
// order, and the other four are never made.
typedef struct { int32x4_t q[8]; } va;
typedef struct { float32x4_t q[8]; } vu;

LAYER vb vb_load(const uint8_t *p) {
  vb b;
  EIGHT b.q[r] = vld1q_u8(p + 16 * r);
  return b;
}
LAYER void vb_store(uint8_t *p, vb b) { EIGHT vst1q_u8(p + 16 * r, b.q[r]); }
LAYER vb vb_low4(vb b) {
  EIGHT b.q[r] = vandq_u8(b.q[r], vdupq_n_u8(15));
  return b;
}
LAYER vb vb_high4(vb b) {
  EIGHT b.q[r] = vshrq_n_u8(b.q[r], 4);
  return b;
}
// Planes count 64 bytes of codes as a step: the second four registers find theirs in the same 64
// bytes, one field up.
typedef struct { uint8x16_t q[4]; } vb_plane;
LAYER vb_plane vb_load_plane(const uint8_t *p) {
  vb_plane b;
  FOUR b.q[r] = vld1q_u8(p + 16 * r);
  return b;
}
LAYER vb vb_merge(vb low, vb_plane plane, int shift, int mask, int up) {
  const int width = mask == 1 ? 1 : 2;
  EIGHT {
    const int8x16_t by = vdupq_n_s8((int8_t)(up - shift - r / 4 * width)); // negative to the right
    low.q[r] = vbslq_u8(vdupq_n_u8((uint8_t)(mask << up)), vshlq_u8(plane.q[r % 4], by), low.q[r]);
  }
  return low;
}
// smmla takes signed codes: 4- to 6-bit ones are, 8-bit ones lose 128.
LAYER vb vb_operand(vb b, const int format) {
  if (format == QK_INT8_H || format == QK_UINT8_HM) { EIGHT b.q[r] = flip_sign(b.q[r]); }
  return b;
}
LAYER vb vb_plain(vb b, const int format) {
  EIGHT b.q[r] = plain_codes(b.q[r], format);
  return b;
}

// A step's activations: [2 rows][8 k] for each unit, or the one row's twice.
typedef struct { int8x16_t unit[2]; } vx;
LAYER vx vx_load(const int8_t *x, const int height) {
  vx v;
  if (height == 1) {
    int64_t eight;
    __builtin_memcpy(&eight, x, 8);
    v.unit[0] = v.unit[1] = vreinterpretq_s8_s64(vdupq_n_s64(eight));
  } else {
    v.unit[0] = vld1q_s8(x);
    v.unit[1] = height == 4 ? vld1q_s8(x + 16) : v.unit[0];
  }
  return v;
}
LAYER int8x16_t vx_unit(vx x, const int unit) { return x.unit[unit]; }

LAYER va va_zero(void) {
  va a;
  EIGHT a.q[r] = vdupq_n_s32(0);
  return a;
}
LAYER va va_start(const int32_t *start, const int unit, const int height) {
  int32x4_t first;
  if (height == 1) {
    first = vzip1q_s32(vdupq_n_s32(start[0]), vdupq_n_s32(0)); // one of the two sums
  } else {
    first = vcombine_s32(vdup_n_s32(start[2 * unit]), vdup_n_s32(start[2 * unit + 1]));
  }
  va a;
  EIGHT a.q[r] = first;
  return a;
}
LAYER va va_dot_unit(va acc, vb codes, int8x16_t x, const int bits, const int step,
                     const int height) {
  (void)bits, (void)step;
  EIGHT {
    const int8x16_t w = vreinterpretq_s8_u8(codes.q[r]);
    acc.q[r] = height == 1 ? vdotq_s32(acc.q[r], w, x) : vmmlaq_s32(acc.q[r], x, w);
  }
  return acc;
}
LAYER vu va_finish_unit(va acc, const int bits, const int height) {
  (void)bits;
  vu v;
  if (height == 1) {
    FOUR {
      v.q[r] = vcvtq_f32_s32(vpaddq_s32(acc.q[2 * r], acc.q[2 * r + 1]));
      v.q[4 + r] = vdupq_n_f32(0);
    }
  } else {
    EIGHT v.q[r] = vcvtq_f32_s32(acc.q[r]);
  }
  return v;
}

LAYER vu vu_zero(void) {
  vu v;
  EIGHT v.q[r] = vdupq_n_f32(0);
  return v;
}
LAYER vu vu_mul(vu a, vu b) {
  EIGHT a.q[r] = vmulq_f32(a.q[r], b.q[r]);
  return a;
}
LAYER vu vu_fma(vu a, vu b, vu c) {
  EIGHT c.q[r] = vfmaq_f32(c.q[r], a.q[r], b.q[r]);
  return c;
}
// Rows 2·unit and 2·unit + 1, twice each; the one row in all lanes.
LAYER vu vu_rows(vr values, const int unit) {
  const float32x4_t pair = unit == 0 ? vzip1q_f32(values, values) : vzip2q_f32(values, values);
  vu v;
  EIGHT v.q[r] = pair;
  return v;
}
LAYER float32x4_t join_low(float32x4_t a, float32x4_t b) {
  return vreinterpretq_f32_f64(vzip1q_f64(vreinterpretq_f64_f32(a), vreinterpretq_f64_f32(b)));
}
LAYER float32x4_t join_high(float32x4_t a, float32x4_t b) {
  return vreinterpretq_f32_f64(vzip2q_f64(vreinterpretq_f64_f32(a), vreinterpretq_f64_f32(b)));
}
LAYER vu vu_weights(vf weights, const int height) {
  vu v;
  FOUR {
    v.q[height == 1 ? r : 2 * r] =
        height == 1 ? weights.q[r] : join_low(weights.q[r], weights.q[r]);
    v.q[height == 1 ? 4 + r : 2 * r + 1] = join_high(weights.q[r], weights.q[r]);
  }
  return v;
}
LAYER vf vu_row(vu y, const int row, const int height) {
  vf v;
  FOUR {
    if (height == 1)
      v.q[r] = y.q[r];
    else
      v.q[r] =
          row == 0 ? join_low(y.q[2 * r], y.q[2 * r + 1]) : join_high(y.q[2 * r], y.q[2 * r + 1]);
  }
  return v;
}
LAYER void vu_store(float *out, size_t stride, const int unit, vu y, const int height) {
  float *first = out + 2 * (size_t)unit * stride;
  vf_store(first, vu_row(y, 0, height));
  if (height > 1) vf_store(first + stride, vu_row(y, 1, height));
}
LAYER void vu_store_first(float *out, size_t stride, const int unit, vu y, size_t count,
                          const int height) {
  float *first = out + 2 * (size_t)unit * stride;
  vf_store_first(first, vu_row(y, 0, height), count);
  if (height > 1) vf_store_first(first + stride, vu_row(y, 1, height), count);
}

#include "bodies/qk_matmul.inc"

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif
