// Random weights and activations in canonical form, a packer and the expected results, all written from the words of
// qk_matmul.h and from the float expression above the kernels' body, sharing no code with either.
#ifndef QK_MATMUL_REFERENCE_H
#define QK_MATMUL_REFERENCE_H
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "driver_support.h"
#include "qk_matmul.h"

#pragma STDC FP_CONTRACT OFF

enum { ROWS = 16, OUTPUTS = 40, PANELS = 3, MAX_K = 768 };

// MARK: Weights in canonical form

static const char *const format_names[QK_FORMATS] = {
    "INT4_H", "INT4_HM", "INT4_HZ", "INT4_F", "INT4_FM", "INT4_FZ", "INT8_H", "UINT8_HM", "Q4_K",
    "Q5_K",   "Q6_K",    "F16",     "BF16",   "F32",     "PLAIN_S", "PLAIN_A", "PLAIN_6",
    "PLAIN_S4", "PLAIN_A4", "PLAIN_A5"};

static int is_dense(int f) { return f == QK_F16 || f == QK_BF16 || f == QK_F32; }
static int is_kquant(int f) { return f == QK_Q4_K || f == QK_Q5_K || f == QK_Q6_K; }
static int scale_is_float(int f) { return f == QK_INT4_F || f == QK_INT4_FM || f == QK_INT4_FZ; }
static int code_bits(int f) {
  return f == QK_INT8_H || f == QK_UINT8_HM ? 8 : f == QK_Q5_K ? 5 : f == QK_Q6_K ? 6 : 4;
}

typedef struct weights {
  int format;
  size_t blocks, subgroups, k;
  uint8_t code[OUTPUTS][MAX_K];
  uint16_t half_scale[OUTPUTS][MAX_K / 32], half_minimum[OUTPUTS][MAX_K / 32]; // by block
  float scale[OUTPUTS][MAX_K / 32], minimum[OUTPUTS][MAX_K / 32];             // by block
  uint8_t zero[OUTPUTS][MAX_K / 32];                                          // by block
  uint8_t small_scale[OUTPUTS][MAX_K / 16], small_minimum[OUTPUTS][MAX_K / 32];
  float dense[OUTPUTS][MAX_K];
  uint32_t dense_bits[OUTPUTS][MAX_K];
} weights;

static float half_value(uint16_t h) {
  const int exponent = h >> 10 & 31, fraction = h & 1023;
  const float magnitude = exponent == 31 ? (fraction ? NAN : INFINITY)
                          : exponent     ? ldexpf((float)(1024 + fraction), exponent - 25)
                                         : ldexpf((float)fraction, -24);
  return h & 0x8000 ? -magnitude : magnitude;
}

// Finite halves of every exponent, the subnormal ones included; weights of a model are mostly near 2^-7.
static uint16_t random_half(void) {
  const uint16_t h = (uint16_t)next();
  if (next() % 4 == 0) return h % 31744 | (h & 0x8000);
  return (uint16_t)((h & 0x83ff) | (6 + next() % 4) << 10);
}

static void make_weights(weights *w, int format, size_t blocks, size_t subgroups) {
  memset(w, 0, sizeof *w);
  w->format = format, w->blocks = blocks, w->subgroups = subgroups, w->k = blocks * subgroups * 32;
  for (size_t n = 0; n < OUTPUTS; n++) {
    for (size_t k = 0; k < w->k; k++) {
      // The first outputs hold one extreme code throughout, which overflows kernels that saturate.
      const unsigned top = (1u << code_bits(format)) - 1;
      w->code[n][k] = (uint8_t)(n == 0 ? top : n == 1 ? 0 : n == 2 ? (top + 1) / 2 : next() & top);
      uint32_t bits;
      float value = unit();
      if (format == QK_F16) {
        bits = random_half();
        value = half_value((uint16_t)bits);
      } else {
        memcpy(&bits, &value, 4);
        if (format == QK_BF16) {
          bits &= 0xffff0000u;
          memcpy(&value, &bits, 4);
          bits >>= 16;
        }
      }
      w->dense[n][k] = value;
      w->dense_bits[n][k] = bits;
    }
    for (size_t b = 0; b < blocks; b++) {
      w->half_scale[n][b] = random_half(), w->half_minimum[n][b] = random_half();
      w->scale[n][b] = scale_is_float(format) ? unit() / 8 : half_value(w->half_scale[n][b]);
      w->minimum[n][b] = format == QK_INT4_FM ? unit() : half_value(w->half_minimum[n][b]);
      w->zero[n][b] = next() & 15;
    }
    for (size_t i = 0; i < w->k / 16; i++) w->small_scale[n][i] = (uint8_t)next();
    for (size_t i = 0; i < w->k / 32; i++) w->small_minimum[n][i] = next() & 63;
    if (format != QK_Q6_K)
      for (size_t i = 0; i < w->k / 16; i++) w->small_scale[n][i] &= 63;
  }
}

// MARK: Packing, from the words of qk_matmul.h

static void put16(uint8_t *at, uint16_t v) { at[0] = (uint8_t)v, at[1] = (uint8_t)(v >> 8); }

static void pack_block(const weights *w, size_t n, size_t b, size_t step_k, uint8_t *block) {
  const int f = w->format;
  const size_t lane = n % 16;
  uint8_t *codes = block + qk_head_bytes((qk_format)f);
  const size_t group_bytes = qk_subgroup_bytes((qk_format)f);
  size_t at = 0; // end of the head's lists so far
  if (scale_is_float(f)) {
    memcpy(block + 4 * lane, &w->scale[n][b], 4);
    at = 64;
  } else {
    put16(block + 2 * lane, w->half_scale[n][b]);
    at = 32;
  }
  if (f == QK_INT4_HM || f == QK_UINT8_HM || f == QK_Q4_K || f == QK_Q5_K) {
    put16(block + at + 2 * lane, w->half_minimum[n][b]);
    at += 32;
  }
  if (f == QK_INT4_FM) memcpy(block + at + 4 * lane, &w->minimum[n][b], 4);
  if (f == QK_INT4_HZ || f == QK_INT4_FZ) block[at + lane] = w->zero[n][b];
  for (size_t sub = 0; sub < w->subgroups; sub++) {
    const size_t group = b * w->subgroups + sub;
    uint8_t *p = codes + sub * group_bytes;
    if (f == QK_Q4_K || f == QK_Q5_K) {
      block[at + 16 * sub + lane] = w->small_scale[n][group];
      block[at + 128 + 16 * sub + lane] = w->small_minimum[n][group];
    }
    if (f == QK_Q6_K)
      for (size_t half = 0; half < 2; half++)
        block[at + 16 * (2 * sub + half) + lane] = w->small_scale[n][2 * group + half];
    for (size_t k = 0; k < 32; k++) {
      const uint8_t code = w->code[n][group * 32 + k];
      const size_t step = k / step_k;
      const size_t inside = lane * step_k + k % step_k;  // [16 outputs][step_k]
      const size_t byte = step * 16 * step_k + inside;   // of 8-bit codes
      if (code_bits(f) == 8) {
        p[byte] = code;
        continue;
      }
      // A plane of further bits, then the nibbles that it completes.
      const size_t plane_step = byte / 64, place = byte % 64;
      const size_t nibble = step / 2 * 16 * step_k + inside;
      const size_t before = f == QK_Q5_K ? 64 : f == QK_Q6_K ? 64 + nibble / 128 * 64 : 0;
      p[before + nibble] |= (uint8_t)((code & 15) << 4 * (step % 2));
      if (f == QK_Q5_K) p[place] |= (uint8_t)((code >> 4) << plane_step);
      if (f == QK_Q6_K) p[192 * (plane_step / 4) + place] |= (uint8_t)((code >> 4) << 2 * (plane_step % 4));
    }
  }
}

static guarded pack(const weights *w, size_t step_k) {
  const int f = w->format;
  const size_t block_bytes = qk_block_bytes((qk_format)f, w->subgroups);
  const size_t stride = w->blocks * block_bytes;
  guarded g = reserve(PANELS * stride);
  for (size_t n = 0; n < OUTPUTS; n++) {
    uint8_t *panel = g.bytes + n / 16 * stride;
    if (is_dense(f)) {
      const size_t size = f == QK_F32 ? 4 : 2; // little-endian, as both architectures are
      for (size_t k = 0; k < w->k; k++) memcpy(panel + size * (16 * k + n % 16), &w->dense_bits[n][k], size);
    } else {
      for (size_t b = 0; b < w->blocks; b++) pack_block(w, n, b, step_k, panel + b * block_bytes);
    }
  }
  return g;
}

// MARK: The reference

// Scale and minimum that fall on 16 consecutive k, rounded as the kernels' one expression rounds them.
static float scale_of(const weights *w, size_t n, size_t sixteenth) {
  const size_t group = sixteenth / 2, block = group / w->subgroups;
  if (w->format == QK_Q6_K) return w->scale[n][block] * (float)(int8_t)w->small_scale[n][sixteenth];
  if (is_kquant(w->format)) return w->scale[n][block] * (float)w->small_scale[n][group];
  return w->scale[n][block];
}
static float minimum_of(const weights *w, size_t n, size_t group) {
  const size_t block = group / w->subgroups;
  switch (w->format) {
  case QK_INT4_HM:
  case QK_UINT8_HM:
  case QK_INT4_FM: return w->minimum[n][block];
  case QK_INT4_HZ:
  case QK_INT4_FZ: return -(w->scale[n][block] * (float)w->zero[n][block]);
  case QK_Q4_K:
  case QK_Q5_K: return -(w->minimum[n][block] * (float)w->small_minimum[n][group]);
  default: return 0;
  }
}
static int has_minimum(int f) { return f != QK_INT4_H && f != QK_INT4_F && f != QK_INT8_H && f != QK_Q6_K; }
static int offset_of(int f) {
  return f == QK_INT4_H || f == QK_INT4_F ? 8 : f == QK_INT8_H ? 128 : f == QK_Q6_K ? 32 : 0;
}

