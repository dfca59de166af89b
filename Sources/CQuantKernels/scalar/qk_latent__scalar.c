#include "qk_latent.h"

#include "bodies/qk_latent_common.h"

#pragma STDC FP_CONTRACT OFF

// The kernels of qk_latent.h one number at a time, by their definition.

static int quantize(const float *x, ptrdiff_t n, int bits, uint8_t *codes, uint16_t *scale,
                    uint16_t *minimum) {
  float low = INFINITY, high = -INFINITY;
  for (ptrdiff_t i = 0; i < n; i++) {
    if (!(fabsf(x[i]) <= 65504.0f)) return qk_latent_refuse(codes, n, scale, minimum);
    low = x[i] < low ? x[i] : low;
    high = x[i] > high ? x[i] : high;
  }
  const qk_latent_range range = qk_latent_range_of(low, high, bits);
  *scale = range.scale;
  *minimum = range.minimum;
  for (ptrdiff_t i = 0; i < n; i++)
    codes[i] = (uint8_t)rint(((double)x[i] - range.low) * range.inverse);
  return 1;
}

static void put_row(const float *x, ptrdiff_t n, ptrdiff_t padded, float most, int8_t *digits,
                    float *scale, int32_t *sum) {
  float inverse = most > 0 ? QK_LATENT_DIGITS / most : 0;
  if (!(inverse <= 3.0e38f)) inverse = 0;
  *scale = most / QK_LATENT_DIGITS;
  for (ptrdiff_t i = 0; i < padded; i++) {
    const int32_t q = i < n ? (int32_t)rintf(x[i] * inverse) : 0;
    const int32_t high = (q + 64) >> 7;
    digits[i / 4 * 8 + i % 4] = (int8_t)high;
    digits[i / 4 * 8 + 4 + i % 4] = (int8_t)(q - high * 128);
    *sum += q;
  }
}

static void digits(const float *x, ptrdiff_t n, ptrdiff_t padded, int8_t *digits, float *scale,
                   float *sum) {
  float most = 0;
  for (ptrdiff_t i = 0; i < n; i++) {
    if (!(fabsf(x[i]) < INFINITY)) {
      memset(digits, 0, 2 * (size_t)padded);
      *scale = *sum = NAN;
      return;
    }
    most = fabsf(x[i]) > most ? fabsf(x[i]) : most;
  }
  int32_t total = 0;
  put_row(x, n, padded, most, digits, scale, &total);
  *sum = (float)total * *scale;
}

static void hadamard(float *x, ptrdiff_t n, ptrdiff_t rows, float factor) {
  for (ptrdiff_t r = 0; r < rows; r++, x += n) {
    for (ptrdiff_t half = 1; half < n; half *= 2)
      for (ptrdiff_t i = 0; i < n; i++) {
        if (i & half) continue;
        const float a = x[i], b = x[i + half];
        x[i] = a + b;
        x[i + half] = a - b;
      }
    for (ptrdiff_t i = 0; i < n; i++) x[i] *= factor;
  }
}

static void product(const float *a, ptrdiff_t a_stride, ptrdiff_t rows, ptrdiff_t k,
                    const float *x, ptrdiff_t x_stride, ptrdiff_t n, float *out,
                    ptrdiff_t out_stride) {
  for (ptrdiff_t r = 0; r < rows; r++)
    for (ptrdiff_t j = 0; j < (n + 15) / 16 * 16; j++) {
      float sum = 0;
      for (ptrdiff_t i = 0; i < k; i++) sum = fmaf(a[r * a_stride + i], x[i * x_stride + j], sum);
      out[r * out_stride + j] = sum;
    }
}

// Keys of a block, [width][16]: codes, or numbers.
static void widen_keys(const qk_latent_group *group, const void *block, float *x,
                       ptrdiff_t stride) {
  uint8_t units[QK_LATENT_CHUNK_BYTES];
  for (ptrdiff_t e = 0; e < group->width; e++) {
    if (group->type > QK_LATENT_HALF && e % QK_LATENT_CHUNK == 0)
      qk_latent_chunk(group->type, 0, block, group->width, e / QK_LATENT_CHUNK, units);
    for (ptrdiff_t p = 0; p < 16; p++)
      x[e * stride + p] =
          group->type == QK_LATENT_FLOAT  ? ((const float *)block)[e * 16 + p]
          : group->type == QK_LATENT_HALF ? qk_half_to_float__scalar(
                                                ((const uint16_t *)block)[e * 16 + p])
                                          : units[qk_latent_at(0, e % QK_LATENT_CHUNK, p)];
  }
}

static int32_t digit(const int8_t *digits, ptrdiff_t i) {
  return 128 * digits[i / 4 * 8 + i % 4] + digits[i / 4 * 8 + 4 + i % 4];
}

