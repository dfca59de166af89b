#ifndef QK_PROBE_LEVELS_H
#define QK_PROBE_LEVELS_H

#include "qk_probe.h"

// What one instruction-set level brings to qk_probe.h.
typedef struct qk_probe_table {
  uint64_t (*int8)(uint64_t iterations, float *sink);
  uint64_t (*bf16)(uint64_t iterations, float *sink);
  uint64_t (*fp32)(uint64_t iterations, float *sink);
  const char *int8_name;
  const char *(*bf16_name)(void);
  const char *fp32_name;
  // [1, 2, 4 streams][without, with prefetch]
  uint64_t (*read[3][2])(const uint8_t *data, size_t bytes);
} qk_probe_table;

extern const qk_probe_table qk_probe__scalar;
#if defined(__x86_64__)
extern const qk_probe_table qk_probe__avx2;
extern const qk_probe_table qk_probe__avx512vnni;
#elif defined(__aarch64__)
extern const qk_probe_table qk_probe__neonDotprod;
#endif

// Defines the six read loops of a level from one inlined body
// `read_body(data, bytes, streams, prefetch)`, whose last two arguments become constants.
#define QK_PROBE_READ_LOOPS                                                                        \
  static uint64_t read_1(const uint8_t *d, size_t n) { return read_body(d, n, 1, 0); }             \
  static uint64_t read_1p(const uint8_t *d, size_t n) { return read_body(d, n, 1, 1); }            \
  static uint64_t read_2(const uint8_t *d, size_t n) { return read_body(d, n, 2, 0); }             \
  static uint64_t read_2p(const uint8_t *d, size_t n) { return read_body(d, n, 2, 1); }            \
  static uint64_t read_4(const uint8_t *d, size_t n) { return read_body(d, n, 4, 0); }             \
  static uint64_t read_4p(const uint8_t *d, size_t n) { return read_body(d, n, 4, 1); }

#define QK_PROBE_READ_TABLE {{read_1, read_1p}, {read_2, read_2p}, {read_4, read_4p}}

#endif