static float dequantized(const weights *w, size_t n, size_t k) {
  const int f = w->format;
  if (is_dense(f)) return w->dense[n][k];
  const float s = scale_of(w, n, k / 16);
  const size_t block = k / 32 / w->subgroups;
  if (f == QK_INT4_HZ || f == QK_INT4_FZ) return ((float)w->code[n][k] - (float)w->zero[n][block]) * s;
  if (!has_minimum(f)) return (float)(w->code[n][k] - offset_of(f)) * s;
  return (float)w->code[n][k] * s + minimum_of(w, n, k / 32);
}

typedef struct activations {
  size_t columns, k; // `columns` real values, zeros up to k
  float x[ROWS][MAX_K];
  int8_t code[ROWS][MAX_K];
  float scale[ROWS][MAX_K / 32];
} activations;

static void make_activations(activations *a, size_t columns, size_t k, int special) {
  memset(a, 0, sizeof *a);
  a->columns = columns, a->k = k;
  for (size_t i = 0; i < ROWS; i++)
    for (size_t j = 0; j < columns; j++) {
      // Rows 0 and 1 quantize to ±127 throughout, the largest dot products that there are.
      a->x[i][j] = i == 0 ? 3 : i == 1 ? -3 : (float)(unit() * pow(2, (double)(next() % 12)));
      if (special && i == 4 && j == 40) a->x[i][j] = NAN;
      if (special && i == 5 && j == 70) a->x[i][j] = -INFINITY;
      if (special && i == 6) a->x[i][j] = j < 64 ? 0x1p-120f : -0.0f;
      if (special && i == 7) a->x[i][j] = (float)((int)(j % 255) - 127) + (j % 2 ? 0.5f : 0); // ties
    }
  for (size_t i = 0; i < ROWS; i++)
    for (size_t g = 0; g < k / 32; g++) {
      float top = 0;
      int broken = 0;
      for (size_t j = g * 32; j < g * 32 + 32; j++) {
        if (!isfinite(a->x[i][j])) broken = 1;
        top = fmaxf(top, fabsf(a->x[i][j]));
      }
      const int tiny = top < 0x1p-100f;
      a->scale[i][g] = broken ? NAN : tiny ? 0 : top / 127;
      const float inverse = broken || tiny ? 0 : 127 / top;
      for (size_t j = g * 32; j < g * 32 + 32; j++)
        a->code[i][j] = broken ? 0 : (int8_t)nearbyintf(a->x[i][j] * inverse);
    }
}

static int32_t code_sum(const activations *a, size_t i, size_t first, size_t count) {
  int32_t sum = 0;
  for (size_t j = first; j < first + count; j++) sum += a->code[i][j];
  return sum;
}

// Σ of scale · Σcodes over `count` groups, group by group.
static float scaled_sum(const activations *a, size_t i, size_t first, size_t count) {
  float sum = 0;
  for (size_t g = first; g < first + count; g++) {
    const float part = a->scale[i][g] * (float)code_sum(a, i, 32 * g, 32);
    sum = g == first ? part : sum + part;
  }
  return sum;
}

static int32_t integer_dot(const weights *w, const activations *a, size_t i, size_t n, size_t first, size_t count) {
  int32_t dot = 0;
  for (size_t j = first; j < first + count; j++) dot += (w->code[n][j] - offset_of(w->format)) * a->code[i][j];
  return dot;
}

// The float expression that stands above the kernels' body.
static float expected(const weights *w, const activations *a, size_t i, size_t n) {
  float y = 0;
  if (is_dense(w->format)) {
    for (size_t k = 0; k < w->k; k++) y = fmaf(w->dense[n][k], a->x[i][k], y);
    return y;
  }
  const size_t together = is_kquant(w->format) ? 1 : w->subgroups;
  for (size_t g = 0; g < w->k / 32; g += together) {
    if (w->format == QK_Q6_K) {
      const float low = (float)integer_dot(w, a, i, n, 32 * g, 16) * scale_of(w, n, 2 * g);
      const float both = fmaf((float)integer_dot(w, a, i, n, 32 * g + 16, 16), scale_of(w, n, 2 * g + 1), low);
      y = fmaf(both, a->scale[i][g], y);
      continue;
    }
    float t = 0;
    for (size_t s = g; s < g + together; s++) {
      const float dot = (float)integer_dot(w, a, i, n, 32 * s, 32);
      t = s == g ? dot * a->scale[i][s] : fmaf(dot, a->scale[i][s], t);
    }
    y = fmaf(t, scale_of(w, n, 2 * g), y);
    if (has_minimum(w->format)) y = fmaf(minimum_of(w, n, g), scaled_sum(a, i, g, together), y);
  }
  return y;
}

#endif
