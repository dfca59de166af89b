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
// partition, nor on where the blocks lie.
//
// Keys and values of float types are read as the float32 number that they stand for, which is
// exact: such a cache gives the bits of a float32 cache of the same numbers. Those of quantized
// types stay integers: a query row is rounded to 16-bit integers by one scale, and the probability
// of a key times the scale of its values to 16 bits by one scale a partition and group. Products
// and their sums over a group's 32 elements, or a partition's 256 keys, are exact in 32 bits
// (32767 * 128 * 256 < 2^31), and enter float32 sums group by group. The error is that of the
// rounding, 2^-16 of the largest: about a thousandth of what 8 bits of the cache itself lose.
//
// The idea of partial results (maximum, sum, output) that merge: Dao, FlashAttention-2, arXiv
// 2307.08691, and Flash-Decoding.
//
// Blocks hold QK_ATTENTION_BLOCK positions of one head. Keys: [element][16 positions], so that a
// vector of scores needs no sum across lanes. Values: [position][value_stride], value_stride the
// width rounded up to 16, the rest zero. All of it must be finite: 0 * inf is not 0.
//
// Quantized types (ggml's Q8_0 and Q4_0, groups of 32 elements of a position) put their
// half-precision scales first, [group][16 positions], and then codes in the order of an instruction
// that multiplies pairs of 16-bit integers and adds them: of keys, positions are lanes and elements
// are summed; of values, elements are lanes (16 to a chunk, chunk after chunk) and positions are
// summed. 8 bits: [pair of summed][16 lanes][2 summed]. 4 bits: [8 summed][16 lanes][2 summed] of 16
// bits each, whose nibble n belongs to pair n.
#include "qk_isa.h"
#include "qk_vector.h"

#include <stddef.h>
#include <stdint.h>

#define QK_ATTENTION_PARTITION 256
#define QK_ATTENTION_BLOCK 16
// Blocks of a partition, and pointers to blocks that a partition's kernel is given: with those of
// the next, that it fetches ahead.
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
  QK_KV_COUNT,
  // No cache's type: pairs of bfloat16, see qk_attention_pairs.
  QK_KV_PAIRS = QK_KV_COUNT
} qk_kv_type;

// Bytes of a block of 16 positions.
static inline ptrdiff_t qk_groups(ptrdiff_t width) {
  return (width + QK_ATTENTION_GROUP - 1) / QK_ATTENTION_GROUP;
}
static inline ptrdiff_t qk_key_block_bytes(qk_kv_type type, ptrdiff_t width) {
  switch (type) {
    case QK_KV_FLOAT: return 64 * width;
    case QK_KV_Q8: return 32 * qk_groups(width) + 16 * ((width + 1) / 2 * 2);
    case QK_KV_Q4: return 32 * qk_groups(width) + 8 * ((width + 7) / 8 * 8);
    case QK_KV_PAIRS: return 64 * ((width + 1) / 2);
    default: return 32 * width;
  }
}
static inline ptrdiff_t qk_value_stride(ptrdiff_t width) { return (width + 15) / 16 * 16; }
static inline ptrdiff_t qk_value_block_bytes(qk_kv_type type, ptrdiff_t width) {
  return qk_key_block_bytes(type, qk_value_stride(width));
}

// A prepared query row: of float types, `width` floats. Of quantized ones, its scale; from float
// QK_ATTENTION_QUERY_HEADER on the sums of its groups as int32; and from qk_query_codes on its
// 16-bit integers, the last group's rest zero. Each part starts at a multiple of 64 bytes. Of pairs of
// bfloat16, pairs of neighboring elements, the last filled up with zero.
#define QK_ATTENTION_QUERY_HEADER 16
static inline int qk_is_quantized(qk_kv_type type) {
  return type == QK_KV_Q8 || type == QK_KV_Q4;
}
static inline ptrdiff_t qk_query_codes(ptrdiff_t width) {
  return QK_ATTENTION_QUERY_HEADER + (qk_groups(width) + 15) / 16 * 16;
}
static inline ptrdiff_t qk_query_stride(qk_kv_type type, ptrdiff_t width) {
  if (type == QK_KV_PAIRS) return (width + 1) / 2;
  return qk_is_quantized(type) ? qk_query_codes(width) + qk_groups(width) * (QK_ATTENTION_GROUP / 2)
                               : width;
}

