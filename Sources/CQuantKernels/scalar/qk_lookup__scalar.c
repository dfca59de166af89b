// The reference of every other level: the same body over arrays.
#include "qk_lookup.h"

#include <string.h>

#pragma clang fp contract(off)

#define QK_NAME(stem) qk_lookup_##stem##__scalar
#define QK_LEVEL QK_ISA_SCALAR
#define QK_UNROLL
#define LAYER static inline __attribute__((always_inline))

typedef struct { uint8_t byte[32]; } lb;
typedef struct { int16_t lane[2][16]; } la;
typedef struct { uint8_t byte[16]; } ls;

LAYER lb lb_load(const uint8_t *p) {
  lb b;
  memcpy(b.byte, p, 32);
  return b;
}
LAYER lb lb_low(lb b) {
  for (int j = 0; j < 32; j++) b.byte[j] &= 15;
  return b;
}
LAYER lb lb_high(lb b) {
  for (int j = 0; j < 32; j++) b.byte[j] >>= 4;
  return b;
}
LAYER lb lb_lookup(lb table, lb index) {
  for (int j = 0; j < 32; j++) index.byte[j] = table.byte[j / 16 * 16 + (index.byte[j] & 15)];
  return index;
}
LAYER la la_zero(void) { return (la){{{0}}}; }
LAYER la la_add(la a, lb low, lb high) {
  for (int j = 0; j < 32; j++)
    a.lane[j / 16][j % 16] = (int16_t)(a.lane[j / 16][j % 16] + (int16_t)(low.byte[j] | high.byte[j] << 8));
  return a;
}
LAYER la la_add_signed(la a, lb low, lb high, ls signs) {
  for (int j = 0; j < 32; j++) {
    const int16_t value = (int16_t)(low.byte[j] | high.byte[j] << 8);
    const int negative = signs.byte[j % 16] >> (7 - j / 16) & 1;
    a.lane[j / 16][j % 16] = (int16_t)(a.lane[j / 16][j % 16] + (negative ? -value : value));
  }
  return a;
}
LAYER la la_add_fast(la a, lb one, lb two) {
  for (int j = 0; j < 32; j++)
    a.lane[j / 16][j % 16] = (int16_t)(a.lane[j / 16][j % 16] + (int8_t)one.byte[j] + (int8_t)two.byte[j]);
  return a;
}
LAYER void la_fold(int32_t *sums, la a) {
  for (int o = 0; o < 16; o++) sums[o] += a.lane[0][o] + a.lane[1][o];
}
LAYER ls ls_load(const uint8_t *p) {
  ls s;
  memcpy(s.byte, p, 16);
  return s;
}
LAYER ls ls_next(ls s) {
  for (int o = 0; o < 16; o++) s.byte[o] = (uint8_t)(s.byte[o] << 2);
  return s;
}
LAYER void lo_output(const int32_t *sums, const float *w_scale, float scale, float *y, size_t count) {
  for (size_t o = 0; o < (count < 16 ? count : 16); o++) y[o] = (float)sums[o] * (w_scale[o] / scale);
}

#include "bodies/qk_lookup.inc"
