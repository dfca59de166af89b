#ifndef QK_LATENT_H
#define QK_LATENT_H
// Attention over low-rank latents: scores and value sums on packed codes without ever writing a key
// or value out, in partitions of QK_LATENT_PARTITION positions that start at multiples of it.
//
// A latent vector x of a token and group is kept as x^ = m + s q: b-bit codes q, and a scale s and
// a minimum m in half precision. Two identities let the kernels work on the codes:
//
//   a . x^_t          = s_t (a . q_t) + m_t sum_j a_j
//   sum_t p_t x^_t    = sum_t (p_t s_t) q_t + (sum_t p_t m_t) 1
//
// a and the p_t s_t of a partition are floats (exact: chains of fused multiply-adds in ascending
// order), or numbers of two signed digits, 128 high + low, of their row's largest magnitude over
// 127 * 128: then the dots are integers and equal on every level. What follows the dots is one
// fixed sequence of IEEE operations, so that all levels give the same bits in both. A row's bits
// depend on its own query and what it sees alone.
//
// Source of the identities and of the factors: Palu, arXiv 2407.21118; kept per token with a
// floating minimum, not a clamped zero point, which loses vectors of one sign.
//
// Blocks hold QK_LATENT_BLOCK positions of one group, exactly 16 (ceil(width b / 8) + 4) bytes:
// 16 scales, 16 minima, then chunks of QK_LATENT_CHUNK elements in 64 b bytes, then what is left of
// the width, position by position, ceil(left b / 8) bytes each, code e at bit e b. A chunk's codes
// are 8 units of 64 bytes in the order in which dots of four bytes a lane read them:
//
//   keys     unit e / 4,              byte 4 p + e % 4           (e element, p position)
//   values   unit p / 4 * 2 + e / 16, byte e % 16 * 4 + p % 4
//
// and packed units hold 1, 2 or 4 of them: 4 bits: byte i of unit 2v | that of unit 2v + 1 << 4;
// 2 bits: units 4v...4v + 3, 2 bits each; 3 bits: the low two bits so, then in a third packed unit
// the high bit of unit u at bit u.
//
// Floats and halves: keys [width][16], values [16][width].
#include "qk_isa.h"
#include "qk_vector.h"

#include <stddef.h>
#include <stdint.h>

#define QK_LATENT_PARTITION 256
#define QK_LATENT_BLOCK 16
#define QK_LATENT_BLOCKS (QK_LATENT_PARTITION / QK_LATENT_BLOCK)
// Pointers to blocks that a partition's kernel is given: those of the next it may prefetch.
#define QK_LATENT_POINTERS (2 * QK_LATENT_BLOCKS)
#define QK_LATENT_CHUNK 32
#define QK_LATENT_CHUNK_BYTES (QK_LATENT_CHUNK * QK_LATENT_BLOCK)
// Floats before the output in a row's state, as in qk_attention.h.
#define QK_LATENT_STATE_HEADER 16
// The largest magnitude of two digits, and of widths whose dots stay below 2^31 with 4-bit codes.
#define QK_LATENT_DIGITS 16256
#define QK_LATENT_MOST_WIDTH 8192
// Positions that the rebuilding kernel takes together.
#define QK_LATENT_TILE 64

typedef enum qk_latent_type {
  QK_LATENT_FLOAT,
  QK_LATENT_HALF,
  QK_LATENT_8,
  QK_LATENT_4,
  QK_LATENT_3,
  QK_LATENT_2,
  QK_LATENT_COUNT
} qk_latent_type;

static inline int qk_latent_bits(qk_latent_type type) {
  switch (type) {
    case QK_LATENT_FLOAT: return 32;
    case QK_LATENT_HALF: return 16;
    case QK_LATENT_8: return 8;
    case QK_LATENT_4: return 4;
    case QK_LATENT_3: return 3;
    default: return 2;
  }
}
static inline ptrdiff_t qk_latent_block_bytes(qk_latent_type type, ptrdiff_t width) {
  const int bits = qk_latent_bits(type);
  return QK_LATENT_BLOCK * ((width * bits + 7) / 8 + (bits <= 8 ? 4 : 0));
}
static inline ptrdiff_t qk_latent_padded(ptrdiff_t width) {
  return (width + QK_LATENT_CHUNK - 1) / QK_LATENT_CHUNK * QK_LATENT_CHUNK;
}

// One group's blocks of a partition.
typedef struct qk_latent_group {
  qk_latent_type type;
  ptrdiff_t width;
  // [QK_LATENT_POINTERS]
  const void *QK_NONNULL const *QK_NONNULL blocks;
  // The blocks of the partition that any row sees.
  ptrdiff_t from, to;
} qk_latent_group;

// Rows of numbers that multiply a group's codes: digits, or floats where those are NULL.
typedef struct qk_latent_rows {
  ptrdiff_t rows;
  // [rows][padded width / 4][2][4]: the high digits of four numbers, then the low ones.
  const int8_t *QK_NULLABLE digits;
  // [rows][stride]
  const float *QK_NULLABLE floats;
  ptrdiff_t stride;
  // [rows]: what the digits count, and the sum of the row (in those units rounded, with digits).
  const float *QK_NONNULL scales;
  const float *QK_NONNULL sums;
} qk_latent_rows;

// How keys are rebuilt: k = up x^ + bias, rotated by the position.
typedef struct qk_latent_rebuild {
  ptrdiff_t heads;           // of the group
  ptrdiff_t rows_per_head;   // of queries
  ptrdiff_t head_width;
  ptrdiff_t pairs;           // rotated pairs of a head
  int interleaved;           // pairs (2i, 2i + 1), else (i, pairs + i)
  const float *QK_NONNULL up;        // [heads * head_width][width]
  const float *QK_NULLABLE bias;     // [heads * head_width]
  // Angles: cosines and sines of the first position of each block of the partition, [16][pairs],
  // and of the positions 0...15 of a block, [pairs][16].
  const float *QK_NONNULL block_cos, *QK_NONNULL block_sin;
  const float *QK_NONNULL cos, *QK_NONNULL sin;
} qk_latent_rebuild;

