#ifndef QK_TERNARY_H
#define QK_TERNARY_H
// Products of ternary weights and int8 activations (BitNet b1.58), exact integers.
//
// A weight w in {-1, 0, 1} is stored as its code w + 1. With a the activations' codes,
//   dot = Σ code·a - Σ a,   y = (float)dot · (w_scale / x_scale)
// where both operations on floats round once, in this order, on every level.
//
// Panels of 16 outputs follow one another; a panel is a sequence of vectors of QK_PANEL · step bytes,
// step the k that the level multiplies at once (4; 8 for NEON smmla), [16 outputs][step k]:
//   QK_T2  version 1: byte j of vector v holds the codes of steps 4v … 4v + 3 in bits 0-1, 2-3, 4-5, 6-7:
//          2 bits a weight
//   QK_T5  version 1: byte j of vector v holds the codes t0 … t4 of steps 5v … 5v + 4 as the fraction
//          b = ceil(256/243 · Σ t_i 3^(4-i)), stored as b xor 128: 1.6 bits a weight. A panel begins with
//          16 int32, Σ w of each output over all of the panel's k (64 bytes).
// Multiplying the fraction b by 3 modulo 256 drops its first digit, which is (3b) >> 8. xor 128 is -128 modulo
// 256, and 3·(b - 128) = 3b - 128 modulo 256: the stored form is multiplied alike, and compares as signed.
// Columns are padded to whole vectors. Activations there are 0, so that no code of the padding matters.
//
// Overflow: |Σ code·a| ≤ 2·128·K, so that int32 holds it for K ≤ QK_TERNARY_MAX_COLUMNS.
#include "qk_isa.h"

#include <stddef.h>
#include <stdint.h>

enum {
  QK_TERNARY_PANEL = 16,
  // Steps of a chunk, the k after which partial sums are widened to 32 bits. 16-bit lanes take the pair sums
  // of 64 steps of plain codes: 2·2·-128·64 = -32768 and 2·2·127·64 = 32512. 60 is the largest count below that is a
  // multiple of the 4 steps of a QK_T2 and the 5 of a QK_T5 vector.
  QK_TERNARY_STEPS = 60,
  // Panels that a kernel may sum at a time.
  QK_TERNARY_SUMS = 2,
  QK_TERNARY_MAX_COLUMNS = (1 << 23) - 1,
};

typedef enum qk_ternary_format { QK_T2 = 0, QK_T5 = 1, QK_TERNARY_FORMATS = 2 } qk_ternary_format;

// k steps that a byte holds.
static inline int qk_ternary_steps(qk_ternary_format format) { return format == QK_T2 ? 4 : 5; }
// Bytes before a panel's vectors.
static inline int qk_ternary_head(qk_ternary_format format) { return format == QK_T2 ? 0 : 64; }

// Activation codes of a block of rows: [chunks][rows][chunk], chunk = QK_TERNARY_STEPS · step, so that a chunk of
// all rows is one stretch. The last chunk is filled with zeros.
typedef struct qk_ternary_args {
  const uint8_t *weights; // first panel
  size_t panel_stride;    // bytes between panels
  size_t panels;
  size_t vectors; // of a panel
  const int8_t *x;
  size_t rows;
  const int32_t *x_sum;  // [rows] Σ a
  const float *x_scale;  // [rows] 127 / max|x|
  const float *w_scale;  // [16 · panels]
  float *y;              // y[row · y_stride + output]
  size_t y_stride;       // floats
  size_t outputs;        // to store, ≤ 16 · panels
  int32_t *sums;         // scratch, [rows][QK_TERNARY_SUMS][16]
} qk_ternary_args;
typedef void (*qk_ternary_kernel)(const qk_ternary_args *args);

// One row of activations: scale = fl(127 / max(max|x|, 1e-5)), code = round to even of fl(x · scale), within
// -128 … 127. A row with NaN or infinity gets scale NaN and codes 0, so that its products are all NaN.
typedef struct qk_ternary_quantize_args {
  const float *x;
  size_t columns;
  size_t chunks;
  int8_t *codes;       // of the row in the first chunk
  size_t chunk_stride; // bytes between the row's chunks
  int32_t *sum;
  float *scale;
} qk_ternary_quantize_args;
typedef void (*qk_ternary_quantize_kernel)(const qk_ternary_quantize_args *args);

// A lossy product with the activations of llama.cpp's TQ types, Q8_K: blocks of 256 columns with a scale each. With m
// the first element of the largest magnitude of a block,
//   s = fl(-127 / m)   d = fl(1 / s)   code = round to even of fl(s · x), at most 127
// and d = 0, codes 0 for a block of zeros. Codes are within -127 … 127, as |x| ≤ |m| keeps fl(s · x) below 127.5. Beyond
// llama.cpp's, a block with NaN, infinity or an m whose s is none (below 2^-121) gets d = NaN or 0: a damaged block
// makes its row's products NaN, a negligible one counts as zeros. A row's products are
//   y = (((0 + fl(dot_0 · fl(d_0 · w_scale))) + fl(dot_1 · fl(d_1 · w_scale))) + …
// in the order of blocks, each operation rounded. Weights are QK_T2 panels. The last block may be short.
enum { QK_Q8K_COLUMNS = 256 };
typedef struct qk_ternary_blocks_args {
  const uint8_t *weights; // first panel
  size_t panel_stride;
  size_t panels;
  size_t vectors;       // of a panel
  const int8_t *x;      // [blocks][rows][256], zeros beyond the columns
  size_t rows;
  const int32_t *x_sum; // [blocks][rows] Σ a
  const float *x_scale; // [blocks][rows] d
  const float *w_scale; // [16 · panels]
  float *y;             // y[row · y_stride + output]
  size_t y_stride;
  size_t outputs; // to store, ≤ 16 · panels
  int32_t *sums;  // scratch, [rows][16]
  float *totals;  // scratch, [rows][16]
} qk_ternary_blocks_args;
typedef void (*qk_ternary_blocks_kernel)(const qk_ternary_blocks_args *args);

// One row of activations as Q8_K.
typedef struct qk_q8k_quantize_args {
  const float *x;
  size_t columns;
  int8_t *codes;       // of the row in the first block
  size_t block_stride; // bytes between the row's blocks
  int32_t *sums;       // of the row in the first block
  float *scales;       // likewise
  size_t group_stride; // elements between the row's blocks
} qk_q8k_quantize_args;
typedef void (*qk_q8k_quantize_kernel)(const qk_q8k_quantize_args *args);

typedef struct qk_ternary_table {
  qk_isa isa;
  int step; // k
  qk_ternary_kernel matmul[QK_TERNARY_FORMATS];
  qk_ternary_quantize_kernel quantize;
  qk_ternary_blocks_kernel matmul_blocks;
  qk_q8k_quantize_kernel quantize_blocks;
} qk_ternary_table;

// The kernels of a level, or NULL when this processor does not run it.
const qk_ternary_table *qk_ternary_kernels(qk_isa isa);

static inline qk_ternary_kernel qk_ternary_entry(const qk_ternary_table *table, qk_ternary_format format) {
  return table->matmul[format];
}

#endif
