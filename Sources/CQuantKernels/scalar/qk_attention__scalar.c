#include "qk_attention.h"

#include "bodies/qk_attention_common.h"

#include <math.h>
#include <string.h>

#pragma STDC FP_CONTRACT OFF

// The nearest integer, to even; 0 where that is none of 16 bits: a row with NaN.
static int32_t round_integer(float x) {
  return fabsf(x) < QK_MOST_INTEGER + 0.5f ? (int32_t)nearbyintf(x) : 0;
}

static void prepare_integers(const float *source, float factor, ptrdiff_t width, float *query) {
  float top = 0, poisoned = 0;
  for (ptrdiff_t i = 0; i < width; i++) {
    const float x = fabsf(source[i] * factor);
    top = top > x ? top : x;
    poisoned += x * 0.0f;  // NaN if x is not finite
  }
  query[0] = top / QK_MOST_INTEGER + poisoned;
  const float integers = qk_integer_factor(top);
  int32_t *sums = (int32_t *)(query + QK_ATTENTION_QUERY_HEADER);
  int16_t *codes = (int16_t *)(query + qk_query_codes(width));
  for (ptrdiff_t g = 0; g < qk_groups(width); g++) {
    sums[g] = 0;
    for (ptrdiff_t i = g * QK_ATTENTION_GROUP; i < (g + 1) * QK_ATTENTION_GROUP; i++) {
      codes[i] = i < width ? (int16_t)round_integer(source[i] * factor * integers) : 0;
      sums[g] += codes[i];
    }
  }
}

static void prepare(qk_kv_type type, const float *source, ptrdiff_t source_stride, float factor,
                    ptrdiff_t positions, ptrdiff_t rows_per_position, ptrdiff_t key_width,
                    ptrdiff_t value_stride, float *queries, float *states) {
  for (ptrdiff_t t = 0; t < positions; t++)
    for (ptrdiff_t r = 0; r < rows_per_position; r++) {
      const float *row = source + t * source_stride + r * key_width;
      if (qk_is_quantized(type))
        prepare_integers(row, factor, key_width, queries);
      else
        for (ptrdiff_t i = 0; i < key_width; i++) queries[i] = row[i] * factor;
      queries += qk_query_stride(type, key_width);
    }
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

static int sees(const qk_attention_rows *rows, ptrdiff_t query, int64_t key) {
  const qk_attention_range seen = rows->seen[query];
  if (key < seen.low || key >= seen.high) return 0;
  return rows->mask == NULL ||
         (rows->mask[query * rows->mask_words + key / 64] >> (key % 64) & 1) != 0;
}

// Of a query with key p of a block.
static float score(qk_kv_type type, const float *q, ptrdiff_t d, const void *block, ptrdiff_t p) {
  float s = 0.0f;
  if (!qk_is_quantized(type)) {
    for (ptrdiff_t i = 0; i < d; i++) s = fmaf(q[i], qk_kv_read(type, block, d, p, i, 0), s);
    return s;
  }
  const int16_t *integers = (const int16_t *)(q + qk_query_codes(d));
  const uint8_t *codes = (const uint8_t *)block + qk_scale_bytes(d);
  for (ptrdiff_t g = 0; g < qk_groups(d); g++) {
    int32_t sum = 0;
    for (ptrdiff_t i = g * QK_ATTENTION_GROUP; i < d && i < (g + 1) * QK_ATTENTION_GROUP; i++)
      sum += integers[i] * qk_read_code(type, codes, qk_place_of(type, p, i, 0));
    s = fmaf((float)sum, qk_half_to_float__scalar(((const uint16_t *)block)[g * 16 + p]), s);
  }
  return s * q[0];
}

// o = o * a + (sum of p v) * b, of a partition; p is zero where a key is not seen.
static void weigh_integers(qk_kv_type type, const float *p, const void *const *values,
                           ptrdiff_t stride, float a, float b, float *o) {
  for (ptrdiff_t g = 0; g < qk_groups(stride); g++) {
    float top = 0;
    int32_t weights[QK_ATTENTION_PARTITION];
    for (int pass = 0; pass < 2; pass++)
      for (ptrdiff_t j = 0; j < QK_ATTENTION_PARTITION; j++) {
        weights[j] = 0;
        if (p[j] == 0) continue;
        const uint16_t scale = ((const uint16_t *)values[j / 16])[g * 16 + j % 16];
        const float x = p[j] * qk_half_to_float__scalar(scale);
        if (pass == 0)
          top = top > fabsf(x) ? top : fabsf(x);
        else
          weights[j] = round_integer(x * qk_integer_factor(top));
      }
    for (ptrdiff_t e = g * QK_ATTENTION_GROUP; e < stride && e < (g + 1) * QK_ATTENTION_GROUP;
         e++) {
      int32_t sum = 0;
      for (ptrdiff_t j = 0; j < QK_ATTENTION_PARTITION; j++)
        if (weights[j] != 0) {
          const uint8_t *codes = (const uint8_t *)values[j / 16] + qk_scale_bytes(stride);
          sum += weights[j] * qk_read_code(type, codes, qk_place_of(type, j % 16, e, 1));
        }
      o[e] = fmaf((float)sum * (top / QK_MOST_INTEGER), b, o[e] * a);
    }
  }
}

static void partition_row(qk_kv_type type, const qk_attention_rows *rows, ptrdiff_t r,
                          int64_t start, const void *const *keys, const void *const *values) {
  const ptrdiff_t query = r / rows->rows_per_position;
  const ptrdiff_t d = rows->key_width, stride = rows->value_stride;
  const float *q = rows->queries + r * qk_query_stride(type, d);
  float *p = rows->scores;
  float maximum = -INFINITY;
  int any = 0;
  for (ptrdiff_t j = 0; j < QK_ATTENTION_PARTITION; j++) {
    p[j] = -INFINITY;
    if (!sees(rows, query, start + j)) continue;
    any = 1;
    float s = score(type, q, d, keys[j / 16], j % 16);
    if (rows->soft_cap_log2e != 0.0f) s = qk_tanh__scalar(s) * rows->soft_cap_log2e;
    if (rows->slopes != NULL)
      s = fmaf(rows->slopes[r % rows->rows_per_position],
               (float)(start - rows->positions[query] + j), s);
    p[j] = s;
    maximum = s > maximum ? s : maximum;
  }
  if (!any) return;
  float lanes[16] = {0};
  for (ptrdiff_t j = 0; j < QK_ATTENTION_PARTITION; j++) {
    if (!sees(rows, query, start + j)) {
      p[j] = 0;
      continue;
    }
    p[j] = qk_exp2_nonpositive__scalar(p[j] - maximum);
    lanes[j % 16] += p[j];
  }
  float sum = qk_sum16__scalar(lanes);

  // Column by column, so that no room for a partial output is needed.
  float *state = rows->states + r * (QK_ATTENTION_STATE_HEADER + stride);
  float top = state[0] > maximum ? state[0] : maximum;
  float a = qk_exp2_nonpositive__scalar(state[0] - top);
  float b = qk_exp2_nonpositive__scalar(maximum - top);
  state[0] = top;
  state[1] = fmaf(sum, b, state[1] * a);
  float *o = state + QK_ATTENTION_STATE_HEADER;
  if (qk_is_quantized(type)) {
    weigh_integers(type, p, values, stride, a, b, o);
    return;
  }
  for (ptrdiff_t e = 0; e < stride; e++) {
    float x = 0.0f;
    for (ptrdiff_t j = 0; j < QK_ATTENTION_PARTITION; j++)
      if (sees(rows, query, start + j))
        x = fmaf(p[j], qk_kv_read(type, values[j / 16], stride, j % 16, e, 1), x);
    o[e] = fmaf(x, b, o[e] * a);
  }
}

static void merge(float *states, const float *later, ptrdiff_t rows, ptrdiff_t value_stride) {
  ptrdiff_t stride = QK_ATTENTION_STATE_HEADER + value_stride;
  for (ptrdiff_t r = 0; r < rows; r++, states += stride, later += stride) {
    if (later[1] == 0.0f) continue;  // these rows saw nothing there
    if (states[1] == 0.0f)           // or nothing before
      memcpy(states, later, (size_t)stride * sizeof(float));
    else
      merge_one(states, later[0], later[1], later + QK_ATTENTION_STATE_HEADER, value_stride);
  }
}

static void finish(const float *states, ptrdiff_t positions, ptrdiff_t rows_per_position,
                   ptrdiff_t value_width, ptrdiff_t value_stride, const float *sinks,
                   float *output, ptrdiff_t output_stride, float *logarithms,
                   ptrdiff_t logarithm_stride) {
  for (ptrdiff_t t = 0; t < positions; t++)
    for (ptrdiff_t g = 0; g < rows_per_position; g++) {
      float maximum = states[0], sum = states[1], factor = 1.0f;
      if (sinks != NULL) {
        maximum = maximum > sinks[g] ? maximum : sinks[g];
        factor = qk_exp2_nonpositive__scalar(states[0] - maximum);
        sum = fmaf(1.0f, qk_exp2_nonpositive__scalar(sinks[g] - maximum), sum * factor);
      }
      if (logarithms != NULL) logarithms[t * logarithm_stride + g] = qk_logarithm(maximum, sum);
      // + 0: a masked key may have turned a negative zero positive.
      for (ptrdiff_t k = 0; k < value_width; k++)
        output[t * output_stride + g * value_width + k] =
            states[QK_ATTENTION_STATE_HEADER + k] * factor / (sum == 0.0f ? 1.0f : sum) + 0.0f;
      states += QK_ATTENTION_STATE_HEADER + value_stride;
    }
}

static void store_QK_KV_HALF(const float *keys, ptrdiff_t key_stride, const float *values,
                             ptrdiff_t values_stride, ptrdiff_t first, ptrdiff_t count,
                             ptrdiff_t key_width, ptrdiff_t value_width, void *key_block,
                             void *value_block) {
  const ptrdiff_t stride = qk_value_stride(value_width);
  for (ptrdiff_t p = first; p < first + count; p++, keys += key_stride, values += values_stride) {
    for (ptrdiff_t i = 0; i < key_width; i++)
      ((uint16_t *)key_block)[i * 16 + p] = qk_float_to_half__scalar(keys[i]);
    for (ptrdiff_t i = 0; i < value_width; i++)
      ((uint16_t *)value_block)[p * stride + i] = qk_float_to_half__scalar(values[i]);
  }
}

#define QK_TYPE(type)                                                                            \
  static void partition_##type(const qk_attention_rows *rows, int64_t start,                     \
                               const void *const *keys, const void *const *values) {             \
    for (ptrdiff_t r = 0; r < rows->rows; r++) partition_row(type, rows, r, start, keys, values); \
  }
