#if defined(__x86_64__)
#include "../qk_probe_levels.h"

#include <immintrin.h>

#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma")))
#define TARGET_BF16 __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")))

// Twelve sums: 4-6 cycles of latency at up to two instructions a cycle.
enum { SUMS = 12 };

TARGET static uint64_t peak_int8(uint64_t iterations, float *sink) {
  __m512i sum[SUMS];
  __m512i a = _mm512_set1_epi32((int)(iterations | 0x01020304));
  __m512i b = _mm512_set1_epi32((int)(iterations | 0x04030201));
  for (int i = 0; i < SUMS; i++) sum[i] = _mm512_set1_epi32(i);
  for (uint64_t n = 0; n < iterations; n++)
#pragma clang loop unroll(full)
    for (int i = 0; i < SUMS; i++) sum[i] = _mm512_dpbusd_epi32(sum[i], a, b);
  for (int i = 1; i < SUMS; i++) sum[0] = _mm512_xor_si512(sum[0], sum[i]);
  *sink = (float)_mm512_reduce_add_epi32(sum[0]);
  return iterations * SUMS * 64;
}

TARGET static uint64_t peak_fp32(uint64_t iterations, float *sink) {
  __m512 sum[SUMS];
  // The sums settle at b / (1 - a): no subnormals, no overflow.
  __m512 a = _mm512_set1_ps(0.5f + 0x1p-40f * (float)iterations), b = _mm512_set1_ps(0.25f);
  for (int i = 0; i < SUMS; i++) sum[i] = _mm512_set1_ps((float)i);
  for (uint64_t n = 0; n < iterations; n++)
#pragma clang loop unroll(full)
    for (int i = 0; i < SUMS; i++) sum[i] = _mm512_fmadd_ps(sum[i], a, b);
  for (int i = 1; i < SUMS; i++) sum[0] = _mm512_add_ps(sum[0], sum[i]);
  *sink = _mm512_reduce_add_ps(sum[0]);
  return iterations * SUMS * 16;
}

TARGET_BF16 static uint64_t peak_bf16_native(uint64_t iterations, float *sink) {
  __m512 sum[SUMS];
  __m512bh a = (__m512bh)_mm512_set1_epi16((short)(0x3f00 + (iterations & 7)));
  __m512bh b = (__m512bh)_mm512_set1_epi16(0x3e80);
  for (int i = 0; i < SUMS; i++) sum[i] = _mm512_set1_ps((float)i);
  for (uint64_t n = 0; n < iterations; n++)
#pragma clang loop unroll(full)
    for (int i = 0; i < SUMS; i++) sum[i] = _mm512_dpbf16_ps(sum[i], a, b);
  for (int i = 1; i < SUMS; i++) sum[0] = _mm512_add_ps(sum[0], sum[i]);
  *sink = _mm512_reduce_add_ps(sum[0]);
  return iterations * SUMS * 32;
}

// Without the instruction: both halves of 32 weights shifted or masked to float32, two FMAs.
TARGET static uint64_t peak_bf16_widened(uint64_t iterations, float *sink) {
  __m512 sum[SUMS];
  __m512i a = _mm512_set1_epi32((int)(0x3f003f00 + (iterations & 7)));
  __m512 b = _mm512_set1_ps(0.25f);
  const __m512i high = _mm512_set1_epi32((int)0xffff0000);
  for (int i = 0; i < SUMS; i++) sum[i] = _mm512_set1_ps((float)i);
  for (uint64_t n = 0; n < iterations; n++)
#pragma clang loop unroll(full)
    for (int i = 0; i < SUMS; i += 2) {
      __asm__ volatile("" : "+v"(a)); // the widening belongs to every step
      __m512 odd = _mm512_castsi512_ps(_mm512_and_si512(a, high));
      __m512 even = _mm512_castsi512_ps(_mm512_slli_epi32(a, 16));
      sum[i] = _mm512_fmadd_ps(even, b, sum[i]);
      sum[i + 1] = _mm512_fmadd_ps(odd, b, sum[i + 1]);
    }
  for (int i = 1; i < SUMS; i++) sum[0] = _mm512_add_ps(sum[0], sum[i]);
  *sink = _mm512_reduce_add_ps(sum[0]);
  return iterations * SUMS * 16;
}

static int has_bf16(void) {
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx512bf16") != 0;
}

static uint64_t peak_bf16(uint64_t iterations, float *sink) {
  return has_bf16() ? peak_bf16_native(iterations, sink) : peak_bf16_widened(iterations, sink);
}

static const char *bf16_name(void) { return has_bf16() ? "vdpbf16ps" : "widened to float32"; }

TARGET static inline __attribute__((always_inline)) uint64_t
read_body(const uint8_t *data, size_t bytes, const int streams, const int prefetch) {
  size_t run = bytes / (size_t)streams;
  __m512i sum[4] = {_mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512(),
                    _mm512_setzero_si512()};
  for (size_t i = 0; i < run; i += 256)
#pragma clang loop unroll(full)
    for (int s = 0; s < streams; s++) {
      const uint8_t *p = data + (size_t)s * run + i;
#pragma clang loop unroll(full)
      for (int j = 0; j < 4; j++) {
        if (prefetch) __builtin_prefetch(p + 64 * j + QK_PROBE_PREFETCH_DISTANCE);
        sum[j] = _mm512_xor_si512(sum[j], _mm512_loadu_si512(p + 64 * j));
      }
    }
  sum[0] = _mm512_xor_si512(_mm512_xor_si512(sum[0], sum[1]), _mm512_xor_si512(sum[2], sum[3]));
  uint64_t words[8], total = 0;
  _mm512_storeu_si512(words, sum[0]);
  for (int i = 0; i < 8; i++) total ^= words[i];
  return total;
}
#pragma clang attribute push(                                                                      \
    __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma"))),             \
    apply_to = function)
QK_PROBE_READ_LOOPS
#pragma clang attribute pop

const qk_probe_table qk_probe__avx512vnni = {
    .int8 = peak_int8,
    .bf16 = peak_bf16,
    .fp32 = peak_fp32,
    .int8_name = "vpdpbusd zmm",
    .bf16_name = bf16_name,
    .fp32_name = "vfmadd zmm",
    .read = QK_PROBE_READ_TABLE,
};
#endif
