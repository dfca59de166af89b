#include "qk_vector.h"

#include "bodies/qk_vector_constants.h"
#include "qk_vector_math__scalar.h"

#include <math.h>

#pragma STDC FP_CONTRACT OFF

static void rms_norm(const float *x, const float *weight, float epsilon, float *y, ptrdiff_t n) {
  float lanes[16] = {0};
  for (ptrdiff_t i = 0; i < n; i++) lanes[i % 16] = fmaf(x[i], x[i], lanes[i % 16]);
  float mean = qk_sum16__scalar(lanes) / (float)n;
  float factor = 1.0f / sqrtf(mean + epsilon);
  for (ptrdiff_t i = 0; i < n; i++) y[i] = x[i] * factor * weight[i];
}

static void silu_multiply(const float *gate, const float *up, float *y, ptrdiff_t n) {
  for (ptrdiff_t i = 0; i < n; i++)
    y[i] = gate[i] / (1.0f + qk_exp__scalar(0.0f - gate[i])) * up[i];
}

static void gelu_multiply(const float *gate, const float *up, float *y, ptrdiff_t n) {
  for (ptrdiff_t i = 0; i < n; i++) {
    float x = gate[i];
    float u = fmaf(x * x * QK_GELU_CUBIC, x, x);
    y[i] = x / (1.0f + qk_exp__scalar(u * QK_GELU_FACTOR)) * up[i];
  }
}

static void squared_relu_multiply(const float *gate, const float *up, float *y, ptrdiff_t n) {
  for (ptrdiff_t i = 0; i < n; i++) {
    float r = 0.0f > gate[i] ? 0.0f : gate[i];
    y[i] = r * r * up[i];
  }
}

static void add(const float *x, float *y, ptrdiff_t n) {
  for (ptrdiff_t i = 0; i < n; i++) y[i] += x[i];
}

static void scale(float *x, float factor, ptrdiff_t n) {
  for (ptrdiff_t i = 0; i < n; i++) x[i] *= factor;
}

static void soft_cap(float *x, float cap, ptrdiff_t n) {
  for (ptrdiff_t i = 0; i < n; i++) x[i] = qk_tanh__scalar(x[i] / cap) * cap;
}

static void softmax(float *x, ptrdiff_t n) {
  if (n <= 0) return;
  float maximum = x[0];
  for (ptrdiff_t i = 1; i < n; i++) maximum = x[i] > maximum ? x[i] : maximum;
  float lanes[16] = {0};
  for (ptrdiff_t i = 0; i < n; i++) {
    x[i] = qk_exp__scalar(x[i] - maximum);
    lanes[i % 16] += x[i];
  }
  float sum = qk_sum16__scalar(lanes);
  for (ptrdiff_t i = 0; i < n; i++) x[i] /= sum;
}

static void rotate(float *a, float *b, float cos, float sin) {
  float x = *a, y = *b;
  *a = fmaf(x, cos, -(y * sin));
  *b = fmaf(y, cos, x * sin);
}

static void rotate_interleaved(float *x, ptrdiff_t heads, ptrdiff_t head_stride, ptrdiff_t pairs,
                               const float *cos, const float *sin) {
  for (ptrdiff_t h = 0; h < heads; h++)
    for (ptrdiff_t i = 0; i < pairs; i++) {
      float *p = x + h * head_stride + 2 * i;
      rotate(p, p + 1, cos[i], sin[i]);
    }
}

static void rotate_halves(float *x, ptrdiff_t heads, ptrdiff_t head_stride, ptrdiff_t pairs,
                          const float *cos, const float *sin) {
  for (ptrdiff_t h = 0; h < heads; h++)
    for (ptrdiff_t i = 0; i < pairs; i++) {
      float *p = x + h * head_stride + i;
      rotate(p, p + pairs, cos[i], sin[i]);
    }
}

static void half_to_float(const uint16_t *x, float *y, ptrdiff_t n) {
  for (ptrdiff_t i = 0; i < n; i++) y[i] = qk_half_to_float__scalar(x[i]);
}

static void float_to_half(const float *x, uint16_t *y, ptrdiff_t n) {
  for (ptrdiff_t i = 0; i < n; i++) y[i] = qk_float_to_half__scalar(x[i]);
}

static int all_within(const float *x, float limit, ptrdiff_t n) {
  int within = 1;
  for (ptrdiff_t i = 0; i < n; i++) within &= fabsf(x[i]) <= limit;
  return within;
}

const qk_vector_kernels qk_vector__scalar = {
    .rms_norm = rms_norm,
    .silu_multiply = silu_multiply,
    .gelu_multiply = gelu_multiply,
    .squared_relu_multiply = squared_relu_multiply,
    .add = add,
    .scale = scale,
    .soft_cap = soft_cap,
    .softmax = softmax,
    .rotate_interleaved = rotate_interleaved,
    .rotate_halves = rotate_halves,
    .half_to_float = half_to_float,
    .float_to_half = float_to_half,
    .all_within = all_within,
};
