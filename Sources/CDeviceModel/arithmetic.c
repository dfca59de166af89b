// The arithmetic's levels, and the choice among them.
#include "CDeviceModel.h"

// Vectors wider than the baseline's registers are passed between inlined functions only.
#pragma clang diagnostic ignored "-Wpsabi"

#define CDM(name) cdm_baseline_##name
#include "bodies/cdm_arithmetic.inc"
#undef CDM
#undef CDM_INLINE

#if defined(__x86_64__)
#include <immintrin.h>
#define CDM_F16C
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#define CDM(name) cdm_avx2_##name
#include "bodies/cdm_arithmetic.inc"
#undef CDM
#pragma clang attribute pop

static int has_avx2(void) {
  // Racing first calls compute the same value.
  static volatile int cached = -1;
  if (cached < 0) {
    __builtin_cpu_init();
    cached = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
  }
  return cached;
}
#define CDM_CALL(name, ...) (has_avx2() ? cdm_avx2_##name(__VA_ARGS__) : cdm_baseline_##name(__VA_ARGS__))
#else
#define CDM_CALL(name, ...) cdm_baseline_##name(__VA_ARGS__)
#endif

void cdm_mma_m16n8k16(const uint32_t *a, const uint32_t *b, float *c) { CDM_CALL(mma_m16n8k16, a, b, c); }

void cdm_mma_m16n8k16_pair(const uint32_t *a, const uint32_t *b_first, const uint32_t *b_second, float *c) {
  CDM_CALL(mma_m16n8k16_pair, a, b_first, b_second, c);
}

void cdm_mma_m16n8k32(const uint32_t *a, const uint32_t *b, int32_t *c, int unsigned_operands) {
  CDM_CALL(mma_m16n8k32, a, b, c, unsigned_operands);
}

void cdm_half2_add(const uint32_t *a, const uint32_t *b, uint32_t *out, size_t count) {
  CDM_CALL(half2, a, b, out, count, 0);
}
void cdm_half2_subtract(const uint32_t *a, const uint32_t *b, uint32_t *out, size_t count) {
  CDM_CALL(half2, a, b, out, count, 1);
}
void cdm_half2_multiply(const uint32_t *a, const uint32_t *b, uint32_t *out, size_t count) {
  CDM_CALL(half2, a, b, out, count, 2);
}
void cdm_half2_subtract_multiply(const uint32_t *a, const uint32_t *b, const uint32_t *c, uint32_t *out,
                                 size_t count) {
  CDM_CALL(half2_subtract_multiply, a, b, c, out, count);
}
void cdm_half2_fma(const uint32_t *a, const uint32_t *b, const uint32_t *c, uint32_t *out, size_t count) {
  CDM_CALL(half2_fma, a, b, c, out, count);
}
void cdm_half2_from_floats(const float *low, const float *high, uint32_t *out, size_t count) {
  CDM_CALL(half2_from_floats, low, high, out, count);
}
void cdm_floats_from_half2(const uint32_t *pairs, float *low, float *high, size_t count) {
  CDM_CALL(floats_from_half2, pairs, low, high, count);
}

static void volta_operand(const uint32_t *registers, float out[4][8][4], int row_is_lane) {
  // Quad-pair q holds lanes t + 4q and 16 + t + 4q; t8 counts them 0…7. Two registers hold four halves a lane.
  float low[2][CDM_LANES], high[2][CDM_LANES];
  for (int r = 0; r < 2; r++) CDM_CALL(floats_from_half2, registers + CDM_LANES * r, low[r], high[r], CDM_LANES);
  for (int lane = 0; lane < CDM_LANES; lane++) {
    const int q = lane >> 2 & 3, t8 = (lane & 3) | (lane >> 4 & 1) << 2;
    const float v[4] = {low[0][lane], high[0][lane], low[1][lane], high[1][lane]};
    for (int i = 0; i < 4; i++) {
      if (row_is_lane)
        out[q][t8][i] = v[i]; // outer t8, k i
      else
        out[q][4 * (t8 >> 2) + i][t8 & 3] = v[i]; // outer 4·(t8 div 4) + i, k t8 mod 4
    }
  }
}

void cdm_mma_m8n8k4(const uint32_t *a, const uint32_t *b, float *c, int orders) {
  float rows[4][8][4], columns[4][8][4];
  volta_operand(a, rows, !(orders & 1));
  volta_operand(b, columns, !(orders & 2));
  for (int lane = 0; lane < CDM_LANES; lane++) {
    const int q = lane >> 2 & 3, t8 = (lane & 3) | (lane >> 4 & 1) << 2;
    for (int i = 0; i < 8; i++) {
      const int m = (t8 & 1) + 4 * (t8 >> 2) + 2 * (i >> 1 & 1), n = 2 * (t8 >> 1 & 1) + (i & 1) + 4 * (i >> 2);
      float sum = c[32 * i + lane];
      for (int k = 0; k < 4; k++) sum += rows[q][m][k] * columns[q][n][k];
      c[32 * i + lane] = sum;
    }
  }
}

void cdm_mma_m8n8k4_half(const uint32_t *a, const uint32_t *b, uint32_t *c, int orders) {
  float rows[4][8][4], columns[4][8][4];
  volta_operand(a, rows, !(orders & 1));
  volta_operand(b, columns, !(orders & 2));
  for (int r = 0; r < 4; r++) {
    float pair[2][CDM_LANES];
    CDM_CALL(floats_from_half2, c + CDM_LANES * r, pair[0], pair[1], CDM_LANES);
    for (int lane = 0; lane < CDM_LANES; lane++) {
      const int q = lane >> 2 & 3, m = (lane & 3) | (lane >> 4 & 1) << 2;
      for (int i = 0; i < 2; i++) {
        float sum = pair[i][lane];
        for (int k = 0; k < 4; k++) sum += rows[q][m][k] * columns[q][2 * r + i][k];
        pair[i][lane] = sum;
      }
    }
    CDM_CALL(half2_from_floats, pair[0], pair[1], c + CDM_LANES * r, CDM_LANES);
  }
}

void cdm_dp4a(const uint32_t *a, const uint32_t *b, int32_t *c, size_t count) {
  for (size_t i = 0; i < count; i++) {
    int32_t sum = 0;
    for (int j = 0; j < 4; j++) sum += (int8_t)(a[i] >> 8 * j) * (int8_t)(b[i] >> 8 * j);
    c[i] = (int32_t)((uint32_t)c[i] + (uint32_t)sum);
  }
}
