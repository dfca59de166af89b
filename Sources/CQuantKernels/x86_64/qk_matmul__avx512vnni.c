#if defined(__x86_64__)
#include <immintrin.h>

#include "bodies/qk_quantize.h"
#include "qk_matmul.h"

// clang-format off
#pragma clang attribute push( \
    __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c"))), \
    apply_to = function)
// clang-format on

#define QK_NAME(stem) qk_##stem##__avx512vnni
#define QK_LEVEL QK_ISA_AVX512VNNI
#define QK_MAX_HEIGHT 16 // of float32 products: 16 accumulators and 16 other registers
// Two streams, each fetched 4 KB ahead: memory that takes 180 ns at 45 GB/s has 8 KB under way. On Zen 5 one cold row of
// int4, Q8_0 and K-quants then reads 37-46 of 45 GB/s, where four streams 2 KB ahead read 36-44 and one 8 KB ahead 38-45; on
// a Sapphire Rapids core one stream fetched by the processor alone read 9.4 GB/s, and four, 1 KB ahead, 13.0 of 14.1.
//
// Of four rows and more, passes of 4 by 3 panels: a core that starts two dot products a cycle, each of which takes four,
// needs eight sums or more; twelve leave registers for as many float sums; and a step of 12 dot products loads 4
// activations and 3 vectors of weights, where 8 by 1 would load 8 and 1 for 8, more than two loads a cycle (Zen 5, in the
// first-level cache, of 547 GMAC/s: 4 x 3 435, 6 x 2 436, 8 x 2 414, 8 x 1 391).
#define QK_WIDE(tile) ((tile) <= 2 ? 2 : 3)
#define QK_WIDE_HEIGHT 4
#define QK_TALLEST 8
#define QK_PLAIN_HEIGHT 16
#define QK_PLAIN_PANELS 3
#define QK_PLAIN_BYTES (768 << 10) // such processors have 1 MB and more
#define QK_ROW_PREFETCH 4096

typedef __m512i vi, vb, va;
typedef __m512 vf;
#define LAYER static inline __attribute__((always_inline))

LAYER vb vb_load(const uint8_t *p) { return _mm512_loadu_si512(p); }
LAYER void vb_store(uint8_t *p, vb b) { _mm512_storeu_si512(p, b); }
LAYER vb vb_low4(vb b) { return _mm512_and_si512(b, _mm512_set1_epi8(15)); }
LAYER vb vb_high4(vb b) { return _mm512_and_si512(_mm512_srli_epi16(b, 4), _mm512_set1_epi8(15)); }
LAYER vb vb_merge(vb low, vb plane, int shift, int mask, int up) {
  // One shift; a byte's field stays in the byte, and what crosses its ends is masked away.
  const int left = up - shift;
  const vb field = left < 0 ? _mm512_srli_epi16(plane, (unsigned)-left) : _mm512_slli_epi16(plane, (unsigned)left);
  return _mm512_or_si512(low, _mm512_and_si512(field, _mm512_set1_epi8((char)(mask << up))));
}
LAYER va va_zero(void) { return _mm512_setzero_si512(); }
LAYER va va_init(int32_t value) { return _mm512_set1_epi32(value); }
// Unsigned codes by signed activations: u8 × s8 sums of four cannot saturate a 32-bit lane (Intel
// SDM, VPDPBUSD).
LAYER va va_dot(va acc, vb codes, const int8_t *x, int bits, int step) {
  (void)bits, (void)step;
  int32_t four;
  __builtin_memcpy(&four, x, 4);
  return _mm512_dpbusd_epi32(acc, codes, _mm512_set1_epi32(four));
}
LAYER vf va_finish(va acc, int bits) {
  (void)bits;
  return _mm512_cvtepi32_ps(acc);
}
LAYER vf vf_zero(void) { return _mm512_setzero_ps(); }
LAYER vf vf_set1(float v) { return _mm512_set1_ps(v); }
LAYER vf vf_load(const float *p) { return _mm512_loadu_ps(p); }
LAYER vf vf_load_half(const uint8_t *p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}
LAYER vf vf_load_brain(const uint8_t *p) {
  const __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p));
  return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}
LAYER vf vf_load_u8(const uint8_t *p) {
  return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)p)));
}
LAYER vf vf_load_s8(const uint8_t *p) {
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p)));
}
// Code j of each output's four.
LAYER vf vf_from_codes(const uint8_t *step, int j) {
  const __m512i all = _mm512_loadu_si512(step);
  return _mm512_cvtepi32_ps(
      _mm512_and_si512(_mm512_srli_epi32(all, (unsigned)(8 * j)), _mm512_set1_epi32(255)));
}
LAYER void vf_store(float *p, vf v) { _mm512_storeu_ps(p, v); }
LAYER void vf_store_first(float *p, vf v, size_t count) {
  _mm512_mask_storeu_ps(p, (__mmask16)((1u << count) - 1), v);
}
LAYER vf vf_mul(vf a, vf b) { return _mm512_mul_ps(a, b); }
LAYER vf vf_add(vf a, vf b) { return _mm512_add_ps(a, b); }
LAYER vf vf_sub(vf a, vf b) { return _mm512_sub_ps(a, b); }
LAYER vf vf_fma(vf a, vf b, vf c) { return _mm512_fmadd_ps(a, b, c); }
LAYER vf vf_neg(vf a) { return _mm512_xor_ps(a, _mm512_set1_ps(-0.0f)); }

LAYER float qk_quantize_group__avx512vnni(const float *x, int8_t *codes, int32_t *totals) {
  const __m512 low = _mm512_loadu_ps(x), high = _mm512_loadu_ps(x + 16);
  const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
  const __m512i bits = _mm512_max_epu32(_mm512_and_si512(_mm512_castps_si512(low), magnitude),
                                        _mm512_and_si512(_mm512_castps_si512(high), magnitude));
  float scale, inverse;
  qk_group_scale(_mm512_reduce_max_epu32(bits), &scale, &inverse);
  // All lanes off when there is nothing to scale: NaN · 0 would be NaN.
  const __mmask16 on = inverse == 0 ? 0 : 0xffff;
  const __m512 factor = _mm512_set1_ps(inverse);
  const __m512i a0 = _mm512_maskz_cvtps_epi32(on, _mm512_mul_ps(low, factor));
  const __m512i a1 = _mm512_maskz_cvtps_epi32(on, _mm512_mul_ps(high, factor));
  _mm256_storeu_si256((__m256i *)codes,
                      _mm256_set_m128i(_mm512_cvtsepi32_epi8(a1), _mm512_cvtsepi32_epi8(a0)));
  totals[0] = _mm512_reduce_add_epi32(a0);
  totals[1] = _mm512_reduce_add_epi32(a1);
  return scale;
}

#define QK_QUANTIZE_EIGHT "x86_64/qk_quantize_rows__avx512vnni.inc"
#include "bodies/qk_matmul.inc"

#pragma clang attribute pop
#endif
