#if defined(__x86_64__)
#include "qk_latent.h"

#include "bodies/qk_latent_common.h"
#include "bodies/qk_vector_constants.h"

#include <immintrin.h>
#include <math.h>
#include <string.h>

#pragma STDC FP_CONTRACT OFF
// clang-format off
#pragma clang attribute push( \
    __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c"))), \
    apply_to = function)
// clang-format on

#include "bodies/qk_vector_lanes__avx512vnni.inc"
#include "bodies/qk_vector_math.inc"

QK_ALWAYS vf vf_from_ints(const int32_t *p) {
  return _mm512_cvtepi32_ps(_mm512_loadu_si512(p));
}

// 16 numbers in double: every step is exact or correctly rounded.
QK_ALWAYS void qk_put_codes(const float *x, double low, double inverse, uint8_t *codes) {
  const __m512d m = _mm512_set1_pd(low), f = _mm512_set1_pd(inverse);
  const __m256i a = _mm512_cvtpd_epi32(
      _mm512_mul_pd(_mm512_sub_pd(_mm512_cvtps_pd(_mm256_loadu_ps(x)), m), f));
  const __m256i b = _mm512_cvtpd_epi32(
      _mm512_mul_pd(_mm512_sub_pd(_mm512_cvtps_pd(_mm256_loadu_ps(x + 8)), m), f));
  const __m512i words = _mm512_inserti64x4(_mm512_castsi256_si512(a), b, 1);
  _mm_storeu_si128((__m128i *)codes, _mm512_cvtepi32_epi8(words));
}

QK_ALWAYS void qk_put_digits(const vf *q, int8_t *digits) {
  // In each lane of 128 bits four numbers of either vector.
  const __m512i number = _mm512_packs_epi32(_mm512_cvtps_epi32(q[0]), _mm512_cvtps_epi32(q[1]));
  const __m512i high = _mm512_srai_epi16(_mm512_add_epi16(number, _mm512_set1_epi16(64)), 7);
  const __m512i low = _mm512_sub_epi16(number, _mm512_slli_epi16(high, 7));
  // Words of a lane: the high digits of both fours, then the low ones.
  const __m512i order = _mm512_set_epi32(15, 13, 11, 9, 7, 5, 3, 1, 14, 12, 10, 8, 6, 4, 2, 0);
  _mm512_storeu_si512(digits, _mm512_permutexvar_epi32(order, _mm512_packs_epi16(high, low)));
}

// 6 rows x 2 digits x 2 vectors: 24 sums of 32 registers; a step loads 2 vectors and broadcasts 12
// times for 24 dots, of which two start a cycle, as do two loads. Half as many of one vector.
#define QK_DOT_ROWS 6
#define QK_DOT_TILE_OWN
QK_ALWAYS void qk_dot_tile(const int R, const int V, const int8_t *digits,
                           ptrdiff_t digit_stride, ptrdiff_t quads, const uint8_t *codes, ptrdiff_t code_stride,
                           ptrdiff_t second, int32_t *out) {
  __m512i sums[QK_DOT_ROWS][2][2];
#pragma GCC unroll 8
  for (int r = 0; r < R; r++)
#pragma GCC unroll 2
    for (int v = 0; v < 2; v++) sums[r][v][0] = sums[r][v][1] = _mm512_setzero_si512();
  for (ptrdiff_t i = 0; i < quads; i++, codes += code_stride) {
    const __m512i a[2] = {_mm512_loadu_si512(codes), _mm512_loadu_si512(codes + (V > 1 ? second : 0))};
#pragma GCC unroll 8
    for (int r = 0; r < R; r++) {
#pragma GCC unroll 2
      for (int d = 0; d < 2; d++) {
        // A load each: both from one register would take the dots' ports.
        int32_t four;
        memcpy(&four, digits + r * digit_stride + i * 8 + 4 * d, 4);
        const __m512i word = _mm512_set1_epi32(four);
        sums[r][0][d] = _mm512_dpbusd_epi32(sums[r][0][d], a[0], word);
        if (V > 1) sums[r][1][d] = _mm512_dpbusd_epi32(sums[r][1][d], a[1], word);
      }
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; r++)
#pragma GCC unroll 2
    for (int v = 0; v < 2; v++)
      _mm512_storeu_si512(out + r * QK_LATENT_CHUNK + 16 * v,
                          _mm512_add_epi32(_mm512_slli_epi32(sums[r][v][0], 7), sums[r][v][1]));
}

#define QK_NAME(op) qk_latent_##op##__avx512vnni
#define QK_TABLE qk_latent__avx512vnni
// 6 x 4 sums, 4 loads, 1 broadcast of 32 registers.
#define QK_PRODUCT_ROWS 6
#define QK_PRODUCT_COLUMNS 64
#include "bodies/qk_latent_body.inc"

#pragma clang attribute pop
#endif
