#if defined(__aarch64__)
#include "qk_latent.h"

#include "bodies/qk_latent_common.h"
#include "bodies/qk_vector_constants.h"

#include <arm_neon.h>
#include <math.h>
#include <string.h>

#pragma STDC FP_CONTRACT OFF
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("dotprod"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("arch=armv8.2-a+dotprod")
#endif

#include "bodies/qk_vector_lanes__neon.inc"
#include "bodies/qk_vector_math.inc"

QK_ALWAYS vf vf_from_ints(const int32_t *p) { return vcvtq_f32_s32(vld1q_s32(p)); }

// 4 numbers in double: every step is exact or correctly rounded.
QK_ALWAYS void qk_put_codes(const float *x, double low, double inverse, uint8_t *codes) {
  const float64x2_t m = vdupq_n_f64(low);
  const float32x4_t four = vld1q_f32(x);
  const int64x2_t a = vcvtnq_s64_f64(
      vmulq_n_f64(vsubq_f64(vcvt_f64_f32(vget_low_f32(four)), m), inverse));
  const int64x2_t b =
      vcvtnq_s64_f64(vmulq_n_f64(vsubq_f64(vcvt_high_f64_f32(four), m), inverse));
  const int16x4_t words = vmovn_s32(vcombine_s32(vmovn_s64(a), vmovn_s64(b)));
  const uint32_t bytes =
      vget_lane_u32(vreinterpret_u32_s8(vmovn_s16(vcombine_s16(words, words))), 0);
  memcpy(codes, &bytes, 4);
}

QK_ALWAYS void qk_put_digits(const vf *q, int8_t *digits) {
#pragma GCC unroll 8
  for (int v = 0; v < 8; v++) {
    const int32x4_t number = vcvtnq_s32_f32(q[v]);
    const int32x4_t high = vshrq_n_s32(vaddq_s32(number, vdupq_n_s32(64)), 7);
    const int32x4_t low = vsubq_s32(number, vshlq_n_s32(high, 7));
    vst1_s8(digits + 8 * v, vmovn_s16(vcombine_s16(vmovn_s32(high), vmovn_s32(low))));
  }
}

// 2 rows x 4 vectors x 2 digits of sums, 4 codes, 4 digits: 24 of 32 registers. Codes below 128 are
// the same signed.
#define QK_DOT_ROWS 2
QK_ALWAYS void qk_dot_half(const int R, const int8_t *digits, ptrdiff_t digit_stride,
                           ptrdiff_t quads, const uint8_t *codes, ptrdiff_t code_stride,
                           int32_t *out) {
  int32x4_t high[QK_DOT_ROWS][4], low[QK_DOT_ROWS][4];
#pragma GCC unroll 4
  for (int r = 0; r < R; r++)
#pragma GCC unroll 4
    for (int v = 0; v < 4; v++) high[r][v] = low[r][v] = vdupq_n_s32(0);
  for (ptrdiff_t i = 0; i < quads; i++, codes += code_stride) {
    int8x16_t a[4];
#pragma GCC unroll 4
    for (int v = 0; v < 4; v++) a[v] = vreinterpretq_s8_u8(vld1q_u8(codes + 16 * v));
#pragma GCC unroll 4
    for (int r = 0; r < R; r++) {
      int32_t words[2];
      memcpy(words, digits + r * digit_stride + i * 8, 8);
      const int8x16_t h = vreinterpretq_s8_s32(vdupq_n_s32(words[0]));
      const int8x16_t l = vreinterpretq_s8_s32(vdupq_n_s32(words[1]));
#pragma GCC unroll 4
      for (int v = 0; v < 4; v++) {
        high[r][v] = vdotq_s32(high[r][v], a[v], h);
        low[r][v] = vdotq_s32(low[r][v], a[v], l);
      }
    }
  }
#pragma GCC unroll 4
  for (int r = 0; r < R; r++)
#pragma GCC unroll 4
    for (int v = 0; v < 4; v++)
      vst1q_s32(out + r * QK_LATENT_CHUNK + 4 * v, vaddq_s32(vshlq_n_s32(high[r][v], 7), low[r][v]));
}

#define QK_NAME(op) qk_latent_##op##__neon
#define QK_TABLE qk_latent__neon
// 6 x 4 sums, 4 loads, 1 broadcast of 32 registers.
#define QK_PRODUCT_ROWS 6
#define QK_PRODUCT_COLUMNS 16
#include "bodies/qk_latent_body.inc"

#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif
