#include "qk_attention.h"

#include "qk_vector_math__scalar.h"

#include <math.h>
#include <string.h>

#pragma STDC FP_CONTRACT OFF

static void prepare(const float *source, ptrdiff_t source_stride, float factor, ptrdiff_t positions,
                    ptrdiff_t rows_per_position, ptrdiff_t head_dimension, ptrdiff_t value_stride,
                    float *queries, float *states) {
  for (ptrdiff_t t = 0; t < positions; t++)
    for (ptrdiff_t i = 0; i < rows_per_position * head_dimension; i++)
      *queries++ = source[t * source_stride + i] * factor;
  ptrdiff_t stride = QK_ATTENTION_STATE_HEADER + value_stride;
  memset(states, 0, (size_t)(positions * rows_per_position * stride) * sizeof(float));
  for (ptrdiff_t r = 0; r < positions * rows_per_position; r++) states[r * stride] = -INFINITY;
}

// state = state * 2^(maximum - new) + (maximum, sum, output) * 2^(...), new the larger maximum.
static void merge_one(float *state, float maximum, float sum, const float *output,
                      ptrdiff_t value_stride) {
  float top = state[0] > maximum ? state[0] : maximum;
  float a = qk_exp2_nonpositive__scalar(state[0] - top);
  float b = qk_exp2_nonpositive__scalar(maximum - top);
  state[0] = top;
  state[1] = fmaf(sum, b, state[1] * a);
  float *o = state + QK_ATTENTION_STATE_HEADER;
  for (ptrdiff_t k = 0; k < value_stride; k++) o[k] = fmaf(output[k], b, o[k] * a);
}

typedef float (*read_element)(const void *base, ptrdiff_t index);

static float read_float(const void *base, ptrdiff_t index) { return ((const float *)base)[index]; }

static float read_half(const void *base, ptrdiff_t index) {
  return qk_half_to_float__scalar(((const uint16_t *)base)[index]);
}

static void partition_row(const qk_attention_rows *rows, ptrdiff_t r, ptrdiff_t start,
                          const void *keys, const void *values, read_element read) {
  ptrdiff_t position = rows->first_position + r / rows->rows_per_position;
  ptrdiff_t low = rows->window > 0 ? position - rows->window + 1 - start : 0;
  ptrdiff_t high = position + 1 - start;
  if (low < 0) low = 0;
  if (high > QK_ATTENTION_PARTITION) high = QK_ATTENTION_PARTITION;
  if (low >= high) return;

  const ptrdiff_t d = rows->head_dimension;
  const float *q = rows->queries + r * d;
  float *p = rows->scores;
  float maximum = -INFINITY;
  for (ptrdiff_t j = low; j < high; j++) {
    float s = 0.0f;
    for (ptrdiff_t k = 0; k < d; k++) s = fmaf(q[k], read(keys, (j / 16 * d + k) * 16 + j % 16), s);
    if (rows->soft_cap_log2e != 0.0f) s = qk_tanh__scalar(s) * rows->soft_cap_log2e;
    p[j] = s;
    maximum = s > maximum ? s : maximum;
  }
  float lanes[16] = {0};
  for (ptrdiff_t j = low; j < high; j++) {
    p[j] = qk_exp2_nonpositive__scalar(p[j] - maximum);
    lanes[j % 16] += p[j];
  }
  float sum = qk_sum16__scalar(lanes);

  // Column by column, so that no room for a partial output is needed.
  float *state = rows->states + r * (QK_ATTENTION_STATE_HEADER + rows->value_stride);
  float top = state[0] > maximum ? state[0] : maximum;
  float a = qk_exp2_nonpositive__scalar(state[0] - top);
  float b = qk_exp2_nonpositive__scalar(maximum - top);
  state[0] = top;
  state[1] = fmaf(sum, b, state[1] * a);
  float *o = state + QK_ATTENTION_STATE_HEADER;
  for (ptrdiff_t k = 0; k < rows->value_stride; k++) {
    float x = 0.0f;
    for (ptrdiff_t j = low; j < high; j++)
      x = fmaf(p[j], read(values, j * rows->value_stride + k), x);
    o[k] = fmaf(x, b, o[k] * a);
  }
}

static void partition_float(const qk_attention_rows *rows, ptrdiff_t start, const float *keys,
                            const float *values) {
  for (ptrdiff_t r = 0; r < rows->rows; r++)
    partition_row(rows, r, start, keys, values, read_float);
}

static void partition_half(const qk_attention_rows *rows, ptrdiff_t start, const uint16_t *keys,
                           const uint16_t *values) {
  for (ptrdiff_t r = 0; r < rows->rows; r++)
    partition_row(rows, r, start, keys, values, read_half);
}

static void merge(float *states, const float *later, ptrdiff_t rows, ptrdiff_t value_stride) {
  ptrdiff_t stride = QK_ATTENTION_STATE_HEADER + value_stride;
  for (ptrdiff_t r = 0; r < rows; r++, states += stride, later += stride)
    if (later[1] != 0.0f)  // else these rows saw nothing there
      merge_one(states, later[0], later[1], later + QK_ATTENTION_STATE_HEADER, value_stride);
}

static void finish(const float *states, ptrdiff_t positions, ptrdiff_t rows_per_position,
                   ptrdiff_t head_dimension, ptrdiff_t value_stride, float *output,
                   ptrdiff_t output_stride) {
  for (ptrdiff_t t = 0; t < positions; t++)
    for (ptrdiff_t g = 0; g < rows_per_position; g++) {
      // + 0: a masked key may have turned a negative zero positive.
      for (ptrdiff_t k = 0; k < head_dimension; k++)
        output[t * output_stride + g * head_dimension + k] =
            states[QK_ATTENTION_STATE_HEADER + k] / states[1] + 0.0f;
      states += QK_ATTENTION_STATE_HEADER + value_stride;
    }
}

static void store_float(const float *source_keys, const float *source_values,
                        ptrdiff_t source_stride, ptrdiff_t position, ptrdiff_t count,
                        ptrdiff_t head_dimension, ptrdiff_t value_stride, float *keys,
                        float *values) {
  for (ptrdiff_t t = 0; t < count; t++) {
    ptrdiff_t j = position + t;
    for (ptrdiff_t k = 0; k < head_dimension; k++) {
      keys[(j / 16 * head_dimension + k) * 16 + j % 16] = source_keys[t * source_stride + k];
      values[j * value_stride + k] = source_values[t * source_stride + k];
    }
  }
}

static void store_half(const float *source_keys, const float *source_values,
                       ptrdiff_t source_stride, ptrdiff_t position, ptrdiff_t count,
                       ptrdiff_t head_dimension, ptrdiff_t value_stride, uint16_t *keys,
                       uint16_t *values) {
  for (ptrdiff_t t = 0; t < count; t++) {
    ptrdiff_t j = position + t;
    for (ptrdiff_t k = 0; k < head_dimension; k++) {
      keys[(j / 16 * head_dimension + k) * 16 + j % 16] =
          qk_float_to_half__scalar(source_keys[t * source_stride + k]);
      values[j * value_stride + k] = qk_float_to_half__scalar(source_values[t * source_stride + k]);
    }
  }
}

const qk_attention_kernels qk_attention__scalar = {
    .prepare = prepare,
    .partition_float = partition_float,
    .partition_half = partition_half,
    .merge = merge,
    .finish = finish,
    .store_float = store_float,
    .store_half = store_half,
};
