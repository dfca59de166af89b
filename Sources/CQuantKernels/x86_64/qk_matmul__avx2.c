#if defined(__x86_64__)
#include <immintrin.h>
#include <string.h>

#include "bodies/qk_quantize.h"
#include "qk_matmul.h"

#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)

#define QK_NAME(stem) qk_##stem##__avx2
#define QK_LEVEL QK_ISA_AVX2
#define QK_MAX_HEIGHT 4 // of float32 products: 4 rows × 2 registers of accumulators, of 16
#define QK_OWN_MATMUL "x86_64/qk_matmul_tile__avx2.inc"
#define QK_NARROW_SUMS
#define QK_PLAIN_HEIGHT 16
#define QK_PLAIN_PANELS 4
#define QK_PLAIN_BYTES (160 << 10)
#define QK_ROW_PREFETCH 1024

typedef struct { __m256i half[2]; } vb;
typedef struct { __m256 half[2]; } vf;
#define LAYER static inline __attribute__((always_inline))
#define HALVES _Pragma("clang loop unroll(full)") for (int h = 0; h < 2; h++)

LAYER vb vb_load(const uint8_t *p) {
  vb b;
  HALVES b.half[h] = _mm256_loadu_si256((const __m256i *)(p + 32 * h));
  return b;
}
LAYER void vb_store(uint8_t *p, vb b) { HALVES _mm256_storeu_si256((__m256i *)(p + 32 * h), b.half[h]); }
LAYER vb vb_low4(vb b) {
  HALVES b.half[h] = _mm256_and_si256(b.half[h], _mm256_set1_epi8(15));
  return b;
}
LAYER vb vb_high4(vb b) {
  HALVES b.half[h] = _mm256_and_si256(_mm256_srli_epi16(b.half[h], 4), _mm256_set1_epi8(15));
  return b;
}
LAYER vb vb_merge(vb low, vb plane, int shift, int mask, int up) {
  // One shift; a byte's field stays in the byte, and what crosses its ends is masked away.
  const int left = up - shift;
  HALVES {
    const __m256i field = left < 0 ? _mm256_srli_epi16(plane.half[h], -left) : _mm256_slli_epi16(plane.half[h], left);
    low.half[h] = _mm256_or_si256(low.half[h], _mm256_and_si256(field, _mm256_set1_epi8((char)(mask << up))));
  }
  return low;
}
// 8-bit codes stand in unpacked panels as signed bytes, see qk_matmul_tile__avx2.inc.
LAYER vb vb_plain(vb b, const int format) {
  if (format == QK_INT8_H || format == QK_UINT8_HM)
    HALVES b.half[h] = _mm256_xor_si256(b.half[h], _mm256_set1_epi8((char)128));
  return b;
}
LAYER vf vf_set1(float value) {
  vf v;
  HALVES v.half[h] = _mm256_set1_ps(value);
  return v;
}
LAYER vf vf_zero(void) { return vf_set1(0); }
LAYER vf vf_load(const float *p) {
  vf v;
  HALVES v.half[h] = _mm256_loadu_ps(p + 8 * h);
  return v;
}
LAYER vf vf_load_half(const uint8_t *p) {
  vf v;
  HALVES v.half[h] = _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(p + 16 * h)));
  return v;
}
LAYER vf vf_load_brain(const uint8_t *p) {
  vf v;
  HALVES {
    const __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(p + 16 * h)));
    v.half[h] = _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
  }
  return v;
}
LAYER vf vf_load_u8(const uint8_t *p) {
  vf v;
  HALVES v.half[h] = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(p + 8 * h))));
  return v;
}
LAYER vf vf_load_s8(const uint8_t *p) {
  vf v;
  HALVES v.half[h] = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(p + 8 * h))));
  return v;
}
LAYER vf vf_from_codes(const uint8_t *step, int j) {
  vf v;
  HALVES {
    const __m256i all = _mm256_loadu_si256((const __m256i *)(step + 32 * h));
    v.half[h] = _mm256_cvtepi32_ps(_mm256_and_si256(_mm256_srli_epi32(all, 8 * j), _mm256_set1_epi32(255)));
  }
  return v;
}
LAYER void vf_store(float *p, vf v) { HALVES _mm256_storeu_ps(p + 8 * h, v.half[h]); }
LAYER void vf_store_first(float *p, vf v, size_t count) {
  float all[16];
  vf_store(all, v);
  memcpy(p, all, 4 * count);
}
LAYER vf vf_mul(vf a, vf b) {
  HALVES a.half[h] = _mm256_mul_ps(a.half[h], b.half[h]);
  return a;
}
LAYER vf vf_add(vf a, vf b) {
  HALVES a.half[h] = _mm256_add_ps(a.half[h], b.half[h]);
  return a;
}
LAYER vf vf_sub(vf a, vf b) {
  HALVES a.half[h] = _mm256_sub_ps(a.half[h], b.half[h]);
  return a;
}
LAYER vf vf_fma(vf a, vf b, vf c) {
  HALVES a.half[h] = _mm256_fmadd_ps(a.half[h], b.half[h], c.half[h]);
  return a;
}
LAYER vf vf_neg(vf a) {
  HALVES a.half[h] = _mm256_xor_ps(a.half[h], _mm256_set1_ps(-0.0f));
  return a;
}

// Sum of eight 32-bit lanes.
LAYER int32_t total8(__m256i v) {
  __m128i s = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
  s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
  return _mm_cvtsi128_si32(_mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1)));
}

LAYER float qk_quantize_group__avx2(const float *x, int8_t *codes, int32_t *totals) {
  __m256 v[4];
  __m256i top = _mm256_setzero_si256();
  for (int i = 0; i < 4; i++) {
    v[i] = _mm256_loadu_ps(x + 8 * i);
    top = _mm256_max_epu32(top, _mm256_and_si256(_mm256_castps_si256(v[i]), _mm256_set1_epi32(0x7fffffff)));
  }
  __m128i m = _mm_max_epu32(_mm256_castsi256_si128(top), _mm256_extracti128_si256(top, 1));
  m = _mm_max_epu32(m, _mm_shuffle_epi32(m, 0x4e));
  m = _mm_max_epu32(m, _mm_shuffle_epi32(m, 0xb1));
  float scale, inverse;
  qk_group_scale((uint32_t)_mm_cvtsi128_si32(m), &scale, &inverse);
  __m256i q[4];
  for (int i = 0; i < 4; i++) q[i] = _mm256_cvtps_epi32(_mm256_mul_ps(v[i], _mm256_set1_ps(inverse)));
  if (inverse == 0)
    for (int i = 0; i < 4; i++) q[i] = _mm256_setzero_si256();
  // Packs interleave 128-bit halves; the permutation puts the words of four codes back in order.
  const __m256i packed =
      _mm256_permutevar8x32_epi32(_mm256_packs_epi16(_mm256_packs_epi32(q[0], q[1]), _mm256_packs_epi32(q[2], q[3])),
                                  _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
  _mm256_storeu_si256((__m256i *)codes, packed);
  totals[0] = total8(_mm256_add_epi32(q[0], q[1]));
  totals[1] = total8(_mm256_add_epi32(q[2], q[3]));
  return scale;
}

#include "bodies/qk_matmul.inc"

#pragma clang attribute pop
#endif
