#if defined(__x86_64__)
#include "../qk_probe_levels.h"

#include <immintrin.h>

#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)

// Ten sums and their operands fit the sixteen registers; 4-5 cycles of latency at two a cycle.
enum { SUMS = 10 };

static uint64_t peak_int8(uint64_t iterations, float *sink) {
  __m256i sum[SUMS];
  __m256i a = _mm256_set1_epi32((int)(iterations | 0x01020304));
  __m256i b = _mm256_set1_epi32((int)((iterations & 0x3f3f3f3f) | 0x04030201));
  const __m256i ones = _mm256_set1_epi16(1);
  for (int i = 0; i < SUMS; i++) sum[i] = _mm256_set1_epi32(i);
  for (uint64_t n = 0; n < iterations; n++)
#pragma clang loop unroll(full)
    for (int i = 0; i < SUMS; i++) {
      __asm__ volatile("" : "+x"(a)); // a product of its own for every sum
      sum[i] = _mm256_add_epi32(sum[i], _mm256_madd_epi16(_mm256_maddubs_epi16(a, b), ones));
    }
  for (int i = 1; i < SUMS; i++) sum[0] = _mm256_xor_si256(sum[0], sum[i]);
  *sink = (float)_mm256_extract_epi32(sum[0], 0);
  return iterations * SUMS * 32;
}

static uint64_t peak_fp32(uint64_t iterations, float *sink) {
  __m256 sum[SUMS];
  __m256 a = _mm256_set1_ps(0.5f + 0x1p-40f * (float)iterations), b = _mm256_set1_ps(0.25f);
  for (int i = 0; i < SUMS; i++) sum[i] = _mm256_set1_ps((float)i);
  for (uint64_t n = 0; n < iterations; n++)
#pragma clang loop unroll(full)
    for (int i = 0; i < SUMS; i++) sum[i] = _mm256_fmadd_ps(sum[i], a, b);
  for (int i = 1; i < SUMS; i++) sum[0] = _mm256_add_ps(sum[0], sum[i]);
  *sink = _mm256_cvtss_f32(sum[0]);
  return iterations * SUMS * 8;
}

static uint64_t peak_bf16(uint64_t iterations, float *sink) {
  __m256 sum[SUMS];
  __m256i a = _mm256_set1_epi32((int)(0x3f003f00 + (iterations & 7)));
  __m256 b = _mm256_set1_ps(0.25f);
  const __m256i high = _mm256_set1_epi32((int)0xffff0000);
  for (int i = 0; i < SUMS; i++) sum[i] = _mm256_set1_ps((float)i);
  for (uint64_t n = 0; n < iterations; n++)
#pragma clang loop unroll(full)
    for (int i = 0; i < SUMS; i += 2) {
      __asm__ volatile("" : "+x"(a)); // the widening belongs to every step
      __m256 odd = _mm256_castsi256_ps(_mm256_and_si256(a, high));
      __m256 even = _mm256_castsi256_ps(_mm256_slli_epi32(a, 16));
      sum[i] = _mm256_fmadd_ps(even, b, sum[i]);
      sum[i + 1] = _mm256_fmadd_ps(odd, b, sum[i + 1]);
    }
  for (int i = 1; i < SUMS; i++) sum[0] = _mm256_add_ps(sum[0], sum[i]);
  *sink = _mm256_cvtss_f32(sum[0]);
  return iterations * SUMS * 8;
}

static inline __attribute__((always_inline)) uint64_t read_body(const uint8_t *data, size_t bytes,
                                                                const int streams,
                                                                const int prefetch) {
  size_t run = bytes / (size_t)streams;
  __m256i sum[4] = {_mm256_setzero_si256(), _mm256_setzero_si256(), _mm256_setzero_si256(),
                    _mm256_setzero_si256()};
  for (size_t i = 0; i < run; i += 128)
#pragma clang loop unroll(full)
    for (int s = 0; s < streams; s++) {
      const uint8_t *p = data + (size_t)s * run + i;
#pragma clang loop unroll(full)
      for (int j = 0; j < 4; j++) {
        if (prefetch && j % 2 == 0) __builtin_prefetch(p + 32 * j + QK_PROBE_PREFETCH_DISTANCE);
        sum[j] = _mm256_xor_si256(sum[j], _mm256_loadu_si256((const __m256i *)(p + 32 * j)));
      }
    }
  sum[0] = _mm256_xor_si256(_mm256_xor_si256(sum[0], sum[1]), _mm256_xor_si256(sum[2], sum[3]));
  uint64_t words[4];
  _mm256_storeu_si256((__m256i *)words, sum[0]);
  return words[0] ^ words[1] ^ words[2] ^ words[3];
}
QK_PROBE_READ_LOOPS

#pragma clang attribute pop

static const char *bf16_name(void) { return "widened to float32"; }

const qk_probe_table qk_probe__avx2 = {
    .int8 = peak_int8,
    .bf16 = peak_bf16,
    .fp32 = peak_fp32,
    .int8_name = "vpmaddubsw + vpmaddwd + vpaddd ymm",
    .bf16_name = bf16_name,
    .fp32_name = "vfmadd ymm",
    .read = QK_PROBE_READ_TABLE,
};
#endif
