#ifndef QK_VECTOR_H
#define QK_VECTOR_H
// Element-wise operations on float32 vectors. Every level of instruction sets runs the same
// sequence of IEEE operations per element, and sums in the same 16 lanes, so all levels give the
// same bits.
#include "qk_isa.h"

#include <stddef.h>
#include <stdint.h>

#if defined(__clang__)
#define QK_NONNULL _Nonnull
#define QK_NULLABLE _Nullable
#else
#define QK_NONNULL
#define QK_NULLABLE
#endif

typedef struct qk_vector_kernels {
  // y = x / sqrt(mean(x^2) + epsilon) * weight. x and y may be the same.
  void (*QK_NONNULL rms_norm)(const float *QK_NONNULL x, const float *QK_NONNULL weight,
                              float epsilon, float *QK_NONNULL y, ptrdiff_t n);
  // y = gate / (1 + exp(-gate)) * up
  void (*QK_NONNULL silu_multiply)(const float *QK_NONNULL gate, const float *QK_NONNULL up,
                                   float *QK_NONNULL y, ptrdiff_t n);
  // y = gelu(gate) * up, in the tanh form: gate / (1 + exp(-2 sqrt(2/pi) (gate + 0.044715 gate^3)))
  void (*QK_NONNULL gelu_multiply)(const float *QK_NONNULL gate, const float *QK_NONNULL up,
                                   float *QK_NONNULL y, ptrdiff_t n);
  // y = max(gate, 0)^2 * up
  void (*QK_NONNULL squared_relu_multiply)(const float *QK_NONNULL gate, const float *QK_NONNULL up,
                                           float *QK_NONNULL y, ptrdiff_t n);
  // y += x
  void (*QK_NONNULL add)(const float *QK_NONNULL x, float *QK_NONNULL y, ptrdiff_t n);
  // x *= factor
  void (*QK_NONNULL scale)(float *QK_NONNULL x, float factor, ptrdiff_t n);
  // x = cap * tanh(x / cap)
  void (*QK_NONNULL soft_cap)(float *QK_NONNULL x, float cap, ptrdiff_t n);
  // x = exp(x - max x) / sum
  void (*QK_NONNULL softmax)(float *QK_NONNULL x, ptrdiff_t n);
  // Rotates pairs of each head's first 2*pairs elements: (2i, 2i+1) or (i, pairs+i) by (cos[i],
  // sin[i]).
  void (*QK_NONNULL rotate_interleaved)(float *QK_NONNULL x, ptrdiff_t heads, ptrdiff_t head_stride,
                                        ptrdiff_t pairs, const float *QK_NONNULL cos,
                                        const float *QK_NONNULL sin);
  void (*QK_NONNULL rotate_halves)(float *QK_NONNULL x, ptrdiff_t heads, ptrdiff_t head_stride,
                                   ptrdiff_t pairs, const float *QK_NONNULL cos,
                                   const float *QK_NONNULL sin);
  // IEEE half precision, round to nearest even.
  void (*QK_NONNULL half_to_float)(const uint16_t *QK_NONNULL x, float *QK_NONNULL y, ptrdiff_t n);
  void (*QK_NONNULL float_to_half)(const float *QK_NONNULL x, uint16_t *QK_NONNULL y, ptrdiff_t n);
  // 1 when every |x[i]| <= limit, which a NaN is not.
  int (*QK_NONNULL all_within)(const float *QK_NONNULL x, float limit, ptrdiff_t n);
} qk_vector_kernels;

// The kernels of a level, or of the highest runnable one below it.
const qk_vector_kernels *QK_NONNULL qk_vector_kernels_for(qk_isa isa);

#if defined(__x86_64__)
extern const qk_vector_kernels qk_vector__avx2;
extern const qk_vector_kernels qk_vector__avx512vnni;
#elif defined(__aarch64__)
extern const qk_vector_kernels qk_vector__neon;
#endif
extern const qk_vector_kernels qk_vector__scalar;

#endif
