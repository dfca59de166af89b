#ifndef QK_ATTENTION_H
#define QK_ATTENTION_H
// Causal attention of float32 queries over a cache of keys and values, in partitions of
// QK_ATTENTION_PARTITION keys that start at multiples of it (absolute positions).
//
// Per query row and partition: scores are chains of fused multiply-adds over the head's elements in
// ascending order; probabilities 2^(score - maximum); their sum in 16 lanes by position modulo 16;
// the output a chain over the keys in ascending order. Partitions enter the row's state in
// ascending order. A masked key has probability 0 and adds exactly nothing. So a row's bits depend
// on its own query, position and visible keys alone: not on the rows beside it, nor on who computes
// which partition.
//
// The idea of partial results (maximum, sum, output) that merge: Dao, FlashAttention-2, arXiv
// 2307.08691, and Flash-Decoding.
//
// Keys, one head: blocks of 16 positions, [block][element][16 positions], so that a vector of
// scores needs no sum across lanes. Values, one head: [position][value_stride], value_stride the
// head dimension rounded up to 16, the rest zero. Float32 or IEEE half. All of it must be finite:
// 0 * inf is not 0.
#include "qk_isa.h"
#include "qk_vector.h"

#include <stddef.h>
#include <stdint.h>

#define QK_ATTENTION_PARTITION 256
// Rows that share a pass over the keys.
#define QK_ATTENTION_ROWS 6
// Floats before the output in a row's state: the maximum, the sum, and room to keep 64-byte
// alignment.
#define QK_ATTENTION_STATE_HEADER 16

typedef struct qk_attention_rows {
  // [rows][head_dimension], from `prepare`
  const float *QK_NONNULL queries;
  // [rows][QK_ATTENTION_STATE_HEADER + value_stride]
  float *QK_NONNULL states;
  // [QK_ATTENTION_ROWS][QK_ATTENTION_PARTITION]
  float *QK_NONNULL scores;
  ptrdiff_t rows;
  ptrdiff_t head_dimension;
  ptrdiff_t value_stride;
  // Row r is at position first_position + r / rows_per_position.
  ptrdiff_t rows_per_position;
  ptrdiff_t first_position;
  // A row sees its own position and the window - 1 before; 0: all before.
  ptrdiff_t window;
  // 0, or cap * log2(e): scores become soft_cap_log2e * tanh(score), else they are in base 2
  // already.
  float soft_cap_log2e;
} qk_attention_rows;

typedef struct qk_attention_kernels {
  // queries = factor * source; states empty. Sources: `positions` runs of rows_per_position rows,
  // source_stride apart.
  void (*QK_NONNULL prepare)(const float *QK_NONNULL source, ptrdiff_t source_stride, float factor,
                             ptrdiff_t positions, ptrdiff_t rows_per_position,
                             ptrdiff_t head_dimension, ptrdiff_t value_stride,
                             float *QK_NONNULL queries, float *QK_NONNULL states);
  // Lets the rows' states see the partition that starts at position `start`; keys and values point
  // to it. Reads keys in whole blocks of 16 and values up to the last position seen.
  void (*QK_NONNULL partition_float)(const qk_attention_rows *QK_NONNULL rows, ptrdiff_t start,
                                     const float *QK_NONNULL keys, const float *QK_NONNULL values);
  void (*QK_NONNULL partition_half)(const qk_attention_rows *QK_NONNULL rows, ptrdiff_t start,
                                    const uint16_t *QK_NONNULL keys,
                                    const uint16_t *QK_NONNULL values);
  // states take in `later`, states of the same rows over later partitions.
  void (*QK_NONNULL merge)(float *QK_NONNULL states, const float *QK_NONNULL later, ptrdiff_t rows,
                           ptrdiff_t value_stride);
  // output = state's output / sum; runs of rows_per_position rows, output_stride apart.
  void (*QK_NONNULL finish)(const float *QK_NONNULL states, ptrdiff_t positions,
                            ptrdiff_t rows_per_position, ptrdiff_t head_dimension,
                            ptrdiff_t value_stride, float *QK_NONNULL output,
                            ptrdiff_t output_stride);
  // Writes `count` positions of one head from `position` on; sources are source_stride apart.
  void (*QK_NONNULL store_float)(const float *QK_NONNULL source_keys,
                                 const float *QK_NONNULL source_values, ptrdiff_t source_stride,
                                 ptrdiff_t position, ptrdiff_t count, ptrdiff_t head_dimension,
                                 ptrdiff_t value_stride, float *QK_NONNULL keys,
                                 float *QK_NONNULL values);
  void (*QK_NONNULL store_half)(const float *QK_NONNULL source_keys,
                                const float *QK_NONNULL source_values, ptrdiff_t source_stride,
                                ptrdiff_t position, ptrdiff_t count, ptrdiff_t head_dimension,
                                ptrdiff_t value_stride, uint16_t *QK_NONNULL keys,
                                uint16_t *QK_NONNULL values);
} qk_attention_kernels;

// The kernels of a level, or of the highest runnable one below it.
const qk_attention_kernels *QK_NONNULL qk_attention_kernels_for(qk_isa isa);

#if defined(__x86_64__)
extern const qk_attention_kernels qk_attention__avx2;
extern const qk_attention_kernels qk_attention__avx512vnni;
#elif defined(__aarch64__)
extern const qk_attention_kernels qk_attention__neon;
#endif
extern const qk_attention_kernels qk_attention__scalar;

#endif
