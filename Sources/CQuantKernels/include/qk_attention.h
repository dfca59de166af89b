#ifndef QK_ATTENTION_H
#define QK_ATTENTION_H
// Attention of float32 queries over blocks of keys and values, in partitions of
// QK_ATTENTION_PARTITION keys that start at multiples of it (absolute positions).
//
// Per query row and partition: scores are chains of fused multiply-adds over the head's elements in
// ascending order; probabilities 2^(score - maximum); their sum in 16 lanes by position modulo 16;
// the output a chain over the keys in ascending order. Partitions enter the row's state in
// ascending order. A masked key has probability 0 and adds exactly nothing. So a row's bits depend
// on its own query and visible keys alone: not on the rows beside it, nor on who computes which
// partition, nor on where the blocks lie. Keys and values of every type are read as the float32
// number that they stand for, which is exact: a cache of another type gives the bits of a float32
// cache of the same numbers.
//
// The idea of partial results (maximum, sum, output) that merge: Dao, FlashAttention-2, arXiv
// 2307.08691, and Flash-Decoding.
//
// Blocks hold QK_ATTENTION_BLOCK positions of one head. Keys: [element][16 positions], so that a
// vector of scores needs no sum across lanes. Values: [position][value_stride], value_stride the
// width rounded up to 16, the rest zero. Quantized types (ggml's Q8_0 and Q4_0, groups of 32
// elements of a position) put their half-precision scales first: keys [group][16 positions], values
// [position][group]; bytes of 4-bit codes hold positions p and p + 8 (keys) or elements e and e + 8
// of 16 (values). All of it must be finite: 0 * inf is not 0.
#include "qk_isa.h"
#include "qk_vector.h"

#include <stddef.h>
#include <stdint.h>

#define QK_ATTENTION_PARTITION 256
#define QK_ATTENTION_BLOCK 16
// Blocks of a partition, and pointers to blocks that a partition's kernel is given: with those of the
// next, that it fetches ahead.
#define QK_ATTENTION_BLOCKS (QK_ATTENTION_PARTITION / QK_ATTENTION_BLOCK)
#define QK_ATTENTION_POINTERS (2 * QK_ATTENTION_BLOCKS)
// Rows that share a pass over the keys.
#define QK_ATTENTION_ROWS 6
// Floats before the output in a row's state: the maximum, the sum, and room to keep 64-byte
// alignment.
#define QK_ATTENTION_STATE_HEADER 16
// Elements of a position that share a scale.
#define QK_ATTENTION_GROUP 32

typedef enum qk_kv_type {
  QK_KV_FLOAT,
  QK_KV_HALF,
  QK_KV_BRAIN,
  QK_KV_Q8,
  QK_KV_Q4,
  QK_KV_COUNT
} qk_kv_type;

// Bytes of a block of 16 positions.
static inline ptrdiff_t qk_key_block_bytes(qk_kv_type type, ptrdiff_t width) {
  const ptrdiff_t scales = (width + QK_ATTENTION_GROUP - 1) / QK_ATTENTION_GROUP * 32;
  switch (type) {
    case QK_KV_FLOAT: return 64 * width;
    case QK_KV_Q8: return scales + 16 * width;
    case QK_KV_Q4: return scales + 8 * width;
    default: return 32 * width;
  }
}
static inline ptrdiff_t qk_value_stride(ptrdiff_t width) { return (width + 15) / 16 * 16; }
static inline ptrdiff_t qk_value_block_bytes(qk_kv_type type, ptrdiff_t width) {
  return qk_key_block_bytes(type, qk_value_stride(width));
}

// The keys low..<high, absolute positions, that a query position sees.
typedef struct qk_attention_range {
  int64_t low, high;
} qk_attention_range;

typedef struct qk_attention_rows {
  // [rows][key_width], from `prepare`
  const float *QK_NONNULL queries;
  // [rows][QK_ATTENTION_STATE_HEADER + value_stride]
  float *QK_NONNULL states;
  // [QK_ATTENTION_ROWS][QK_ATTENTION_PARTITION]
  float *QK_NONNULL scores;
  ptrdiff_t rows;
  ptrdiff_t key_width;
  ptrdiff_t value_stride;
  // Row r is head r % rows_per_position of query r / rows_per_position.
  ptrdiff_t rows_per_position;
  // [queries]
  const qk_attention_range *QK_NONNULL seen;
  // NULL, or [queries][mask_words]: bit j % 64 of word j / 64 lets a query see key j, within `seen`.
  const uint64_t *QK_NULLABLE mask;
  ptrdiff_t mask_words;
  // NULL, or [rows_per_position], times log2(e): slope * (key - position) is added to scores.
  const float *QK_NULLABLE slopes;
  // With slopes: [queries].
  const int64_t *QK_NULLABLE positions;
  // 0, or cap * log2(e): scores become soft_cap_log2e * tanh(score), else they are in base 2
  // already.
  float soft_cap_log2e;
} qk_attention_rows;

typedef struct qk_attention_kernels {
  // queries = factor * source; states empty. Sources: `positions` runs of rows_per_position rows,
  // source_stride apart.
  void (*QK_NONNULL prepare)(const float *QK_NONNULL source, ptrdiff_t source_stride, float factor,
                             ptrdiff_t positions, ptrdiff_t rows_per_position, ptrdiff_t key_width,
                             ptrdiff_t value_stride, float *QK_NONNULL queries,
                             float *QK_NONNULL states);
  // Lets the rows' states see the partition that starts at position `start`: the keys and values of
  // its blocks up to the last that is seen. Every one of the QK_ATTENTION_POINTERS is some block's.
  void (*QK_NONNULL partition[QK_KV_COUNT])(const qk_attention_rows *QK_NONNULL rows, int64_t start,
                                            const void *QK_NONNULL const *QK_NONNULL keys,
                                            const void *QK_NONNULL const *QK_NONNULL values);
  // states take in `later`, states of the same rows over later partitions.
  void (*QK_NONNULL merge)(float *QK_NONNULL states, const float *QK_NONNULL later, ptrdiff_t rows,
                           ptrdiff_t value_stride);
  // output = state's output / sum, 0 where nothing was seen; runs of rows_per_position rows,
  // output_stride apart. `sinks`: NULL, or [rows_per_position], times log2(e): scores of a key
  // without value. `logarithms`: NULL, or [positions][rows_per_position], logarithm_stride apart:
  // ln(sum of exp(score)).
  void (*QK_NONNULL finish)(const float *QK_NONNULL states, ptrdiff_t positions,
                            ptrdiff_t rows_per_position, ptrdiff_t value_width,
                            ptrdiff_t value_stride, const float *QK_NULLABLE sinks,
                            float *QK_NONNULL output, ptrdiff_t output_stride,
                            float *QK_NULLABLE logarithms, ptrdiff_t logarithm_stride);
  // Writes positions first..<first + count of a block; sources are their strides apart.
  void (*QK_NONNULL store[QK_KV_COUNT])(const float *QK_NONNULL keys, ptrdiff_t key_stride,
                                        const float *QK_NONNULL values, ptrdiff_t values_stride,
                                        ptrdiff_t first, ptrdiff_t count, ptrdiff_t key_width,
                                        ptrdiff_t value_width, void *QK_NONNULL key_block,
                                        void *QK_NONNULL value_block);
  // A block as one of float32.
  void (*QK_NONNULL widen[QK_KV_COUNT])(const void *QK_NONNULL key_block,
                                        const void *QK_NONNULL value_block, ptrdiff_t key_width,
                                        ptrdiff_t value_stride, float *QK_NONNULL keys,
                                        float *QK_NONNULL values);
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
