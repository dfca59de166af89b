#ifndef QK_MATMUL_H
#define QK_MATMUL_H

#include <stddef.h>
#include <stdint.h>

#include "qk_isa.h"

// Packed weights. A *panel* holds 16 outputs (rows of the weight matrix) over all of K; panels follow
// one another. A panel is a sequence of *blocks*, one a quantisation group, each with its scales (the
// head) right before its codes, so that a product with one row reads one forward stream.
//
// Codes of 32 consecutive k are eight *steps* of 4 k. A step is 64 bytes, [16 outputs][4 k]: the operand
// of one AVX-512 vpdpbusd, two AVX2 vpmaddubsw or four NEON sdot. 4-bit codes pair steps 2v and 2v+1 in
// the low and high nibbles of vector v (256 bytes for 32 k). The level of NEON smmla has four steps of 8 k, 128 bytes,
// [16 outputs][8 k], and pairs them alike; planes of further bits count 64 bytes of 8-bit codes as a step on every level,
// and lie before the nibbles that they complete, so that a row's loads go forward.
enum {
  QK_PANEL = 16, // outputs in a panel: the 32-bit lanes of a 512-bit register
  QK_GROUP = 32, // k in an activation group
};

// s: scale, m: minimum, z: integer zero point; h: binary16, f: float32, b: byte. [n] lists stand in the head.
typedef enum qk_format {
  QK_INT4_H = 0, // code - 8;  s h[16]
  QK_INT4_HM,    // s·code + m; s h[16], m h[16]
  QK_INT4_HZ,    // s·(code - z); s h[16], z b[16]
  QK_INT4_F,     // as QK_INT4_H, s f[16]
  QK_INT4_FM,    // as QK_INT4_HM, floats
  QK_INT4_FZ,    // as QK_INT4_HZ, s f[16]
  QK_INT8_H,     // code - 128, codes 8 bits (512 bytes for 32 k); s h[16]
  QK_UINT8_HM,   // s·code + m, codes 8 bits; s h[16], m h[16]
  QK_Q4_K,       // 256 k: 8 × 256 codes; head d h[16], dmin h[16], scales b[8][16], mins b[8][16]
  QK_Q5_K,       // 256 k: 8 × (64 fifth bits: bit s of byte j belongs to step s, 256 codes); head as Q4_K
  QK_Q6_K,       // 256 k: 8 × 2 × (64 high pairs: step i at bits 2i, 128 codes); head d h[16], scales b[16][16]
  QK_F16,        // dense: [k][16 outputs] of h, no head; the activations are floats
  QK_BF16,       // the same of bfloat16
  QK_F32,        // the same of f
  QK_PLAIN_S,    // unpacked: 8-bit codes (512 bytes for 32 k) as the level likes them, integer zero in x_init; s f[16]
  QK_PLAIN_A,    // unpacked: s f[16], m f[16]
  QK_PLAIN_6,    // unpacked Q6_K: s f[2][16] for the halves of 16 k
  QK_PLAIN_S4,   // QK_PLAIN_S of 4-bit codes, for levels that add up small products in fewer bits
  QK_PLAIN_A4,   // QK_PLAIN_A of 4-bit codes
  QK_PLAIN_A5,   // QK_PLAIN_A of 5-bit codes
  QK_FORMATS
} qk_format;

// Bytes of a block's head: its scales, minimums and zero points, in the order of the list above.
static inline size_t qk_head_bytes(qk_format format) {
  switch (format) {
  case QK_INT4_H:
  case QK_INT8_H: return 32;
  case QK_INT4_HM:
  case QK_UINT8_HM:
  case QK_INT4_F:
  case QK_PLAIN_S:
  case QK_PLAIN_S4: return 64;
  case QK_INT4_HZ: return 48;
  case QK_INT4_FZ: return 80;
  case QK_INT4_FM:
  case QK_PLAIN_A:
  case QK_PLAIN_A4:
  case QK_PLAIN_A5:
  case QK_PLAIN_6: return 128;
  case QK_Q4_K:
  case QK_Q5_K: return 64 + 256;
  case QK_Q6_K: return 32 + 256;
  default: return 0;
  }
}

// Bytes of the codes of 32 k of a panel.
static inline size_t qk_subgroup_bytes(qk_format format) {
  switch (format) {
  case QK_INT8_H:
  case QK_UINT8_HM:
  case QK_PLAIN_S:
  case QK_PLAIN_A:
  case QK_PLAIN_6:
  case QK_PLAIN_S4:
  case QK_PLAIN_A4:
  case QK_PLAIN_A5: return 512;
  case QK_Q5_K: return 320;
  case QK_F16:
  case QK_BF16: return 1024;
  case QK_F32: return 2048;
  case QK_Q6_K: return 384;
  default: return 256;
  }
}

// Where byte `byte` of a subgroup's nibbles lies, and the plane of the further bits of step `step`.
static inline size_t qk_nibble_at(qk_format format, size_t byte) {
  return byte + (format == QK_Q5_K ? 64 : format == QK_Q6_K ? 64 * (1 + byte / 128) : 0);
}
static inline size_t qk_plane_at(qk_format format, size_t step) {
  return format == QK_Q6_K ? 192 * (step / 4) : 0;
}

// Bytes of a block of `subgroups` × 32 k of a panel.
static inline size_t qk_block_bytes(qk_format format, size_t subgroups) {
  return qk_head_bytes(format) + subgroups * qk_subgroup_bytes(format);
}

// What codes of a format are stored above, hence the start of its integers: -zero·Σcodes of the activations. Formats
// with a minimum have none; -128 for them lets a level that multiplies signed bytes start 8-bit codes at 128·Σcodes.
static inline int32_t qk_zero(qk_format format) {
  switch (format) {
  case QK_INT4_H:
  case QK_INT4_F: return 8;
  case QK_INT8_H: return 128;
  case QK_Q6_K: return 32;
  default: return -128;
  }
}

