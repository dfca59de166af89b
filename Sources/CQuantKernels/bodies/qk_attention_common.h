#ifndef QK_ATTENTION_COMMON_H
#define QK_ATTENTION_COMMON_H
// What the levels of attention share: how blocks of keys and values are written, and read one element
// at a time: one definition for every level, but for half precision, which the levels convert by
// their own instruction. Writing
// is a small part of any run: each number once, where attention reads it again and again.
#include "qk_attention.h"
#include "scalar/qk_vector_math__scalar.h"

#include <math.h>
#include <string.h>

// Code of a group's element: of Q8_0, the magnitude rounded, ties away from zero; of Q4_0, truncated
// after adding a half, as ggml's reference quantizers do.
typedef struct qk_group_codes {
  uint16_t scale;
  int8_t codes[QK_ATTENTION_GROUP];
} qk_group_codes;

static inline qk_group_codes qk_kv_quantize(qk_kv_type type, const float *x, ptrdiff_t count) {
  float top = 0, extreme = 0;
  for (ptrdiff_t i = 0; i < count; i++)
    if (fabsf(x[i]) > top) top = fabsf(x[i]), extreme = x[i];
  const float scale = type == QK_KV_Q8 ? top / 127 : extreme / -8;
  const float inverse = scale != 0 ? 1 / scale : 0;
  qk_group_codes group = {qk_float_to_half__scalar(scale), {0}};
  for (ptrdiff_t i = 0; i < count; i++) {
    if (type == QK_KV_Q8) {
      group.codes[i] = (int8_t)roundf(x[i] * inverse);
    } else {
      const int code = (int)(x[i] * inverse + 8.5f);
      group.codes[i] = (int8_t)(code > 15 ? 15 : code);
    }
  }
  return group;
}

static inline uint16_t qk_brain(float x) {
  uint32_t bits;
  memcpy(&bits, &x, 4);
  return (uint16_t)((bits + 0x7FFF + (bits >> 16 & 1)) >> 16); // to nearest even; x is finite
}

static inline float qk_brain_float(uint16_t brain) {
  const uint32_t bits = (uint32_t)brain << 16;
  float x;
  memcpy(&x, &bits, 4);
  return x;
}

// Bytes of the scales of a block, which its codes follow; and of 16 lanes of codes of `count` that
// are summed, a multiple of what a unit holds.
static inline ptrdiff_t qk_scale_bytes(ptrdiff_t width) { return 32 * qk_groups(width); }
static inline ptrdiff_t qk_code_bytes(qk_kv_type type, ptrdiff_t count) {
  return (type == QK_KV_Q8 ? 16 : 8) * count;
}

// Where the code of a lane (0...15) and the number `at` of those that are summed lies after the
// first, and with 4 bits by how much it is shifted.
typedef struct qk_code_place {
  ptrdiff_t byte;
  int shift;
} qk_code_place;

static inline qk_code_place qk_place_code(qk_kv_type type, ptrdiff_t lane, ptrdiff_t at) {
  const ptrdiff_t half = lane * 2 + at % 2;
  if (type == QK_KV_Q8) return (qk_code_place){at / 2 * 32 + half, 0};
  const ptrdiff_t nibble = at % 8 / 2;
  return (qk_code_place){at / 8 * 64 + half * 2 + nibble / 2, (int)(nibble % 2 * 4)};
}

// Of element i of position p, from the start of a block's codes.
static inline qk_code_place qk_place_of(qk_kv_type type, ptrdiff_t p, ptrdiff_t i, int is_value) {
  if (!is_value) return qk_place_code(type, p, i);
  qk_code_place place = qk_place_code(type, i % 16, p);
  place.byte += i / 16 * qk_code_bytes(type, 16);
  return place;
}

// The integer of a code.
static inline int qk_read_code(qk_kv_type type, const uint8_t *codes, qk_code_place place) {
  const uint8_t byte = codes[place.byte];
  return type == QK_KV_Q8 ? (int8_t)byte : (byte >> place.shift & 15) - 8;
}

