#if defined(__x86_64__)
#include "qk_latent.h"

#include "bodies/qk_latent_common.h"
#include "bodies/qk_vector_constants.h"

#include <immintrin.h>
#include <math.h>
#include <string.h>

#pragma STDC FP_CONTRACT OFF
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)

#include "bodies/qk_vector_lanes__avx2.inc"
#include "bodies/qk_vector_math.inc"

QK_ALWAYS vf vf_from_ints(const int32_t *p) {
  return _mm256_cvtepi32_ps(_mm256_loadu_si256((const __m256i *)p));
}

// 8 numbers in double: every step is exact or correctly rounded.
QK_ALWAYS void qk_put_codes(const float *x, double low, double inverse, uint8_t *codes) {
  const __m256d m = _mm256_set1_pd(low), f = _mm256_set1_pd(inverse);
  const __m128i a = _mm256_cvtpd_epi32(
      _mm256_mul_pd(_mm256_sub_pd(_mm256_cvtps_pd(_mm_loadu_ps(x)), m), f));
  const __m128i b = _mm256_cvtpd_epi32(
      _mm256_mul_pd(_mm256_sub_pd(_mm256_cvtps_pd(_mm_loadu_ps(x + 4)), m), f));
  const __m128i words = _mm_packs_epi32(a, b);
  _mm_storel_epi64((__m128i *)codes, _mm_packus_epi16(words, words));
}

QK_ALWAYS void qk_put_digits(const vf *q, int8_t *digits) {
#pragma GCC unroll 2
  for (int half = 0; half < 2; half++) {
    // In each lane of 128 bits four numbers of either vector.
    const __m256i number =
        _mm256_packs_epi32(_mm256_cvtps_epi32(q[2 * half]), _mm256_cvtps_epi32(q[2 * half + 1]));
    const __m256i high = _mm256_srai_epi16(_mm256_add_epi16(number, _mm256_set1_epi16(64)), 7);
    const __m256i low = _mm256_sub_epi16(number, _mm256_slli_epi16(high, 7));
    // Words of a lane: the high digits of both fours, then the low ones.
    const __m256i order = _mm256_set_epi32(7, 5, 3, 1, 6, 4, 2, 0);
    _mm256_storeu_si256((__m256i *)(digits + 32 * half),
                        _mm256_permutevar8x32_epi32(_mm256_packs_epi16(high, low), order));
  }
}

// Pairs of products of 4-bit codes with digits are at most 2 * 15 * 127, so that eight of them fit
// 16 bits; then both digits are widened into one sum, 128 high + low.
#define QK_DOT_STEPS 8
// 2 rows x 2 vectors x 2 digits in 16 bits, as many sums in 32, 2 codes, 1 broadcast: 15 of 16
// registers.
#define QK_DOT_ROWS 2
QK_ALWAYS void qk_dot_half(const int R, const int8_t *digits, ptrdiff_t digit_stride,
                           ptrdiff_t quads, const uint8_t *codes, ptrdiff_t code_stride,
                           int32_t *out) {
  const __m256i ones = _mm256_set1_epi16(1), base = _mm256_set1_epi16(128);
  __m256i sums[QK_DOT_ROWS][2];
#pragma GCC unroll 4
  for (int r = 0; r < R; r++) sums[r][0] = sums[r][1] = _mm256_setzero_si256();
  for (ptrdiff_t first = 0; first < quads; first += QK_DOT_STEPS) {
    __m256i high[QK_DOT_ROWS][2], low[QK_DOT_ROWS][2];
#pragma GCC unroll 4
    for (int r = 0; r < R; r++)
      high[r][0] = high[r][1] = low[r][0] = low[r][1] = _mm256_setzero_si256();
#pragma GCC unroll 2
    for (int i = 0; i < QK_DOT_STEPS; i++, codes += code_stride) {
      const __m256i a = _mm256_loadu_si256((const __m256i *)codes);
      const __m256i b = _mm256_loadu_si256((const __m256i *)(codes + 32));
#pragma GCC unroll 4
      for (int r = 0; r < R; r++) {
        // A load each: both from one register would go by way of another.
        int32_t four[2];
        memcpy(&four[0], digits + r * digit_stride + (first + i) * 8, 4);
        memcpy(&four[1], digits + r * digit_stride + (first + i) * 8 + 4, 4);
        const __m256i h = _mm256_set1_epi32(four[0]), l = _mm256_set1_epi32(four[1]);
        high[r][0] = _mm256_add_epi16(high[r][0], _mm256_maddubs_epi16(a, h));
        high[r][1] = _mm256_add_epi16(high[r][1], _mm256_maddubs_epi16(b, h));
        low[r][0] = _mm256_add_epi16(low[r][0], _mm256_maddubs_epi16(a, l));
        low[r][1] = _mm256_add_epi16(low[r][1], _mm256_maddubs_epi16(b, l));
      }
    }
#pragma GCC unroll 4
    for (int r = 0; r < R; r++)
#pragma GCC unroll 2
      for (int v = 0; v < 2; v++)
        sums[r][v] = _mm256_add_epi32(
            sums[r][v], _mm256_add_epi32(_mm256_madd_epi16(high[r][v], base),
                                         _mm256_madd_epi16(low[r][v], ones)));
  }
#pragma GCC unroll 4
  for (int r = 0; r < R; r++) {
    _mm256_storeu_si256((__m256i *)(out + r * QK_LATENT_CHUNK), sums[r][0]);
    _mm256_storeu_si256((__m256i *)(out + r * QK_LATENT_CHUNK + 8), sums[r][1]);
  }
}

#define QK_NAME(op) qk_latent_##op##__avx2
#define QK_TABLE qk_latent__avx2
// 6 x 2 sums, 2 loads, 1 broadcast of 16 registers.
#define QK_PRODUCT_ROWS 6
#define QK_PRODUCT_COLUMNS 16
#include "bodies/qk_latent_body.inc"

#pragma clang attribute pop
#endif
