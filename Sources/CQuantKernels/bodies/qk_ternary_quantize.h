#ifndef QK_TERNARY_QUANTIZE_H
#define QK_TERNARY_QUANTIZE_H
#include <stdint.h>

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
#endif
