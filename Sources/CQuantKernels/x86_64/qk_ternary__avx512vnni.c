#if defined(__x86_64__)
#include "qk_ternary.h"

#include "bodies/qk_ternary_quantize.h"

#include <immintrin.h>
#include <string.h>

#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni"))), \
                             apply_to = function)

#define QK_NAME(stem) qk_##stem##__avx512vnni
#define QK_LEVEL QK_ISA_AVX512VNNI
#define QK_STEP_K 4
#define QK_TERNARY_AHEAD 4096 // as in qk_matmul__avx512vnni.c
// vpdpbusd sums in 32 bits: a chunk's largest sum, 60 steps · 4 k · 64·2·128, is under 2^22.
#define QK_FOLD2 15
// 8 rows × 2 panels: 16 chains of sums, where two products a cycle of 5 cycles need 10, and 10 loads for 16 products,
// where 17 loads for 16 of a tile of one panel kept both load ports of a Sapphire Rapids core busy.
#define QK_TILE_PANELS 2
#define QK_HEIGHTS(X) X(8) X(4) X(2) X(1)
#define QK_TERNARY_QUANTIZE qk_ternary_quantize__avx2 // bound by memory, and the same bits
#define LAYER static inline __attribute__((always_inline))

void qk_ternary_quantize__avx2(const qk_ternary_quantize_args *a);

typedef __m512i tw, tx, ta, ti;

LAYER tw tw_load(const uint8_t *p) { return _mm512_loadu_si512(p); }
LAYER void tw_store(uint8_t *p, tw w) { _mm512_storeu_si512(p, w); }
LAYER tw tw_and(tw w, const int mask) { return _mm512_and_si512(w, _mm512_set1_epi8((char)mask)); }
LAYER tw tw_shift(tw w, const int bits) { return _mm512_srli_epi16(w, (unsigned)bits); }
LAYER tx tx_load(const int8_t *x) {
  int32_t four;
  memcpy(&four, x, 4);
  return _mm512_set1_epi32(four);
}
LAYER ta ta_zero(void) { return _mm512_setzero_si512(); }
LAYER ta ta_dot(ta a, tw w, tx x) { return _mm512_dpbusd_epi32(a, w, x); }
#define ti_zero ta_zero
LAYER ti ti_load(const int32_t *p) { return _mm512_loadu_si512(p); }
LAYER void ti_store(int32_t *p, ti s) { _mm512_storeu_si512(p, s); }
LAYER ti ti_fold(ti s, ta a, const int factor) {
  return _mm512_add_epi32(s, factor == 4 ? _mm512_srai_epi32(a, 2) : a); // a multiple of the factor
}
LAYER void ti_output(ti s, int32_t x_sum, const float *w_scale, float x_scale, float *y, size_t count) {
  const __m512 dot = _mm512_cvtepi32_ps(_mm512_sub_epi32(s, _mm512_set1_epi32(x_sum)));
  const __m512 scale = _mm512_div_ps(_mm512_loadu_ps(w_scale), _mm512_set1_ps(x_scale));
  const __mmask16 some = (__mmask16)(count < 16 ? (1u << count) - 1 : 0xffff);
  _mm512_mask_storeu_ps(y, some, _mm512_mul_ps(dot, scale));
}

typedef __m512 tf;
LAYER tf tf_zero(void) { return _mm512_setzero_ps(); }
LAYER tf tf_load(const float *p) { return _mm512_loadu_ps(p); }
LAYER void tf_store(float *p, tf f) { _mm512_storeu_ps(p, f); }
LAYER tf tf_add_block(tf out, ti s, int32_t x_sum, float d, const float *w_scale) {
  const __m512 dot = _mm512_cvtepi32_ps(_mm512_sub_epi32(s, _mm512_set1_epi32(x_sum)));
  const __m512 scale = _mm512_mul_ps(_mm512_set1_ps(d), _mm512_loadu_ps(w_scale));
  return _mm512_add_ps(out, _mm512_mul_ps(dot, scale));
}
LAYER void tf_output(tf f, float *y, size_t count) {
  const __mmask16 some = (__mmask16)(count < 16 ? (1u << count) - 1 : 0xffff);
  _mm512_mask_storeu_ps(y, some, f);
}

// A digit is (3b) >> 8 of the fraction b. Two rounding averages of c = b - 1 (0 for 0), n = (c + (c + 1 >> 1) + 1)
// >> 1, reach 64 when c ≥ 85 and 128 when c ≥ 170, so that the digit is the top two bits of n. It stays 64 times too
// large.
typedef tx t5_x;
LAYER tw t5_load(const uint8_t *p) { return _mm512_xor_si512(tw_load(p), _mm512_set1_epi8(-128)); }
LAYER tw t5_digit(tw u) {
  const __m512i c = _mm512_subs_epu8(u, _mm512_set1_epi8(1));
  return tw_and(_mm512_avg_epu8(c, _mm512_avg_epu8(c, _mm512_setzero_si512())), 0xc0);
}
LAYER tw t5_code(tw u) { return tw_shift(t5_digit(u), 6); }
LAYER tw t5_next(tw u) { return _mm512_add_epi8(_mm512_add_epi8(u, u), u); }
#define t5_x_load tx_load
#define t5_dot ta_dot
LAYER ti t5_fold(ti s, ta a) { return _mm512_add_epi32(s, _mm512_srai_epi32(a, 6)); }
#define t5_codes(sum, head, x_sum) ((void)(head), (sum))

#include "bodies/qk_ternary.inc"

#pragma clang attribute pop
#endif
