#ifndef QK_TERNARY_QUANTIZE_H
#define QK_TERNARY_QUANTIZE_H
#include "qk_ternary.h"

#include <stdint.h>
#include <string.h>

// The scale of a row from the bits of its largest magnitude (as integers they order like the floats, NaN above
// infinity): NaN for NaN and infinity.
static inline float qk_ternary_scale(uint32_t magnitude) {
  float largest;
  __builtin_memcpy(&largest, &magnitude, 4);
  if (magnitude >= 0x7f800000u) return __builtin_nanf("");
  return 127.0f / (largest > 1e-5f ? largest : 1e-5f);
}

// Round to nearest, ties to even, of |value| ≤ 2^21: adding 1.5 · 2^23 leaves the integer in the low bits.
static inline int32_t qk_ternary_round(float value) {
  const float shifted = value + 0x1.8p23f;
  int32_t bits;
  __builtin_memcpy(&bits, &shifted, 4);
  return (int32_t)((uint32_t)bits - 0x4b400000u);
}

// A row as Q8_K; see qk_ternary.h. Loops without branches, which the compiler makes vectors of for the level that
// includes them.
static inline __attribute__((always_inline)) void qk_q8k_quantize(const qk_q8k_quantize_args *a) {
  for (size_t from = 0, block = 0; from < a->columns; from += QK_Q8K_COLUMNS, block++) {
    const float *x = a->x + from;
    const size_t count = a->columns - from < QK_Q8K_COLUMNS ? a->columns - from : QK_Q8K_COLUMNS;
    int8_t *codes = a->codes + block * a->block_stride;
    uint32_t top = 0;
    for (size_t k = 0; k < count; k++) {
      uint32_t bits;
      memcpy(&bits, &x[k], 4);
      bits &= 0x7fffffffu;
      top = bits > top ? bits : top;
    }
    memset(codes, 0, QK_Q8K_COLUMNS);
    int32_t sum = 0;
    float scale = 0;
    if (top >= 0x7f800000u) {
      scale = __builtin_nanf("");
    } else if (top > 0) {
      float largest = 0;
      for (size_t k = 0; k < count; k++) { // the first of that magnitude
        uint32_t bits;
        memcpy(&bits, &x[k], 4);
        if ((bits & 0x7fffffffu) == top) {
          largest = x[k];
          break;
        }
      }
      const float inverse = -127.0f / largest;
      if (inverse >= -0x1.fffffep127f && inverse <= 0x1.fffffep127f) {
        scale = 1.0f / inverse;
        for (size_t k = 0; k < count; k++) {
          const int32_t code = qk_ternary_round(inverse * x[k]);
          const int32_t kept = code > 127 ? 127 : code;
          codes[k] = (int8_t)kept;
          sum += kept;
        }
      }
    }
    a->sums[block * a->group_stride] = sum;
    a->scales[block * a->group_stride] = scale;
  }
}
#endif
