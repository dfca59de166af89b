#if defined(__aarch64__)
#include "../qk_probe_levels.h"

#include <arm_neon.h>

#if defined(__linux__)
#include <sys/auxv.h>
#elif defined(__APPLE__)
#include <sys/sysctl.h>
#endif

#define TARGET_DOTPROD __attribute__((target("arch=armv8.2-a+dotprod")))
#define TARGET_BF16 __attribute__((target("arch=armv8.2-a+fp16+bf16")))

// Sixteen sums: four cycles of latency at up to four instructions a cycle.
enum { SUMS = 16 };

TARGET_DOTPROD static uint64_t peak_int8(uint64_t iterations, float *sink) {
  int32x4_t sum[SUMS];
  int8x16_t a = vreinterpretq_s8_u64(vdupq_n_u64(iterations | 0x0102030405060708));
  int8x16_t b = vreinterpretq_s8_u64(vdupq_n_u64(iterations | 0x0807060504030201));
  for (int i = 0; i < SUMS; i++) sum[i] = vdupq_n_s32(i);
  for (uint64_t n = 0; n < iterations; n++)
    for (int i = 0; i < SUMS; i++) sum[i] = vdotq_s32(sum[i], a, b);
  for (int i = 1; i < SUMS; i++) sum[0] = veorq_s32(sum[0], sum[i]);
  *sink = (float)vaddvq_s32(sum[0]);
  return iterations * SUMS * 16;
}

static uint64_t peak_fp32(uint64_t iterations, float *sink) {
  float32x4_t sum[SUMS];
  float32x4_t a = vdupq_n_f32(0.5f + 0x1p-40f * (float)iterations), b = vdupq_n_f32(0.25f);
  for (int i = 0; i < SUMS; i++) sum[i] = vdupq_n_f32((float)i);
  for (uint64_t n = 0; n < iterations; n++)
    for (int i = 0; i < SUMS; i++) sum[i] = vfmaq_f32(sum[i], a, b);
  for (int i = 1; i < SUMS; i++) sum[0] = vaddq_f32(sum[0], sum[i]);
  *sink = vaddvq_f32(sum[0]);
  return iterations * SUMS * 4;
}

TARGET_BF16 static uint64_t peak_bf16_native(uint64_t iterations, float *sink) {
  float32x4_t sum[SUMS];
  bfloat16x8_t a = vreinterpretq_bf16_u16(vdupq_n_u16((uint16_t)(0x3f00 + (iterations & 7))));
  bfloat16x8_t b = vreinterpretq_bf16_u16(vdupq_n_u16(0x3e80));
  for (int i = 0; i < SUMS; i++) sum[i] = vdupq_n_f32((float)i);
  for (uint64_t n = 0; n < iterations; n++)
    for (int i = 0; i < SUMS; i++) sum[i] = vbfdotq_f32(sum[i], a, b);
  for (int i = 1; i < SUMS; i++) sum[0] = vaddq_f32(sum[0], sum[i]);
  *sink = vaddvq_f32(sum[0]);
  return iterations * SUMS * 8;
}

// Without the instruction: both halves of eight weights widened to float32, two FMAs.
static uint64_t peak_bf16_widened(uint64_t iterations, float *sink) {
  float32x4_t sum[SUMS];
  uint32x4_t a = vdupq_n_u32((uint32_t)(0x3f003f00 + (iterations & 7)));
  float32x4_t b = vdupq_n_f32(0.25f);
  const uint32x4_t high = vdupq_n_u32(0xffff0000);
  for (int i = 0; i < SUMS; i++) sum[i] = vdupq_n_f32((float)i);
  for (uint64_t n = 0; n < iterations; n++)
    for (int i = 0; i < SUMS; i += 2) {
      __asm__ volatile("" : "+w"(a)); // the widening belongs to every step
      sum[i] = vfmaq_f32(sum[i], vreinterpretq_f32_u32(vshlq_n_u32(a, 16)), b);
      sum[i + 1] = vfmaq_f32(sum[i + 1], vreinterpretq_f32_u32(vandq_u32(a, high)), b);
    }
  for (int i = 1; i < SUMS; i++) sum[0] = vaddq_f32(sum[0], sum[i]);
  *sink = vaddvq_f32(sum[0]);
  return iterations * SUMS * 4;
}

static int has_bf16(void) {
#if defined(__linux__)
  return (getauxval(AT_HWCAP2) >> 14) & 1; // HWCAP2_BF16, arch/arm64/include/uapi/asm/hwcap.h
#elif defined(__APPLE__)
  int value = 0;
  size_t size = sizeof value;
  return sysctlbyname("hw.optional.arm.FEAT_BF16", &value, &size, NULL, 0) == 0 && value != 0;
#else
  return 0;
#endif
}

static uint64_t peak_bf16(uint64_t iterations, float *sink) {
  return has_bf16() ? peak_bf16_native(iterations, sink) : peak_bf16_widened(iterations, sink);
}

static const char *bf16_name(void) { return has_bf16() ? "bfdot" : "widened to float32"; }

static inline __attribute__((always_inline)) uint64_t read_body(const uint8_t *data, size_t bytes,
                                                                const int streams,
                                                                const int prefetch) {
  size_t run = bytes / (size_t)streams;
  uint8x16_t sum[4] = {vdupq_n_u8(0), vdupq_n_u8(0), vdupq_n_u8(0), vdupq_n_u8(0)};
  for (size_t i = 0; i < run; i += 64)
    for (int s = 0; s < streams; s++) {
      const uint8_t *p = data + (size_t)s * run + i;
      if (prefetch) __builtin_prefetch(p + QK_PROBE_PREFETCH_DISTANCE);
      for (int j = 0; j < 4; j++) sum[j] = veorq_u8(sum[j], vld1q_u8(p + 16 * j));
    }
  uint64x2_t total = vreinterpretq_u64_u8(
      veorq_u8(veorq_u8(sum[0], sum[1]), veorq_u8(sum[2], sum[3])));
  return vgetq_lane_u64(total, 0) ^ vgetq_lane_u64(total, 1);
}
QK_PROBE_READ_LOOPS

const qk_probe_table qk_probe__neonDotprod = {
    .int8 = peak_int8,
    .bf16 = peak_bf16,
    .fp32 = peak_fp32,
    .int8_name = "sdot",
    .bf16_name = bf16_name,
    .fp32_name = "fmla",
    .read = QK_PROBE_READ_TABLE,
};
#endif