static void score(const qk_latent_rows *rows, const qk_latent_group *group, float *scores,
                  void *scratch) {
  const ptrdiff_t width = group->width, padded = qk_latent_padded(width);
  qk_latent_parts parts;
  qk_latent_parts_of(&parts, scratch, rows->rows, width, 0);
  for (ptrdiff_t b = group->from; b < group->to; b++) {
    widen_keys(group, group->blocks[b], parts.numbers, QK_LATENT_BLOCK);
    const uint16_t *header = (const uint16_t *)group->blocks[b];
    for (ptrdiff_t r = 0; r < rows->rows; r++)
      for (ptrdiff_t p = 0; p < QK_LATENT_BLOCK; p++) {
        float dots = 0;
        if (rows->digits != NULL) {
          int32_t sum = 0;
          for (ptrdiff_t e = 0; e < width; e++)
            sum += digit(rows->digits + r * 2 * padded, e) * (int32_t)parts.numbers[e * 16 + p];
          dots = (float)sum * rows->scales[r];
        } else {
          for (ptrdiff_t e = 0; e < width; e++)
            dots = fmaf(rows->floats[r * rows->stride + e], parts.numbers[e * 16 + p], dots);
        }
        if (group->type > QK_LATENT_HALF)
          dots = fmaf(qk_half_to_float__scalar(header[p]), dots,
                      qk_half_to_float__scalar(header[QK_LATENT_BLOCK + p]) * rows->sums[r]);
        scores[r * QK_LATENT_PARTITION + b * QK_LATENT_BLOCK + p] = dots;
      }
  }
}

static void rebuild(const qk_latent_rows *rows, const qk_latent_group *group,
                    const qk_latent_rebuild *keys, float *scores, void *scratch) {
  const ptrdiff_t width = group->width, d = keys->head_width, pairs = keys->pairs;
  qk_latent_parts parts;
  qk_latent_parts_of(&parts, scratch, rows->rows, width, d);
  for (ptrdiff_t b = group->from; b < group->to; b++) {
    widen_keys(group, group->blocks[b], parts.numbers, QK_LATENT_BLOCK);
    const uint16_t *header = (const uint16_t *)group->blocks[b];
    if (group->type > QK_LATENT_HALF)
      for (ptrdiff_t i = 0; i < 16 * width; i++)
        parts.numbers[i] =
            fmaf(qk_half_to_float__scalar(header[i % 16]), parts.numbers[i],
                 qk_half_to_float__scalar(header[QK_LATENT_BLOCK + i % 16]));
    for (ptrdiff_t head = 0; head < keys->heads; head++) {
      product(keys->up + head * d * width, width, d, width, parts.numbers, 16, 16, parts.keys, 16);
      if (keys->bias != NULL)
        for (ptrdiff_t i = 0; i < 16 * d; i++) parts.keys[i] += keys->bias[head * d + i / 16];
      for (ptrdiff_t i = 0; i < pairs; i++)
        for (ptrdiff_t p = 0; p < 16; p++) {
          float *a = parts.keys + (keys->interleaved ? 2 * i : i) * 16 + p;
          float *c = parts.keys + (keys->interleaved ? 2 * i + 1 : pairs + i) * 16 + p;
          const float block_cos = keys->block_cos[b * pairs + i];
          const float block_sin = keys->block_sin[b * pairs + i];
          const float cosine = keys->cos[i * 16 + p], sine = keys->sin[i * 16 + p];
          const float cos = fmaf(-block_sin, sine, block_cos * cosine);
          const float sin = fmaf(block_cos, sine, block_sin * cosine);
          const float x = *a, y = *c;
          *a = fmaf(-y, sin, x * cos);
          *c = fmaf(x, sin, y * cos);
        }
      const ptrdiff_t row = head * keys->rows_per_head;
      product(rows->floats + row * rows->stride, rows->stride, keys->rows_per_head, d, parts.keys,
              16, 16, scores + row * QK_LATENT_PARTITION + b * QK_LATENT_BLOCK,
              QK_LATENT_PARTITION);
    }
  }
}

static void soften(float *scores, ptrdiff_t rows, ptrdiff_t queries, const qk_latent_seen *seen,
                   ptrdiff_t from, ptrdiff_t to, float soft_cap_log2e, float *states,
                   ptrdiff_t state_stride) {
  for (ptrdiff_t r = 0; r < rows; r++, scores += QK_LATENT_PARTITION, states += state_stride) {
    const qk_latent_seen row = seen[r % queries];
    float maximum = -INFINITY, lanes[16] = {0};
    for (ptrdiff_t i = from * QK_LATENT_BLOCK; i < to * QK_LATENT_BLOCK; i++) {
      if (i < row.low || i >= row.high) continue;
      if (soft_cap_log2e != 0.0f) scores[i] = qk_tanh__scalar(scores[i]) * soft_cap_log2e;
      maximum = scores[i] > maximum ? scores[i] : maximum;
    }
    for (ptrdiff_t i = from * QK_LATENT_BLOCK; i < to * QK_LATENT_BLOCK; i++) {
      if (i < row.low || i >= row.high) scores[i] = 0;
      else scores[i] = qk_exp2_nonpositive__scalar(scores[i] - maximum);
      lanes[i % 16] += scores[i];
    }
    states[0] = maximum;
    states[1] = qk_sum16__scalar(lanes);
  }
}

