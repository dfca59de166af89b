// What drivers that compare levels with the scalar one share: counted comparisons, and random floats.
#ifndef QK_DRIVER_COMPARISON_H
#define QK_DRIVER_COMPARISON_H
#include <string.h>

#include "driver_support.h"
#include "qk_isa.h"

static int failures = 0;
static long checks = 0;

static void same(const char *what, qk_isa isa, long where, const void *a, const void *b,
                 size_t bytes) {
  checks++;
  if (memcmp(a, b, bytes) != 0 && failures++ < 20)
    printf("FAILED %s of %s differs from scalar at %ld\n", what, qk_isa_name(isa), where);
}

static float *floats(guarded *g, size_t count, float bound) {
  *g = reserve(4 * count);
  float *x = (float *)g->bytes;
  for (size_t i = 0; i < count; i++) x[i] = bound * unit();
  return x;
}

#endif
