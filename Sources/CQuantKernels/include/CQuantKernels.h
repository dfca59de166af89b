#ifndef CQUANTKERNELS_H
#define CQUANTKERNELS_H
// Not API: inner loops of QuantKernels. No allocation, no threads, no policy.
#include "qk_attention.h"
#include "qk_isa.h"
#include "qk_latent.h"
#include "qk_probe.h"
#include "qk_processors.h"
#include "qk_lookup.h"
#include "qk_matmul.h"
#include "qk_ternary.h"
#include "qk_vector.h"

// One pause of a spinning thread.
static inline void qk_spin_hint(void) {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("isb" ::: "memory");
#endif
}
#endif
