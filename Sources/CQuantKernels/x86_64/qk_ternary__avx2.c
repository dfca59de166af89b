#if defined(__x86_64__)
#include "qk_ternary.h"

#include "bodies/qk_ternary_quantize.h"

#include <immintrin.h>
#include <string.h>

#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)

#define QK_NAME(stem) qk_##stem##__avx2
#define QK_LEVEL QK_ISA_AVX2
#define QK_STEP_K 4
// vpmaddubsw adds pairs of products in 16 bits, and vpaddw the pairs of successive steps: two instructions for 32
// products where widening each (vpmaddwd, vpaddd) takes three, of which two share the two multiply ports.
// Bounds, with codes up to 2 and activations from -128 to 127, for the sums of n steps of
//   plain codes:      pairs in 2·2·[-128, 127]:    n ≤ 64 -> [-32768, 32512]; a chunk has 60, a block of Q8_K 64
//   codes times four: pairs in 2·8·[-128, 127]:    n ≤ 16 -> [-32768, 32512]; two in each of 8 vectors
//   unsigned activations x + 128 ≤ 255 times w in -1, 0, 1: pairs in [-510, 510]: n ≤ 64 -> 32640; a chunk has 60
#define QK_FOLD2 8
_Static_assert(2 * 2 * 128 * QK_TERNARY_STEPS <= 32768 && 2 * 2 * 128 * QK_Q8K_COLUMNS / QK_STEP_K <= 32768 &&
                   2 * 2 * (4 * 2 * 128) * QK_FOLD2 <= 32768 && 2 * 255 * QK_TERNARY_STEPS <= 32767,
               "a 16-bit lane of products may overflow");
#define QK_HEIGHTS(X) X(6) X(5) X(4) X(3) X(2) X(1) // 6 rows × 2 registers of sums, 2 of codes, of 16
#define QK_TERNARY_QUANTIZE qk_ternary_quantize__avx2
// 16 registers hold the 8 vectors of sums of two panels or of two rows only if activations are loaded where they are
// used.
#define QK_RELOAD __asm__ volatile("" ::: "memory")
#define LAYER static inline __attribute__((always_inline))
#define HALVES _Pragma("clang loop unroll(full)") for (int h = 0; h < 2; h++)

typedef struct { __m256i half[2]; } tw, ta, ti;
typedef __m256i tx;

LAYER tw tw_load(const uint8_t *p) {
  tw w;
  HALVES w.half[h] = _mm256_loadu_si256((const __m256i *)(p + 32 * h));
  return w;
}
LAYER void tw_store(uint8_t *p, tw w) { HALVES _mm256_storeu_si256((__m256i *)(p + 32 * h), w.half[h]); }
LAYER tw tw_and(tw w, const int mask) {
  HALVES w.half[h] = _mm256_and_si256(w.half[h], _mm256_set1_epi8((char)mask));
  return w;
}
LAYER tw tw_shift(tw w, const int bits) {
  HALVES w.half[h] = _mm256_srli_epi16(w.half[h], bits);
  return w;
}
LAYER tx tx_load(const int8_t *x) {
  int32_t four;
  memcpy(&four, x, 4);
  return _mm256_set1_epi32(four);
}
LAYER ta ta_zero(void) {
  ta a;
  HALVES a.half[h] = _mm256_setzero_si256();
  return a;
}
LAYER ta ta_dot(ta a, tw w, tx x) {
  HALVES a.half[h] = _mm256_add_epi16(a.half[h], _mm256_maddubs_epi16(w.half[h], x));
  return a;
}
#define ti_zero ta_zero
LAYER ti ti_load(const int32_t *p) {
  ti s;
  HALVES s.half[h] = _mm256_loadu_si256((const __m256i *)(p + 8 * h));
  return s;
}
LAYER void ti_store(int32_t *p, ti s) { HALVES _mm256_storeu_si256((__m256i *)(p + 8 * h), s.half[h]); }
LAYER ti ti_fold(ti s, ta a, const int factor) {
  HALVES {
    __m256i sums = _mm256_madd_epi16(a.half[h], _mm256_set1_epi16(1));
    if (factor == 4) sums = _mm256_srai_epi32(sums, 2); // a multiple of 4
    s.half[h] = _mm256_add_epi32(s.half[h], sums);
  }
  return s;
}
LAYER void ti_output(ti s, int32_t x_sum, const float *w_scale, float x_scale, float *y, size_t count) {
  float all[16];
  float *to = count < 16 ? all : y;
  HALVES {
    const __m256 dot = _mm256_cvtepi32_ps(_mm256_sub_epi32(s.half[h], _mm256_set1_epi32(x_sum)));
    const __m256 scale = _mm256_div_ps(_mm256_loadu_ps(w_scale + 8 * h), _mm256_set1_ps(x_scale));
    _mm256_storeu_ps(to + 8 * h, _mm256_mul_ps(dot, scale));
  }
  if (count < 16) memcpy(y, all, 4 * count);
}

