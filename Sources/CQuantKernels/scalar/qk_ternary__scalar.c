// The reference of every other level: the same body over arrays.
#include "qk_ternary.h"

#include "bodies/qk_ternary_quantize.h"

#include <string.h>

#pragma clang fp contract(off)

#define QK_NAME(stem) qk_##stem##__scalar
#define QK_LEVEL QK_ISA_SCALAR
#define QK_STEP_K 4
#define QK_FOLD2 15
#define QK_HEIGHTS(X) X(4) X(2) X(1)
#define QK_UNROLL
#define QK_TERNARY_QUANTIZE quantize
#define LAYER static inline __attribute__((always_inline))

typedef struct { uint8_t byte[64]; } tw;
typedef struct { int32_t lane[16]; } ta, ti;
typedef const int8_t *tx;

LAYER tw tw_load(const uint8_t *p) {
  tw w;
  memcpy(w.byte, p, 64);
  return w;
}
LAYER void tw_store(uint8_t *p, tw w) { memcpy(p, w.byte, 64); }
LAYER tw tw_and(tw w, int mask) {
  for (int j = 0; j < 64; j++) w.byte[j] &= (uint8_t)mask;
  return w;
}
LAYER tw tw_shift(tw w, int bits) {
  for (int j = 0; j < 64; j++) w.byte[j] >>= bits;
  return w;
}
LAYER tx tx_load(const int8_t *x) { return x; }
LAYER ta ta_zero(void) { return (ta){{0}}; }
LAYER ta ta_dot(ta a, tw w, tx x) {
  for (int l = 0; l < 16; l++)
    for (int k = 0; k < 4; k++) a.lane[l] += w.byte[4 * l + k] * x[k];
  return a;
}
LAYER ti ti_zero(void) { return (ti){{0}}; }
LAYER ti ti_load(const int32_t *p) {
  ti s;
  memcpy(s.lane, p, 64);
  return s;
}
LAYER void ti_store(int32_t *p, ti s) { memcpy(p, s.lane, 64); }
LAYER ti ti_fold(ti s, ta a, int factor) {
  for (int l = 0; l < 16; l++) s.lane[l] += a.lane[l] / factor;
  return s;
}
LAYER void ti_output(ti s, int32_t x_sum, const float *w_scale, float x_scale, float *y, size_t count) {
  for (size_t l = 0; l < (count < 16 ? count : 16); l++) y[l] = (float)(s.lane[l] - x_sum) * (w_scale[l] / x_scale);
}

typedef struct { float lane[16]; } tf;
LAYER tf tf_zero(void) { return (tf){{0}}; }
LAYER tf tf_load(const float *p) {
  tf f;
  memcpy(f.lane, p, 64);
  return f;
}
LAYER void tf_store(float *p, tf f) { memcpy(p, f.lane, 64); }
LAYER tf tf_add_block(tf out, ti s, int32_t x_sum, float d, const float *w_scale) {
  for (int l = 0; l < 16; l++) {
    const float scale = d * w_scale[l];
    const float part = (float)(s.lane[l] - x_sum) * scale;
    out.lane[l] = out.lane[l] + part;
  }
  return out;
}
LAYER void tf_output(tf f, float *y, size_t count) { memcpy(y, f.lane, 4 * (count < 16 ? count : 16)); }

typedef tx t5_x;
LAYER tw t5_load(const uint8_t *p) {
  tw w = tw_load(p);
  for (int j = 0; j < 64; j++) w.byte[j] ^= 128;
  return w;
}
LAYER tw t5_digit(tw u) {
  for (int j = 0; j < 64; j++) u.byte[j] = (uint8_t)(3 * u.byte[j] >> 8);
  return u;
}
LAYER tw t5_next(tw u) {
  for (int j = 0; j < 64; j++) u.byte[j] = (uint8_t)(3 * u.byte[j]);
  return u;
}
#define t5_code t5_digit
#define t5_x_load tx_load
#define t5_dot ta_dot
#define t5_fold(sum, a) ti_fold(sum, a, 1)
LAYER ti t5_codes(ti s, const uint8_t *head, int32_t x_sum) {
  (void)head, (void)x_sum;
  return s;
}

static void quantize(const qk_ternary_quantize_args *a) {
  const size_t chunk = QK_TERNARY_STEPS * QK_STEP_K;
  uint32_t top = 0;
  for (size_t k = 0; k < a->columns; k++) {
    uint32_t bits;
    memcpy(&bits, &a->x[k], 4);
    bits &= 0x7fffffffu;
    if (bits > top) top = bits;
  }
  const float scale = qk_ternary_scale(top);
  const int finite = top < 0x7f800000u;
  int32_t sum = 0;
  for (size_t k = 0; k < a->chunks * chunk; k++) {
    int32_t code = 0;
    if (finite && k < a->columns) {
      code = qk_ternary_round(a->x[k] * scale);
      code = code < -128 ? -128 : code > 127 ? 127 : code;
    }
    a->codes[k / chunk * a->chunk_stride + k % chunk] = (int8_t)code;
    sum += code;
  }
  *a->sum = sum;
  *a->scale = scale;
}

#include "bodies/qk_ternary.inc"
