#ifndef QK_PROBE_H
#define QK_PROBE_H

#include "qk_isa.h"

#include <stddef.h>
#include <stdint.h>

// Loops that measure the limits of one core: how fast it reads, and how fast it multiplies when no
// operand comes from memory. A level that this processor does not run must not be asked for.

typedef enum qk_peak {
  QK_PEAK_INT8 = 0,  // int8 products summed to int32: vpdpbusd, maddubs + madd, sdot
  // bfloat16 products summed to float32: vdpbf16ps, bfdot, else widened to float32
  QK_PEAK_BF16 = 1,
  QK_PEAK_FP32 = 2,  // float32 fused multiply-adds
  QK_PEAK_COUNT = 3
} qk_peak;

// Runs the loop of `peak` `iterations` times and returns the multiply-adds it did. `sink` receives
// a value that depends on all of them, so that none can be left out.
uint64_t qk_probe_peak(qk_isa isa, qk_peak peak, uint64_t iterations, float *sink);

// The instruction that the loop of `peak` consists of at that level, for reports.
const char *qk_probe_peak_name(qk_isa isa, qk_peak peak);

// Reads `bytes` bytes (a multiple of 4096) as `streams` (1, 2 or 4) equal runs side by side,
// fetching ahead of each when `prefetch` is not 0. Returns the exclusive or of its 64-bit words.
uint64_t qk_probe_read(qk_isa isa, int streams, int prefetch, const void *data, size_t bytes);

// How far ahead of its own loads a read loop with prefetch fetches, in bytes. It must cover the
// latency of memory at the rate of one core: about 100 ns x 30 GB/s = 3 KB.
#define QK_PROBE_PREFETCH_DISTANCE 3072

#endif
