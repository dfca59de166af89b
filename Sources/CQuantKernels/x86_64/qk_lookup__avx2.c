#if defined(__x86_64__)
#include "qk_lookup.h"

#include <immintrin.h>
#include <string.h>

#pragma clang attribute push(__attribute__((target("avx2"))), apply_to = function)
#pragma clang fp contract(off)

#define QK_NAME(stem) qk_lookup_##stem##__avx2
#define QK_LEVEL QK_ISA_AVX2
#define LAYER static inline __attribute__((always_inline))

typedef __m256i lb;
// Outputs 0-7 of both groups, and outputs 8-15: what unpacking bytes leaves.
typedef struct { __m256i low, high; } la, ls;

LAYER lb lb_load(const uint8_t *p) { return _mm256_loadu_si256((const __m256i *)p); }
LAYER lb lb_low(lb b) { return _mm256_and_si256(b, _mm256_set1_epi8(15)); }
LAYER lb lb_high(lb b) { return _mm256_and_si256(_mm256_srli_epi16(b, 4), _mm256_set1_epi8(15)); }
LAYER lb lb_lookup(lb table, lb index) { return _mm256_shuffle_epi8(table, index); }
LAYER la la_zero(void) { return (la){_mm256_setzero_si256(), _mm256_setzero_si256()}; }
LAYER la la_add(la a, lb low, lb high) {
  a.low = _mm256_add_epi16(a.low, _mm256_unpacklo_epi8(low, high));
  a.high = _mm256_add_epi16(a.high, _mm256_unpackhi_epi8(low, high));
  return a;
}
// Words (signs << 8) | 1, doubled until the sign in question is the word's own: never 0, so that vpsignw negates or
// keeps. The second group's begin doubled once.
LAYER ls ls_load(const uint8_t *p) {
  const __m256i bytes = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)p));
  const __m256i one = _mm256_set1_epi8(1);
  const __m256i second = _mm256_setr_epi32(0, 0, 0, 0, -1, -1, -1, -1);
  ls s = {_mm256_unpacklo_epi8(one, bytes), _mm256_unpackhi_epi8(one, bytes)};
  s.low = _mm256_add_epi16(s.low, _mm256_and_si256(s.low, second));
  s.high = _mm256_add_epi16(s.high, _mm256_and_si256(s.high, second));
  return s;
}
LAYER ls ls_next(ls s) { return (ls){_mm256_slli_epi16(s.low, 2), _mm256_slli_epi16(s.high, 2)}; }
LAYER la la_add_signed(la a, lb low, lb high, ls signs) {
  a.low = _mm256_add_epi16(a.low, _mm256_sign_epi16(_mm256_unpacklo_epi8(low, high), signs.low));
  a.high = _mm256_add_epi16(a.high, _mm256_sign_epi16(_mm256_unpackhi_epi8(low, high), signs.high));
  return a;
}
LAYER la la_add_fast(la a, lb one, lb two) {
  const __m256i ones = _mm256_set1_epi8(1);
  a.low = _mm256_add_epi16(a.low, _mm256_maddubs_epi16(ones, _mm256_unpacklo_epi8(one, two)));
  a.high = _mm256_add_epi16(a.high, _mm256_maddubs_epi16(ones, _mm256_unpackhi_epi8(one, two)));
  return a;
}
LAYER __m256i la_both(__m256i words) {
  return _mm256_add_epi32(_mm256_cvtepi16_epi32(_mm256_castsi256_si128(words)),
                          _mm256_cvtepi16_epi32(_mm256_extracti128_si256(words, 1)));
}
LAYER void la_fold(int32_t *sums, la a) {
  __m256i *to = (__m256i *)sums;
  _mm256_storeu_si256(to, _mm256_add_epi32(_mm256_loadu_si256(to), la_both(a.low)));
  _mm256_storeu_si256(to + 1, _mm256_add_epi32(_mm256_loadu_si256(to + 1), la_both(a.high)));
}
LAYER void lo_output(const int32_t *sums, const float *w_scale, float scale, float *y, size_t count) {
  float all[16];
  float *to = count < 16 ? all : y;
  for (int h = 0; h < 2; h++) {
    const __m256 dot = _mm256_cvtepi32_ps(_mm256_loadu_si256((const __m256i *)(sums + 8 * h)));
    const __m256 factor = _mm256_div_ps(_mm256_loadu_ps(w_scale + 8 * h), _mm256_set1_ps(scale));
    _mm256_storeu_ps(to + 8 * h, _mm256_mul_ps(dot, factor));
  }
  if (count < 16) memcpy(y, all, 4 * count);
}

#include "bodies/qk_lookup.inc"

#pragma clang attribute pop
#endif