// The positions low..<high of a partition that a row sees.
typedef struct qk_latent_seen {
  int32_t low, high;
} qk_latent_seen;

typedef struct qk_latent_kernels {
  // Codes of n numbers, with the largest half m <= min x and the least half s with
  // m + s (2^bits - 1) >= max x. 1, or 0 where a number is not finite or beyond 65504: then m is
  // NaN, s and the codes are 0.
  int (*QK_NONNULL quantize)(const float *QK_NONNULL x, ptrdiff_t n, int bits,
                             uint8_t *QK_NONNULL codes, uint16_t *QK_NONNULL scale,
                             uint16_t *QK_NONNULL minimum);
  // The digits of n numbers, zero up to `padded`; of a row with a number that is not finite the
  // scale is NaN and the digits are 0.
  void (*QK_NONNULL digits)(const float *QK_NONNULL x, ptrdiff_t n, ptrdiff_t padded,
                            int8_t *QK_NONNULL digits, float *QK_NONNULL scale,
                            float *QK_NONNULL sum);
  // Hadamard transform of rows of n = 2^k numbers in place, times `factor`.
  void (*QK_NONNULL hadamard)(float *QK_NONNULL x, ptrdiff_t n, ptrdiff_t rows, float factor);
  // scores[r][position] for the blocks from..<to.
  void (*QK_NONNULL score)(const qk_latent_rows *QK_NONNULL rows,
                           const qk_latent_group *QK_NONNULL group, float *QK_NONNULL scores,
                           void *QK_NONNULL scratch);
  // The same by rebuilding keys; rows are floats of the head's width, head by head.
  void (*QK_NONNULL rebuild)(const qk_latent_rows *QK_NONNULL rows,
                             const qk_latent_group *QK_NONNULL group,
                             const qk_latent_rebuild *QK_NONNULL keys, float *QK_NONNULL scores,
                             void *QK_NONNULL scratch);
  // Turns scores into probabilities, zero in the blocks from..<to where a row sees nothing. Row r
  // is query r % queries. states[r * state_stride] gets the maximum, the next float the sum.
  void (*QK_NONNULL soften)(float *QK_NONNULL scores, ptrdiff_t rows, ptrdiff_t queries,
                            const qk_latent_seen *QK_NONNULL seen, ptrdiff_t from, ptrdiff_t to,
                            float soft_cap_log2e, float *QK_NONNULL states,
                            ptrdiff_t state_stride);
  // Outputs behind the states' headers: sum_t p_t x^_t over the blocks from..<to, padded width
  // floats. `exact` asks for floats.
  void (*QK_NONNULL weigh)(const float *QK_NONNULL probabilities, ptrdiff_t rows, int exact,
                           const qk_latent_group *QK_NONNULL group, float *QK_NONNULL states,
                           ptrdiff_t state_stride, void *QK_NONNULL scratch);
  // out[rows][n] = a[rows][k] x[k][n], each a chain over k in ascending order from 0; n a multiple
  // of 16, or out has room for the rest of 16 and x may be read so far.
  void (*QK_NONNULL product)(const float *QK_NONNULL a, ptrdiff_t a_stride, ptrdiff_t rows,
                             ptrdiff_t k, const float *QK_NONNULL x, ptrdiff_t x_stride,
                             ptrdiff_t n, float *QK_NONNULL out, ptrdiff_t out_stride);
} qk_latent_kernels;

// Bytes of scratch memory that `score`, `rebuild` and `weigh` need, aligned to 64.
ptrdiff_t qk_latent_scratch(ptrdiff_t rows, ptrdiff_t width, ptrdiff_t head_width);

// Writes a position's codes (or, of floats and halves, numbers) into a block.
void qk_latent_store_codes(qk_latent_type type, int is_value, const uint8_t *QK_NONNULL codes,
                           uint16_t scale, uint16_t minimum, ptrdiff_t width, ptrdiff_t position,
                           void *QK_NONNULL block);
void qk_latent_store_floats(qk_latent_type type, int is_value, const float *QK_NONNULL x,
                            ptrdiff_t width, ptrdiff_t position, void *QK_NONNULL block);
// Reads a position back: its codes, or of floats and halves nothing; its scale and minimum.
void qk_latent_load(qk_latent_type type, int is_value, const void *QK_NONNULL block,
                    ptrdiff_t width, ptrdiff_t position, uint8_t *QK_NULLABLE codes,
                    float *QK_NONNULL x);

// Codes as a plain stream of bits, code e at bit e b: ceil(n b / 8) bytes.
void qk_latent_pack_bits(const uint8_t *QK_NONNULL codes, ptrdiff_t n, int bits,
                         uint8_t *QK_NONNULL packed);
void qk_latent_unpack_bits(const uint8_t *QK_NONNULL packed, ptrdiff_t n, int bits,
                           uint8_t *QK_NONNULL codes);

// The kernels of a level, or of the highest runnable one below it.
const qk_latent_kernels *QK_NONNULL qk_latent_kernels_for(qk_isa isa);

#if defined(__x86_64__)
extern const qk_latent_kernels qk_latent__avx2;
extern const qk_latent_kernels qk_latent__avx512vnni;
#elif defined(__aarch64__)
extern const qk_latent_kernels qk_latent__neon;
#endif
extern const qk_latent_kernels qk_latent__scalar;

#endif