// Activations of one tile of up to 16 rows, int8 per group of 32, in the steps of the level (4 or 8 k).
// codes [K/step][rows][step], scale [K/32][rows], sum [blocks][rows] (Σ over the block of scale·Σcodes, group by group),
// init [K/32][rows] = -zero·Σcodes (for QK_Q6_K and QK_PLAIN_6 [K/32][2][rows], a value for each 16 k), with qk_zero of
// the format that was unpacked for QK_PLAIN_*.
typedef struct qk_matmul_args {
  const uint8_t *weights; // first panel
  size_t panel_stride;    // bytes between panels
  size_t panels;          // panels to compute
  size_t blocks;          // blocks in a panel
  size_t subgroups;       // 32-groups in a block (8 for K-quants)
  const int8_t *x;
  const float *x_scale;
  const float *x_sum;
  const int32_t *x_init;
  const float *x_float; // dense formats: [K][rows], instead of the four arrays above
  size_t x_rows;   // rows of the tile: stride of the arrays above
  float *y;        // y[row · y_stride + output]
  size_t y_stride; // floats
  size_t outputs;  // outputs to store, ≤ 16 · panels; the last panel may be partly padding
  size_t prefetch; // bytes ahead of the weights to prefetch, 0 for none
} qk_matmul_args;

typedef void (*qk_matmul_kernel)(const qk_matmul_args *args);

// Weights of one panel, unpacked to QK_PLAIN_*: `blocks` blocks.
typedef void (*qk_unpack_kernel)(const uint8_t *panel, size_t blocks, size_t subgroups, uint8_t *plain);

// Weights of one panel as float32 [k][16]: blocks [first, first + blocks).
typedef void (*qk_dequantize_kernel)(const uint8_t *panel, size_t blocks, size_t subgroups, float *values);

// y[row][16 outputs] (+)= Σ_k x[row][k] · w[k][16], ascending k, one fused multiply-add each.
typedef struct qk_float_args {
  const float *weights; // [depth][16]
  size_t depth;
  const float *x; // [depth][x_rows]
  size_t x_rows;
  float *y; // [rows][16]
} qk_float_args;
typedef void (*qk_float_kernel)(const qk_float_args *args);

// Quantises `rows` rows (≤ 16, `x_stride` floats apart) of `groups` × 32 values (`columns` of them real, the rest
// zero) into the arrays of qk_matmul_args. scale = max|x| / 127, code = round-to-even(x · 127 / max|x|); a group
// with NaN or infinity has scale NaN, one with max|x| < 2^-100 has scale 0. `halves`: init per 16 k.
typedef struct qk_quantize_args {
  const float *x;
  size_t x_stride;
  size_t rows;
  size_t columns;
  size_t groups;
  size_t subgroups; // groups whose sums are added up in `sum`
  int32_t zero;
  int32_t halves;
  int8_t *codes;
  float *scale;
  float *sum;
  int32_t *initial;
} qk_quantize_args;
typedef void (*qk_quantize_kernel)(const qk_quantize_args *args);

// Tile heights for which kernels exist, in descending order: 16, 8, 4, 2, 1.
enum { QK_HEIGHTS = 5 };

typedef struct qk_matmul_table {
  qk_isa isa;
  int step;         // k of a row that stand together in the activations' codes
  int plain_panels; // unpacked panels that are worth keeping together, where they take at most
  int plain_bytes;  // so many bytes of a level-2 cache
  int plain_height; // height at which unpacked panels are fastest
  int row_prefetch; // bytes ahead that a product with few rows prefetches best, 0 for none
  qk_matmul_kernel matmul[QK_FORMATS][QK_HEIGHTS];
  qk_unpack_kernel unpack[QK_FORMATS];
  qk_dequantize_kernel dequantize[QK_FORMATS];
  qk_float_kernel float_matmul[QK_HEIGHTS];
  qk_quantize_kernel quantize;
} qk_matmul_table;

// [rows][columns], rows `x_stride` floats apart → [columns][rows].
void qk_transpose(const float *x, size_t x_stride, size_t rows, size_t columns, float *out);

// The kernels of a level, or NULL when this processor does not run it.
const qk_matmul_table *qk_matmul_kernels(qk_isa isa);

// Entries of a table; `height` is one of 16, 8, 4, 2, 1.
static inline int qk_height_index(size_t height) { return height >= 16 ? 0 : height >= 8 ? 1 : height >= 4 ? 2 : height >= 2 ? 3 : 4; }
static inline qk_matmul_kernel qk_matmul_entry(const qk_matmul_table *table, qk_format format, size_t height) {
  return table->matmul[format][qk_height_index(height)];
}
static inline qk_unpack_kernel qk_unpack_entry(const qk_matmul_table *table, qk_format format) {
  return table->unpack[format];
}
static inline qk_dequantize_kernel qk_dequantize_entry(const qk_matmul_table *table, qk_format format) {
  return table->dequantize[format];
}
static inline qk_float_kernel qk_float_entry(const qk_matmul_table *table, size_t height) {
  return table->float_matmul[qk_height_index(height)];
}

// The unpacked form of a format.
static inline qk_format qk_plain_format(qk_format format) {
  switch (format) {
  case QK_INT4_H:
  case QK_INT4_F: return QK_PLAIN_S4;
  case QK_INT8_H: return QK_PLAIN_S;
  case QK_UINT8_HM: return QK_PLAIN_A;
  case QK_Q5_K: return QK_PLAIN_A5;
  case QK_Q6_K: return QK_PLAIN_6;
  default: return QK_PLAIN_A4;
  }
}

#endif