typedef struct { __m256 half[2]; } tf;
LAYER tf tf_zero(void) { return (tf){{_mm256_setzero_ps(), _mm256_setzero_ps()}}; }
LAYER tf tf_load(const float *p) { return (tf){{_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}}; }
LAYER void tf_store(float *p, tf f) { HALVES _mm256_storeu_ps(p + 8 * h, f.half[h]); }
LAYER tf tf_add_block(tf out, ti s, int32_t x_sum, float d, const float *w_scale) {
  HALVES {
    const __m256 dot = _mm256_cvtepi32_ps(_mm256_sub_epi32(s.half[h], _mm256_set1_epi32(x_sum)));
    const __m256 scale = _mm256_mul_ps(_mm256_set1_ps(d), _mm256_loadu_ps(w_scale + 8 * h));
    out.half[h] = _mm256_add_ps(out.half[h], _mm256_mul_ps(dot, scale));
  }
  return out;
}
LAYER void tf_output(tf f, float *y, size_t count) {
  float all[16];
  tf_store(count < 16 ? all : y, f);
  if (count < 16) memcpy(y, all, 4 * count);
}

// A digit is 0, 1 or 2 as the fraction b is below 86, below 171 or above; b - 128 against -42 and 43, signed. The two
// comparisons give 0 or -1, and their difference is the weight itself.
typedef __m256i t5_x;
#define t5_load tw_load
LAYER tw t5_digit(tw u) {
  HALVES {
    const __m256i at_most_1 = _mm256_cmpgt_epi8(_mm256_set1_epi8(43), u.half[h]);
    const __m256i at_least_1 = _mm256_cmpgt_epi8(u.half[h], _mm256_set1_epi8(-43));
    u.half[h] = _mm256_sub_epi8(at_most_1, at_least_1);
  }
  return u;
}
LAYER tw t5_code(tw u) {
  u = t5_digit(u);
  HALVES u.half[h] = _mm256_add_epi8(u.half[h], _mm256_set1_epi8(1));
  return u;
}
LAYER tw t5_next(tw u) {
  HALVES u.half[h] = _mm256_add_epi8(_mm256_add_epi8(u.half[h], u.half[h]), u.half[h]);
  return u;
}
// vpmaddubsw wants one operand unsigned: the activation plus 128, as the weight is signed.
LAYER t5_x t5_x_load(const int8_t *x) { return _mm256_xor_si256(tx_load(x), _mm256_set1_epi8(-128)); }
LAYER ta t5_dot(ta a, tw w, t5_x x) {
  HALVES a.half[h] = _mm256_add_epi16(a.half[h], _mm256_maddubs_epi16(x, w.half[h]));
  return a;
}
#define t5_fold(sum, a) ti_fold(sum, a, 1)
// Σ (x + 128)·w - 128·Σ w + Σ x = Σ x·(w + 1)
LAYER ti t5_codes(ti s, const uint8_t *head, int32_t x_sum) {
  HALVES {
    const __m256i w = _mm256_loadu_si256((const __m256i *)(head + 32 * h));
    s.half[h] = _mm256_add_epi32(_mm256_sub_epi32(s.half[h], _mm256_slli_epi32(w, 7)), _mm256_set1_epi32(x_sum));
  }
  return s;
}

// Not static: the AVX-512 level takes it too.
void qk_ternary_quantize__avx2(const qk_ternary_quantize_args *a);
void qk_ternary_quantize__avx2(const qk_ternary_quantize_args *a) {
  const __m256i magnitude = _mm256_set1_epi32(0x7fffffff);
  __m256i tops[4];
  for (int i = 0; i < 4; i++) tops[i] = _mm256_setzero_si256();
  size_t k = 0;
  for (; k + 32 <= a->columns; k += 32)
    for (int i = 0; i < 4; i++)
      tops[i] = _mm256_max_epu32(
          tops[i], _mm256_and_si256(_mm256_loadu_si256((const __m256i *)(a->x + k + 8 * i)), magnitude));
  const __m256i both = _mm256_max_epu32(_mm256_max_epu32(tops[0], tops[1]), _mm256_max_epu32(tops[2], tops[3]));
  uint32_t lanes[8], top = 0;
  _mm256_storeu_si256((__m256i *)lanes, both);
  for (int i = 0; i < 8; i++) top = lanes[i] > top ? lanes[i] : top;
  for (; k < a->columns; k++) {
    uint32_t bits;
    memcpy(&bits, &a->x[k], 4);
    bits &= 0x7fffffffu;
    top = bits > top ? bits : top;
  }
  const float scale = qk_ternary_scale(top);
  *a->scale = scale;
  const size_t chunk = QK_TERNARY_STEPS * QK_STEP_K;
  const size_t columns = top < 0x7f800000u ? a->columns : 0;
  const __m256 factor = _mm256_set1_ps(scale);
  __m256i sums = _mm256_setzero_si256();
  int32_t rest = 0;
  for (size_t c = 0; c < a->chunks; c++) {
    int8_t *out = a->codes + c * a->chunk_stride;
    const float *x = a->x + c * chunk;
    const size_t count = columns <= c * chunk ? 0 : columns - c * chunk < chunk ? columns - c * chunk : chunk;
    size_t j = 0;
    for (; j + 16 <= count; j += 16) {
      const __m256i low = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + j), factor));
      const __m256i high = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(x + j + 8), factor));
      sums = _mm256_add_epi32(sums, _mm256_add_epi32(low, high));
      const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(low, high), 0xd8);
      _mm_storeu_si128((__m128i *)(out + j),
                       _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1)));
    }
    for (; j < count; j++) {
      const int32_t code = qk_ternary_round(x[j] * scale);
      out[j] = (int8_t)code;
      rest += code;
    }
    memset(out + j, 0, chunk - j);
  }
  int32_t parts[8];
  _mm256_storeu_si256((__m256i *)parts, sums);
  for (int i = 0; i < 8; i++) rest += parts[i];
  *a->sum = rest;
}

#include "bodies/qk_ternary.inc"

#pragma clang attribute pop
#endif
