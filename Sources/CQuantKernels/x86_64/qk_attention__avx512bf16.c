#if defined(__x86_64__)
#include "qk_attention.h"

#include "bodies/qk_vector_constants.h"

#include <immintrin.h>
#include <math.h>
#include <string.h>

#pragma STDC FP_CONTRACT OFF
// clang-format off
#pragma clang attribute push( \
    __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512bf16,avx2,fma,f16c"))), \
    apply_to = function)
// clang-format on

#include "bodies/qk_vector_lanes__avx512vnni.inc"
#include "bodies/qk_vector_math.inc"

#define QK_NAME(op) qk_attention_##op##__avx512bf16
#define QK_REGISTERS 32
#define QK_FLOAT_STREAMS 1
#define QK_FETCH_LOCALITY 3
// As with float32: 6 x 4 sums, 4 loads, 1 broadcast.
#define QK_VECTORS(R) ((R) > 1 ? 4 : 8)
#include "bodies/qk_attention_rows.inc"

// The largest bfloat16: what is nearer to infinity would become it, and 0 * inf is not 0.
QK_ALWAYS vf qk_finite(vf x) {
  const vf most = vf_set1(0x1.FEp127f);
  return vf_max(vf_min(x, most), _mm512_sub_ps(vf_set1(0.0f), most));
}

// Of 32 numbers one of the first half in every lane and, above it, one of the second.
QK_ALWAYS __m512i qk_alternate(__m512i halves) {
  const __m512i order = _mm512_set_epi16(
      31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22, 6, 21, 5, 20, 4, 19,
      3, 18, 2, 17, 1, 16, 0);
  return _mm512_permutexvar_epi16(order, halves);
}
QK_ALWAYS __m512i qk_pair(vf even, vf odd) {
  return qk_alternate((__m512i)_mm512_cvtne2ps_pbh(odd, even));
}
// 16 floats or halves, and as many `apart` numbers on.
QK_ALWAYS __m512i qk_pair_float(const float *p, ptrdiff_t apart) {
  return qk_pair(qk_finite(vf_load(p)), qk_finite(vf_load(p + apart)));
}
QK_ALWAYS __m512i qk_pair_half(const uint16_t *p, ptrdiff_t apart) {
  return qk_pair(vf_load_half(p), vf_load_half(p + apart));
}
// Subnormals stay here: the products flush them.
QK_ALWAYS __m512i qk_pair_brain(const uint16_t *p, ptrdiff_t apart) {
  const __m256i even = _mm256_loadu_si256((const __m256i *)p);
  const __m256i odd = _mm256_loadu_si256((const __m256i *)(p + apart));
  return qk_alternate(_mm512_inserti64x4(_mm512_castsi256_si512(even), odd, 1));
}

static void QK_NAME(prepare)(const float *source, ptrdiff_t source_stride, float factor,
                             ptrdiff_t positions, ptrdiff_t rows_per_position, ptrdiff_t key_width,
                             ptrdiff_t value_stride, float *queries, float *states) {
  const ptrdiff_t words = qk_query_stride(QK_KV_PAIRS, key_width);
  for (ptrdiff_t t = 0; t < positions; t++, source += source_stride)
    for (ptrdiff_t r = 0; r < rows_per_position; r++, queries += words)
      for (ptrdiff_t i = 0; i < key_width; i += QK_LANES) {
        const ptrdiff_t left = key_width - i;
        const float *from = source + r * key_width + i;
        const vf x = left < QK_LANES ? vf_load_part(from, left) : vf_load(from);
        const __m256i rounded = (__m256i)_mm512_cvtneps_pbh(vf_mul(x, vf_set1(factor)));
        const ptrdiff_t n = left < QK_LANES ? (left + 1) / 2 : QK_LANES / 2;
        _mm256_mask_storeu_epi32(queries + i / 2, (__mmask8)qk_first(n), rounded);
      }
  qk_empty_states(states, positions * rows_per_position, value_stride);
}

// The even element of a last pair without another, and zero.
#define QK_PAIR(type, of_type)                                                                   \
  static void QK_NAME(of_type)(const void *key_block, const void *value_block,                   \
                               ptrdiff_t key_width, ptrdiff_t value_stride, void *keys,          \
                               void *values) {                                                   \
    const type *key = (const type *)key_block, *value = (const type *)value_block;               \
    float *pairs = (float *)keys;                                                                \
    ptrdiff_t i = 0;                                                                             \
    for (; i + 1 < key_width; i += 2, pairs += 16)                                               \
      _mm512_storeu_si512(pairs, qk_##of_type(key + i * 16, 16));                                \
    if (i < key_width) {                                                                         \
      const __m512i evens = qk_##of_type(key + i * 16, 0);                                       \
      _mm512_storeu_si512(pairs, _mm512_and_si512(evens, _mm512_set1_epi32(0xFFFF)));            \
    }                                                                                            \
    pairs = (float *)values;                                                                     \
    for (ptrdiff_t j = 0; j < QK_ATTENTION_BLOCK; j += 2, value += 2 * value_stride)             \
      for (ptrdiff_t e = 0; e < value_stride; e += 16, pairs += 16)                              \
        _mm512_storeu_si512(pairs, qk_##of_type(value + e, value_stride));                       \
  }
QK_PAIR(float, pair_float)
QK_PAIR(uint16_t, pair_half)
QK_PAIR(uint16_t, pair_brain)

// Probabilities of whole blocks, in place: a row's pairs of positions from its start on.
QK_ALWAYS void qk_take_weights(const int R, float *p, ptrdiff_t from, ptrdiff_t to) {
  qk_clear_edges(R, p, from, to);
  for (int r = 0; r < R; r++, p += QK_ATTENTION_PARTITION)
    for (ptrdiff_t j = from / 16 * 16; j < to; j += 16)
      _mm256_storeu_si256((__m256i *)(p + j / 2), (__m256i)_mm512_cvtneps_pbh(vf_load(p + j)));
}

#define QK_KV QK_KV_PAIRS
#define QK_KEY(block, i, at) vf_load((const float *)(block) + (i) * 16 + (at))
#define QK_VALUE(block, stride, p, e) vf_load((const float *)(block) + (p) * (stride) + (e))
#define QK_ELEMENT_BYTES 64
#define QK_STEP 2
#define QK_SUM(a, b, c) _mm512_dpbf16_ps(c, (__m512bh)(a), (__m512bh)(b))
#define QK_TAKE_WEIGHTS(R, p, from, to) qk_take_weights(R, p, from, to)
#include "bodies/qk_attention_float.inc"

const qk_attention_pairs qk_attention__avx512bf16 = {
    .prepare = QK_NAME(prepare),
    .partition = QK_NAME(partition_QK_KV_PAIRS),
    .pair = {QK_NAME(pair_float), QK_NAME(pair_half), QK_NAME(pair_brain)},
};

#pragma clang attribute pop
#endif
