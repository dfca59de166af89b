#ifndef QK_QUANTIZE_H
#define QK_QUANTIZE_H
#include <stdint.h>

// The scale of a group of activations and its inverse, from the largest magnitude's bits
// (magnitudes as integers order like the floats, with NaN above infinity). NaN and infinity make
// the scale NaN, so that they show in the product; a magnitude whose inverse could overflow counts
// as zero.
static inline void qk_group_scale(uint32_t magnitude, float *scale, float *inverse) {
  float largest;
  __builtin_memcpy(&largest, &magnitude, 4);
  if (magnitude >= 0x7f800000u) {
    *scale = __builtin_nanf("");
    *inverse = 0;
  } else if (largest < 0x1p-100f) {
    *scale = *inverse = 0;
  } else {
    *scale = largest / 127;
    *inverse = 127 / largest;
  }
}
#endif