// Chunk c of a block of values, [16][32]: codes, or numbers.
static void widen_values(const qk_latent_group *group, const void *block, ptrdiff_t c, float *x) {
  uint8_t units[QK_LATENT_CHUNK_BYTES];
  const ptrdiff_t width = group->width;
  const int is_coded = group->type > QK_LATENT_HALF;
  if (is_coded) qk_latent_chunk(group->type, 1, block, width, c, units);
  for (ptrdiff_t p = 0; p < 16; p++)
    for (ptrdiff_t e = 0; e < QK_LATENT_CHUNK; e++, x++) {
      const ptrdiff_t at = p * width + c * QK_LATENT_CHUNK + e;
      *x = 0;
      if (c * QK_LATENT_CHUNK + e >= width) continue;
      if (is_coded) *x = units[qk_latent_at(1, e, p)];
      else if (!qk_latent_is_lost(group->type, block, width, p))
        *x = group->type == QK_LATENT_FLOAT
                 ? ((const float *)block)[at]
                 : qk_half_to_float__scalar(((const uint16_t *)block)[at]);
    }
}

static void weigh(const float *probabilities, ptrdiff_t rows, int exact,
                  const qk_latent_group *group, float *states, ptrdiff_t state_stride,
                  void *scratch) {
  const ptrdiff_t width = group->width, first = group->from * QK_LATENT_BLOCK;
  const ptrdiff_t count = (group->to - group->from) * QK_LATENT_BLOCK;
  qk_latent_parts parts;
  qk_latent_parts_of(&parts, scratch, rows, width, 0);
  for (ptrdiff_t r = 0; r < rows; r++) {
    const float *p = probabilities + r * QK_LATENT_PARTITION + first;
    float *w = parts.weights + r * QK_LATENT_PARTITION;
    float lanes[16] = {0}, most = 0;
    for (ptrdiff_t i = 0; i < count; i++) {
      const uint16_t *header = (const uint16_t *)group->blocks[group->from + i / 16];
      float scale = 1, minimum = 0;
      if (group->type > QK_LATENT_HALF) {
        scale = qk_half_to_float__scalar(header[i % 16]);
        minimum = qk_half_to_float__scalar(header[QK_LATENT_BLOCK + i % 16]);
      } else if (qk_latent_is_lost(group->type, header, width, i % 16)) {
        minimum = NAN;
      }
      w[i] = p[i] * scale;
      most = w[i] > most ? w[i] : most;
      if (p[i] != 0) lanes[i % 16] += p[i] * minimum;
    }
    parts.sums[r] = qk_sum16__scalar(lanes);
    int32_t total = 0;
    if (exact) continue;
    parts.scales[r] = 0;
    int8_t *row = parts.digits + r * 2 * count;
    if (parts.sums[r] == parts.sums[r])
      put_row(w, count, count, most, row, &parts.scales[r], &total);
    else
      memset(row, 0, 2 * (size_t)count);
  }
  for (ptrdiff_t c = 0; c * QK_LATENT_CHUNK < width; c++) {
    for (ptrdiff_t b = group->from; b < group->to; b++)
      widen_values(group, group->blocks[b], c,
                   parts.numbers + (b - group->from) * QK_LATENT_CHUNK_BYTES);
    for (ptrdiff_t r = 0; r < rows; r++)
      for (ptrdiff_t e = 0; e < QK_LATENT_CHUNK; e++) {
        float *output = states + r * state_stride + QK_LATENT_STATE_HEADER + c * QK_LATENT_CHUNK + e;
        const float *x = parts.numbers + e;
        if (exact) {
          float sum = 0;
          for (ptrdiff_t i = 0; i < count; i++)
            sum = fmaf(parts.weights[r * QK_LATENT_PARTITION + i], x[i * QK_LATENT_CHUNK], sum);
          *output = sum + parts.sums[r];
        } else {
          int32_t sum = 0;
          for (ptrdiff_t i = 0; i < count; i++)
            sum += digit(parts.digits + r * 2 * count, i) * (int32_t)x[i * QK_LATENT_CHUNK];
          *output = fmaf((float)sum, parts.scales[r], parts.sums[r]);
        }
      }
  }
}

const qk_latent_kernels qk_latent__scalar = {
    .quantize = quantize,
    .digits = digits,
    .hadamard = hadamard,
    .score = score,
    .rebuild = rebuild,
    .soften = soften,
    .weigh = weigh,
    .product = product,
};