// The keys low..<high, absolute positions, that a query position sees.
typedef struct qk_attention_range {
  int64_t low, high;
} qk_attention_range;

typedef struct qk_attention_rows {
  // [rows][qk_query_stride], from `prepare` for the type of the keys
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
  // queries = factor * source, for keys of a type; states empty. Sources: `positions` runs of
  // rows_per_position rows, source_stride apart.
  void (*QK_NONNULL prepare)(qk_kv_type type, const float *QK_NONNULL source,
                             ptrdiff_t source_stride, float factor, ptrdiff_t positions,
                             ptrdiff_t rows_per_position, ptrdiff_t key_width,
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
  // A block as one of float32: of half precision, and of bfloat16.
  void (*QK_NONNULL widen_half)(const void *QK_NONNULL key_block,
                                const void *QK_NONNULL value_block, ptrdiff_t key_width,
                                ptrdiff_t value_stride, float *QK_NONNULL keys,
                                float *QK_NONNULL values);
  void (*QK_NONNULL widen_brain)(const void *QK_NONNULL key_block,
                                 const void *QK_NONNULL value_block, ptrdiff_t key_width,
                                 ptrdiff_t value_stride, float *QK_NONNULL keys,
                                 float *QK_NONNULL values);
} qk_attention_kernels;

// Attention whose products are of bfloat16 numbers, summed in float32: for rows that ask for it over
// caches of float types, on processors with an instruction that adds two such products to a sum.
// Queries, keys, values and probabilities are rounded to nearest even, subnormals to zero. Blocks are
// made for a partition from the cache's: keys [pair of elements][16 positions][2], of an odd width
// the last filled up with zero; values [pair of positions][value_stride][2].
//
// Per query row and partition: scores are chains over pairs of elements in ascending order, the output
// one over pairs of positions that start at even ones; maxima, exponentials and their sum are those
// of float32. So a row's bits depend on its own query and visible keys alone, here too.
typedef struct qk_attention_pairs {
  // As that of qk_attention_kernels.
  void (*QK_NONNULL prepare)(const float *QK_NONNULL source, ptrdiff_t source_stride, float factor,
                             ptrdiff_t positions, ptrdiff_t rows_per_position, ptrdiff_t key_width,
                             ptrdiff_t value_stride, float *QK_NONNULL queries,
                             float *QK_NONNULL states);
  // The same, of blocks of pairs; those of the next partition, which are fetched ahead, the cache's.
  void (*QK_NONNULL partition)(const qk_attention_rows *QK_NONNULL rows, int64_t start,
                               const void *QK_NONNULL const *QK_NONNULL keys,
                               const void *QK_NONNULL const *QK_NONNULL values);
  // A block of a float type as one of pairs.
  void (*QK_NONNULL pair[QK_KV_BRAIN + 1])(const void *QK_NONNULL key_block,
                                           const void *QK_NONNULL value_block, ptrdiff_t key_width,
                                           ptrdiff_t value_stride, void *QK_NONNULL keys,
                                           void *QK_NONNULL values);
} qk_attention_pairs;

// NULL where the level, or this processor, has no such instruction.
const qk_attention_pairs *QK_NULLABLE qk_attention_pairs_for(qk_isa isa);

// The kernels of a level, or of the highest runnable one below it.
const qk_attention_kernels *QK_NONNULL qk_attention_kernels_for(qk_isa isa);

#if defined(__x86_64__)
extern const qk_attention_kernels qk_attention__avx2;
extern const qk_attention_kernels qk_attention__avx512vnni;
extern const qk_attention_pairs qk_attention__avx512bf16;
#elif defined(__aarch64__)
extern const qk_attention_kernels qk_attention__neon;
#endif
extern const qk_attention_kernels qk_attention__scalar;

#endif