static inline void qk_store_quantized(qk_kv_type type, const float *x, ptrdiff_t width, ptrdiff_t p,
                                      int is_value, void *block) {
  uint16_t *scales = (uint16_t *)block;
  uint8_t *codes = (uint8_t *)block + qk_scale_bytes(is_value ? qk_value_stride(width) : width);
  for (ptrdiff_t g = 0; g < qk_groups(width); g++) {
    const ptrdiff_t first = g * QK_ATTENTION_GROUP;
    const ptrdiff_t count =
        width - first < QK_ATTENTION_GROUP ? width - first : QK_ATTENTION_GROUP;
    const qk_group_codes group = qk_kv_quantize(type, x + first, count);
    scales[g * 16 + p] = group.scale;
    for (ptrdiff_t e = 0; e < count; e++) {
      const qk_code_place place = qk_place_of(type, p, first + e, is_value);
      const uint8_t code = (uint8_t)group.codes[e];
      uint8_t *byte = codes + place.byte;
      *byte = type == QK_KV_Q8 ? code
                               : (uint8_t)((*byte & ~(15 << place.shift)) | code << place.shift);
    }
  }
}

// Of every type but half precision.
static inline void qk_kv_store(qk_kv_type type, const float *keys, ptrdiff_t key_stride,
                               const float *values, ptrdiff_t values_stride, ptrdiff_t first,
                               ptrdiff_t count, ptrdiff_t key_width, ptrdiff_t value_width,
                               void *key_block, void *value_block) {
  const ptrdiff_t stride = qk_value_stride(value_width);
  for (ptrdiff_t p = first; p < first + count; p++, keys += key_stride, values += values_stride) {
    switch (type) {
      case QK_KV_FLOAT:
        for (ptrdiff_t i = 0; i < key_width; i++) ((float *)key_block)[i * 16 + p] = keys[i];
        memcpy((float *)value_block + p * stride, values, 4 * (size_t)value_width);
        break;
      case QK_KV_BRAIN:
        for (ptrdiff_t i = 0; i < key_width; i++)
          ((uint16_t *)key_block)[i * 16 + p] = qk_brain(keys[i]);
        for (ptrdiff_t i = 0; i < value_width; i++)
          ((uint16_t *)value_block)[p * stride + i] = qk_brain(values[i]);
        break;
      default:
        qk_store_quantized(type, keys, key_width, p, 0, key_block);
        qk_store_quantized(type, values, value_width, p, 1, value_block);
    }
  }
}

// The number at element i of position p of a block of a float type; `width` the key width or the
// value stride.
static inline float qk_kv_read(qk_kv_type type, const void *block, ptrdiff_t width, ptrdiff_t p,
                               ptrdiff_t i, int is_value) {
  const ptrdiff_t at = is_value ? p * width + i : i * 16 + p;
  switch (type) {
    case QK_KV_FLOAT: return ((const float *)block)[at];
    case QK_KV_HALF: return qk_half_to_float__scalar(((const uint16_t *)block)[at]);
    default: return qk_brain_float(((const uint16_t *)block)[at]);
  }
}

// Largest 16-bit integer of a query or a weight, and the least largest number that is scaled to it:
// below, its reciprocal would overflow, and all are taken for zero.
#define QK_MOST_INTEGER 32767.0f
#define QK_LEAST_SCALED 1e-30f

// What brings numbers of at most `top` to integers; the number that one of those stands for is
// top / 32767.
static inline float qk_integer_factor(float top) {
  return top < QK_LEAST_SCALED ? 0.0f : QK_MOST_INTEGER / top;
}

// ln(2^maximum * sum), the logarithm of a row's sum of exponentials.
static inline float qk_logarithm(float maximum, float sum) {
  return sum == 0 ? -INFINITY : (float)(0.6931471805599453 * ((double)maximum + log2((double)sum)));
}

// The functions of a table, the type a constant in each.
#define QK_STORE(type)                                                                           \
  static void store_##type(const float *keys, ptrdiff_t key_stride, const float *values,         \
                           ptrdiff_t values_stride, ptrdiff_t first, ptrdiff_t count,            \
                           ptrdiff_t key_width, ptrdiff_t value_width, void *key_block,          \
                           void *value_block) {                                                  \
    qk_kv_store(type, keys, key_stride, values, values_stride, first, count, key_width,          \
                value_width, key_block, value_block);                                            \
  }
QK_STORE(QK_KV_FLOAT)
QK_STORE(QK_KV_BRAIN)
QK_STORE(QK_KV_Q8)
QK_STORE(QK_KV_Q4)
#undef QK_STORE

#endif
