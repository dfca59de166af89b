#include "../qk_probe_levels.h"

#include <string.h>

// Portable loops: what the compiler makes of plain C without flags. Eight independent sums of eight
// lanes keep more products in flight than a multiply's latency needs.
enum { LANES = 64 };

static uint64_t peak_int8(uint64_t iterations, float *sink) {
  int32_t sum[LANES] = {0};
  int16_t a[LANES], b[LANES];
  for (int i = 0; i < LANES; i++) {
    a[i] = (int16_t)((iterations + (uint64_t)i) & 127);
    b[i] = (int16_t)(((iterations >> 1) + (uint64_t)i) & 127) - 64;
  }
  for (uint64_t n = 0; n < iterations; n++) {
    __asm__ volatile("" : : "r"(a), "r"(b) : "memory");
    for (int i = 0; i < LANES; i++) sum[i] = (int32_t)((uint32_t)sum[i] + (uint32_t)(a[i] * b[i]));
  }
  int32_t total = 0;
  for (int i = 0; i < LANES; i++) total ^= sum[i];
  *sink = (float)total;
  return iterations * LANES;
}

static uint64_t peak_fp32(uint64_t iterations, float *sink) {
  float sum[LANES], a = 0.999f, b = 0.001f;
  __asm__ volatile("" : "+r"(iterations), "+m"(a), "+m"(b));
  for (int i = 0; i < LANES; i++) sum[i] = (float)i;
  for (uint64_t n = 0; n < iterations; n++)
    for (int i = 0; i < LANES; i++) sum[i] = sum[i] * a + b;
  float total = 0;
  for (int i = 0; i < LANES; i++) total += sum[i];
  *sink = total;
  return iterations * LANES;
}

static uint64_t peak_bf16(uint64_t iterations, float *sink) {
  float sum[LANES] = {0};
  uint16_t a[LANES];
  float b = 0.5f;
  for (int i = 0; i < LANES; i++) a[i] = (uint16_t)(0x3f80 + i);
  for (uint64_t n = 0; n < iterations; n++) {
    __asm__ volatile("" : "+m"(b) : "r"(a) : "memory");
    for (int i = 0; i < LANES; i++) {
      uint32_t bits = (uint32_t)a[i] << 16;
      float wide;
      memcpy(&wide, &bits, sizeof wide);
      sum[i] += wide * b;
    }
  }
  float total = 0;
  for (int i = 0; i < LANES; i++) total += sum[i];
  *sink = total;
  return iterations * LANES;
}

static inline __attribute__((always_inline)) uint64_t read_body(const uint8_t *data, size_t bytes,
                                                                const int streams,
                                                                const int prefetch) {
  size_t run = bytes / (size_t)streams;
  uint64_t sum[8] = {0};
  for (size_t i = 0; i < run; i += 64)
    for (int s = 0; s < streams; s++) {
      const uint8_t *p = data + (size_t)s * run + i;
      if (prefetch) __builtin_prefetch(p + QK_PROBE_PREFETCH_DISTANCE);
      uint64_t word[8];
      memcpy(word, p, 64);
      for (int j = 0; j < 8; j++) sum[j] ^= word[j];
    }
  return sum[0] ^ sum[1] ^ sum[2] ^ sum[3] ^ sum[4] ^ sum[5] ^ sum[6] ^ sum[7];
}
QK_PROBE_READ_LOOPS

static const char *bf16_name(void) { return "widened to float32"; }

const qk_probe_table qk_probe__scalar = {
    .int8 = peak_int8,
    .bf16 = peak_bf16,
    .fp32 = peak_fp32,
    .int8_name = "int16 multiply, int32 add",
    .bf16_name = bf16_name,
    .fp32_name = "multiply, add",
    .read = QK_PROBE_READ_TABLE,
};
