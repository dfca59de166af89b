#include "qk_vector_math__scalar.h"

#include "bodies/qk_vector_constants.h"

#include <math.h>
#include <string.h>

#pragma STDC FP_CONTRACT OFF

static float from_bits(uint32_t bits) {
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

static uint32_t to_bits(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}

// 2^n for integral n in -126...127
static float power_of_two(float n) { return from_bits((uint32_t)((int32_t)n + 127) << 23); }

float qk_exp2_nonpositive__scalar(float x) {
  if (x != x) return x;
  if (x < -125.0f) return 0.0f;
  float n = rintf(x);
  float f = x - n;
  float p = QK_EXP2_C6;
  p = fmaf(p, f, QK_EXP2_C5);
  p = fmaf(p, f, QK_EXP2_C4);
  p = fmaf(p, f, QK_EXP2_C3);
  p = fmaf(p, f, QK_EXP2_C2);
  p = fmaf(p, f, QK_EXP2_C1);
  p = fmaf(p, f, 1.0f);
  return p * power_of_two(n);
}

float qk_exp__scalar(float x) {
  if (x != x) return x;
  if (x > 89.0f) x = 89.0f;
  if (x < -104.0f) x = -104.0f;
  float n = rintf(x * QK_LOG2_E);
  float r = fmaf(-n, QK_LN2_HIGH, x);
  r = fmaf(-n, QK_LN2_LOW, r);
  float p = QK_EXP_C6;
  p = fmaf(p, r, QK_EXP_C5);
  p = fmaf(p, r, QK_EXP_C4);
  p = fmaf(p, r, QK_EXP_C3);
  p = fmaf(p, r, QK_EXP_C2);
  p = fmaf(p, r, 1.0f);
  p = fmaf(p, r, 1.0f);
  float half = rintf(n * 0.5f);
  return p * power_of_two(half) * power_of_two(n - half);
}

float qk_tanh__scalar(float x) {
  float a = fabsf(x);
  float y;
  if (a < 0.625f) {
    float u = a * a;
    float p = QK_TANH_C9;
    p = fmaf(p, u, QK_TANH_C7);
    p = fmaf(p, u, QK_TANH_C5);
    p = fmaf(p, u, QK_TANH_C3);
    p = fmaf(p, u, QK_TANH_C1);
    y = fmaf(p * u, a, a);
  } else {
    y = 1.0f - 2.0f / (qk_exp__scalar(a + a) + 1.0f);
  }
  return copysignf(y, x);
}

float qk_sum16__scalar(float *lanes) {
  for (int w = 8; w > 0; w /= 2)
    for (int i = 0; i < w; i++) lanes[i] += lanes[i + w];
  return lanes[0];
}

float qk_half_to_float__scalar(uint16_t half) {
  uint32_t sign = (uint32_t)(half & 0x8000u) << 16;
  uint32_t magnitude = half & 0x7FFFu;
  if (magnitude >= 0x7C00u)  // infinite, or NaN, which becomes quiet
    return from_bits(sign | 0x7F800000u | ((magnitude & 0x3FFu) << 13) |
                     (magnitude > 0x7C00u ? 0x400000u : 0));
  if (magnitude >= 0x400u) return from_bits(sign | ((magnitude << 13) + (112u << 23)));
  float value = (float)magnitude * 0x1p-24f;
  return from_bits(sign | to_bits(value));
}

uint16_t qk_float_to_half__scalar(float x) {
  uint32_t bits = to_bits(x);
  uint16_t sign = (uint16_t)((bits >> 16) & 0x8000u);
  uint32_t magnitude = bits & 0x7FFFFFFFu;
  if (magnitude > 0x7F800000u)
    return (uint16_t)(sign | 0x7E00u | ((magnitude >> 13) & 0x1FFu));
  // From 65520 on, the value nearest is past the largest finite one.
  if (magnitude >= 0x477FF000u) return (uint16_t)(sign | 0x7C00u);
  if (magnitude < 0x38800000u) {
    // Subnormal or zero: adding 1/2 leaves multiples of 2^-24, rounded to nearest even, in the low
    // bits.
    return (uint16_t)(sign | (to_bits(fabsf(x) + 0.5f) - 0x3F000000u));
  }
  uint32_t odd = (magnitude >> 13) & 1u;
  return (uint16_t)(sign | ((magnitude - (112u << 23) + 0xFFFu + odd) >> 13));
}
