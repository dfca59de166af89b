#include "qk_probe.h"
#include "qk_probe_levels.h"

static const qk_probe_table *table(qk_isa isa) {
  switch (isa) {
#if defined(__x86_64__)
  case QK_ISA_AVX2: return &qk_probe__avx2;
  case QK_ISA_AVX512VNNI: return &qk_probe__avx512vnni;
#elif defined(__aarch64__)
  case QK_ISA_NEON_DOTPROD:
  case QK_ISA_NEON_I8MM: return &qk_probe__neonDotprod;
#endif
  default: return &qk_probe__scalar;
  }
}

uint64_t qk_probe_peak(qk_isa isa, qk_peak peak, uint64_t iterations, float *sink) {
  const qk_probe_table *level = table(isa);
  switch (peak) {
  case QK_PEAK_INT8: return level->int8(iterations, sink);
  case QK_PEAK_BF16: return level->bf16(iterations, sink);
  default: return level->fp32(iterations, sink);
  }
}

const char *qk_probe_peak_name(qk_isa isa, qk_peak peak) {
  const qk_probe_table *level = table(isa);
  switch (peak) {
  case QK_PEAK_INT8: return level->int8_name;
  case QK_PEAK_BF16: return level->bf16_name();
  default: return level->fp32_name;
  }
}

uint64_t qk_probe_read(qk_isa isa, int streams, int prefetch, const void *data, size_t bytes) {
  const qk_probe_table *level = table(isa);
  int row = streams >= 4 ? 2 : streams >= 2 ? 1 : 0;
  return level->read[row][prefetch != 0]((const uint8_t *)data, bytes);
}