QK_TYPE(QK_KV_FLOAT)
QK_TYPE(QK_KV_HALF)
QK_TYPE(QK_KV_BRAIN)
QK_TYPE(QK_KV_Q8)
QK_TYPE(QK_KV_Q4)

#define QK_WIDEN(type)                                                                           \
  static void widen_##type(const void *key_block, const void *value_block, ptrdiff_t d,          \
                           ptrdiff_t stride, float *keys, float *values) {                       \
    for (ptrdiff_t i = 0; i < 16 * d; i++)                                                       \
      keys[i] = qk_kv_read(type, key_block, d, i % 16, i / 16, 0);                               \
    for (ptrdiff_t i = 0; i < 16 * stride; i++)                                                  \
      values[i] = qk_kv_read(type, value_block, stride, i / stride, i % stride, 1);              \
  }
QK_WIDEN(QK_KV_HALF)
QK_WIDEN(QK_KV_BRAIN)

#define QK_EACH(stem)                                                                            \
  {stem##_QK_KV_FLOAT, stem##_QK_KV_HALF, stem##_QK_KV_BRAIN, stem##_QK_KV_Q8, stem##_QK_KV_Q4}
const qk_attention_kernels qk_attention__scalar = {
    .prepare = prepare,
    .partition = QK_EACH(partition),
    .merge = merge,
    .finish = finish,
    .store = QK_EACH(store),
    .widen_half = widen_QK_KV_HALF,
    .widen_brain = widen_QK_KV_BRAIN,
};
