// The reference of every other level: the same body over arrays of 16 lanes.
#include <math.h>
#include <string.h>

#include "bodies/qk_quantize.h"
#include "qk_matmul.h"

#pragma clang fp contract(off)

#define QK_NAME(stem) qk_##stem##__scalar
#define QK_LEVEL QK_ISA_SCALAR
#define QK_MAX_HEIGHT 4
#define QK_UNROLL

typedef struct { int32_t lane[16]; } va;
typedef struct { float lane[16]; } vf;
typedef struct { uint8_t byte[64]; } vb;
#define LAYER static inline __attribute__((always_inline))
#define LANES for (int l = 0; l < 16; l++)
#define BYTES for (int l = 0; l < 64; l++)

LAYER vb vb_load(const uint8_t *p) {
  vb b;
  memcpy(b.byte, p, 64);
  return b;
}
LAYER void vb_store(uint8_t *p, vb b) { memcpy(p, b.byte, 64); }
LAYER vb vb_low4(vb b) {
  BYTES b.byte[l] &= 15;
  return b;
}
LAYER vb vb_high4(vb b) {
  BYTES b.byte[l] >>= 4;
  return b;
}
LAYER vb vb_merge(vb low, vb plane, int shift, int mask, int up) {
  BYTES low.byte[l] |= (uint8_t)(((plane.byte[l] >> shift) & mask) << up);
  return low;
}
LAYER va va_init(int32_t value) {
  va a;
  LANES a.lane[l] = value;
  return a;
}
LAYER va va_zero(void) { return va_init(0); }
LAYER va va_dot(va acc, vb codes, const int8_t *x, int bits, int step) {
  (void)bits, (void)step;
  LANES for (int k = 0; k < 4; k++) acc.lane[l] += codes.byte[4 * l + k] * x[k];
  return acc;
}
LAYER vf va_finish(va acc, int bits) {
  (void)bits;
  vf v;
  LANES v.lane[l] = (float)acc.lane[l];
  return v;
}
LAYER vf vf_set1(float value) {
  vf v;
  LANES v.lane[l] = value;
  return v;
}
LAYER vf vf_zero(void) { return vf_set1(0); }
LAYER vf vf_load(const float *p) {
  vf v;
  memcpy(v.lane, p, 64);
  return v;
}
static float half_to_float(uint16_t h) {
  const uint32_t sign = (uint32_t)(h & 0x8000) << 16, exponent = (h >> 10) & 31,
                 fraction = h & 1023;
  uint32_t bits;
  if (exponent == 31) {
    bits = sign | 0x7f800000u | fraction << 13;
    if (fraction) bits |= 0x00400000u; // a signalling NaN becomes quiet, as vcvtph2ps makes it
  } else if (exponent) {
    bits = sign | (exponent + 112) << 23 | fraction << 13;
  } else {
    const float tiny = (float)fraction * 0x1p-24f; // subnormal halves are multiples of 2^-24
    memcpy(&bits, &tiny, 4);
    bits |= sign;
  }
  float value;
  memcpy(&value, &bits, 4);
  return value;
}
LAYER vf vf_load_half(const uint8_t *p) {
  vf v;
  LANES v.lane[l] = half_to_float((uint16_t)(p[2 * l] | p[2 * l + 1] << 8));
  return v;
}
LAYER vf vf_load_brain(const uint8_t *p) {
  vf v;
  LANES {
    const uint32_t bits = (uint32_t)p[2 * l] << 16 | (uint32_t)p[2 * l + 1] << 24;
    memcpy(&v.lane[l], &bits, 4);
  }
  return v;
}
LAYER vf vf_load_u8(const uint8_t *p) {
  vf v;
  LANES v.lane[l] = p[l];
  return v;
}
LAYER vf vf_load_s8(const uint8_t *p) {
  vf v;
  LANES v.lane[l] = (int8_t)p[l];
  return v;
}
LAYER vf vf_from_codes(const uint8_t *step, int j) {
  vf v;
  LANES v.lane[l] = step[4 * l + j];
  return v;
}
LAYER void vf_store(float *p, vf v) { memcpy(p, v.lane, 64); }
LAYER void vf_store_first(float *p, vf v, size_t count) { memcpy(p, v.lane, 4 * count); }
LAYER vf vf_mul(vf a, vf b) {
  LANES a.lane[l] *= b.lane[l];
  return a;
}
LAYER vf vf_add(vf a, vf b) {
  LANES a.lane[l] += b.lane[l];
  return a;
}
LAYER vf vf_sub(vf a, vf b) {
  LANES a.lane[l] -= b.lane[l];
  return a;
}
LAYER vf vf_fma(vf a, vf b, vf c) {
  LANES a.lane[l] = fmaf(a.lane[l], b.lane[l], c.lane[l]);
  return a;
}
LAYER vf vf_neg(vf a) {
  LANES a.lane[l] = -a.lane[l];
  return a;
}

// Round to nearest, ties to even, of |value| ≤ 127: adding 1.5 · 2^23 leaves the integer in the low
// bits.
static int32_t round_even(float value) {
  const float shifted = value + 0x1.8p23f;
  int32_t bits;
  memcpy(&bits, &shifted, 4);
  return (int32_t)((uint32_t)bits - 0x4b400000u);
}

static float qk_quantize_group__scalar(const float *x, int8_t *codes, int32_t *totals) {
  uint32_t top = 0;
  for (size_t k = 0; k < QK_GROUP; k++) {
    uint32_t bits;
    memcpy(&bits, &x[k], 4);
    bits &= 0x7fffffffu;
    if (bits > top) top = bits;
  }
  float scale, inverse;
  qk_group_scale(top, &scale, &inverse);
  totals[0] = totals[1] = 0;
  for (size_t k = 0; k < QK_GROUP; k++) {
    const int32_t code = inverse == 0 ? 0 : round_even(x[k] * inverse);
    totals[k / 16] += code;
    codes[k] = (int8_t)code;
  }
  return scale;
}

#include "bodies/qk_matmul.inc"
