#ifndef CDEVICEMODELNPU_H
#define CDEVICEMODELNPU_H

// Inner loops of the simulated NPU; not API. Everything is trusted: the Swift side checks sizes first.

#include <stddef.h>
#include <stdint.h>

// Fractals: a matrix is stored in 16×16 blocks, blocks column by column, each block row by row. `rows16` is the number
// of rows rounded up to 16.

// Row-major halves to fractals: rows × columns from `source` (pitch in elements) to `target` at `first_row`. Rows and
// columns that fill the last blocks up are left alone.
void cdm_npu_pack(uint16_t *target, size_t rows16, size_t first_row, const uint16_t *source, size_t pitch, size_t rows,
                  size_t columns);
// A rows × columns part of one fractal matrix from (row, column) on, to the start of another; transposed it becomes
// columns × rows.
void cdm_npu_move(uint16_t *target, size_t target_rows16, const uint16_t *source, size_t source_rows16, size_t row,
                  size_t column, size_t rows, size_t columns, int transposed);
// C (m × n float32) = or += A (m × k) · B (n × k)ᵀ, all in fractals. Products are exact in float32 and are added in
// ascending k, each sum rounded once. `scratch` holds (m + n) · k floats.
void cdm_npu_mmad(const uint16_t *a, size_t a_rows16, const uint16_t *b, size_t b_rows16, float *c, size_t c_rows16,
                  size_t m, size_t n, size_t k, int accumulate, float *scratch);
// A part of a float32 fractal matrix to row-major float32 (half = 0) or binary16 (half = 1); pitch in elements.
void cdm_npu_unpack(void *target, size_t pitch, int half, const float *source, size_t rows16, size_t row, size_t column,
                    size_t rows, size_t columns);

typedef enum cdm_npu_op {
  CDM_NPU_SCALE,        // a · scalar
  CDM_NPU_ADD,          // a + b
  CDM_NPU_SUBTRACT,     // a − b
  CDM_NPU_MULTIPLY,     // a · b
  CDM_NPU_DIVIDE,       // a / b
  CDM_NPU_MAXIMUM,      // the larger
  CDM_NPU_EXPONENTIAL,  // eᵃ
  CDM_NPU_LOGARITHM,    // ln a
  CDM_NPU_CEILING,      // the least integer that is not less
  CDM_NPU_POWER_OF_TWO, // 2ᵃ, by integer moves when a is an integer
  CDM_NPU_ADD_EXPONENT, // a · 2ᵇ by adding b to the exponent field; zero when it leaves the normal numbers
  CDM_NPU_ZERO_INFINITY, // 0 where a is −∞, else a
  CDM_NPU_ONE_ZERO,     // 1 where a is 0, else a
} cdm_npu_op;

// Element by element on rows × columns of float32. b is nullptr, a matrix of b_pitch (b_row = 0), or one value a row
// (b_row = 1). Target and a may be the same memory.
void cdm_npu_vector(cdm_npu_op op, float *target, size_t target_pitch, const float *a, size_t a_pitch, const float *b,
                    size_t b_pitch, int b_row, float scalar, size_t rows, size_t columns);
// The largest value or the sum of each row: lanes of each 64 columns first, then over these (by_repeats), or the other
// way round.
void cdm_npu_reduce(int sum, int by_repeats, float *target, const float *a, size_t a_pitch, size_t rows, size_t columns);
// −∞ where masked. Row i masks columns j > i + delta, or with `complement` j <= i + delta.
void cdm_npu_mask_compare(float *target, size_t pitch, size_t rows, size_t columns, int64_t delta, int complement);
// −∞ where the byte is not 0, or with `complement` where it is.
void cdm_npu_mask_bytes(float *target, size_t pitch, const uint8_t *mask, size_t mask_pitch, size_t rows, size_t columns,
                        int complement);
// float32 to binary16, rounded to nearest even, and back; pitches in elements.
void cdm_npu_to_half(uint16_t *target, size_t target_pitch, const float *a, size_t a_pitch, size_t rows, size_t columns);
void cdm_npu_from_half(float *target, size_t target_pitch, const uint16_t *a, size_t a_pitch, size_t rows,
                       size_t columns);

#endif
