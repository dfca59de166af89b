#ifndef QK_LOOKUP_H
#define QK_LOOKUP_H
// Ternary products by table lookup (the idea of TL1 and TL2 of bitnet.cpp, arXiv 2502.11880), for any shape: a byte
// shuffle takes the sum of a group of products from a table of the group's activations.
//
// Panels of 16 outputs follow one another; a panel is a sequence of units.
//   QK_TL1  version 1: a unit is 8 k, 32 bytes. Byte 16h + o holds output o's pairs h (low nibble) and 2 + h (high):
//           3·code + code of the pair's two k. 2 bits a weight.
//   QK_TL2  version 1: a unit is 24 k, 80 bytes. Byte 32v + 16h + o holds the magnitudes of output o's triples 4v + h
//           (low nibble) and 4v + 2 + h (high): |9a + 3b + c| of the three weights; then byte 64 + o holds output o's
//           signs, triple t's in bit 7 - t (1: negative). 1.67 bits a weight.
//   QK_TL1_FAST  the bytes of QK_TL1 with tables rounded to 8 bits: lossy.
// Columns are padded to whole units; activations there are 0, hence the tables too.
//
// Tables of one row, in the order in which units are read: for each vector of two groups, 32 bytes of low bytes, then
// 32 of high bytes of the 16-bit sums; QK_TL1_FAST has one plane of bytes.
//
// A lane of 16 bits takes every second group of a chunk of QK_LOOKUP_CHUNK k: 120 pairs · 256 = 30720; 80 triples · 384 =
// 30720; fast: 120 · 128 = 15360.
#include "qk_isa.h"

#include <stddef.h>
#include <stdint.h>

enum { QK_LOOKUP_CHUNK = 480 };

typedef enum qk_lookup_format { QK_TL1 = 0, QK_TL2 = 1, QK_TL1_FAST = 2, QK_LOOKUP_FORMATS = 3 } qk_lookup_format;

static inline size_t qk_lookup_unit_columns(qk_lookup_format format) { return format == QK_TL2 ? 24 : 8; }
static inline size_t qk_lookup_unit_bytes(qk_lookup_format format) { return format == QK_TL2 ? 80 : 32; }
// Bytes of a row's tables for one unit.
static inline size_t qk_lookup_table_bytes(qk_lookup_format format) {
  return format == QK_TL2 ? 256 : format == QK_TL1 ? 128 : 64;
}

typedef struct qk_lookup_args {
  const uint8_t *weights; // first panel
  size_t panel_stride;
  size_t panels;
  size_t units; // of a panel
  const uint8_t *tables;
  size_t table_stride; // bytes between the rows' tables
  size_t rows;
  const float *scales;  // [rows]: y = (float)sum · (w_scale / scale)
  const float *w_scale; // [16 · panels]
  float *y;             // y[row · y_stride + output]
  size_t y_stride;      // floats
  size_t outputs;       // to store
} qk_lookup_args;
typedef void (*qk_lookup_kernel)(const qk_lookup_args *args);

// The tables of one row of int8 activations, [units · unit columns], zero beyond the real ones. Returns what the scale
// of the row's products is multiplied by: 1, or for QK_TL1_FAST 127 / max(|a0| + |a1|), since an entry there is
// round-to-even(sum · that).
typedef float (*qk_lookup_build)(const int8_t *x, size_t units, uint8_t *tables);

typedef struct qk_lookup_table {
  qk_isa isa;
  qk_lookup_kernel matmul[QK_LOOKUP_FORMATS];
  qk_lookup_build build[QK_LOOKUP_FORMATS];
} qk_lookup_table;

// The kernels of a level, or NULL when this processor does not run it. AVX-512 has those of AVX2, i8mm those of
// dotprod.
const qk_lookup_table *qk_lookup_kernels(qk_isa isa);

static inline qk_lookup_kernel qk_lookup_entry(const qk_lookup_table *table, qk_lookup_format format) {
  return table->matmul[format];
}
static inline qk_lookup_build qk_lookup_build_entry(const qk_lookup_table *table, qk_lookup_format format) {
  return table->build[format];
}

#endif
