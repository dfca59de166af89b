#ifndef QK_LATENT_COMMON_H
#define QK_LATENT_COMMON_H
// What the levels of latent attention share: where a code lies in a block, and halves rounded
// towards one side.
#include "qk_latent.h"
#include "scalar/qk_vector_math__scalar.h"

#include <float.h>
#include <math.h>
#include <string.h>

// Scales, then minima.
#define QK_LATENT_HEADER (4 * QK_LATENT_BLOCK)

// The largest half not above x; |x| <= 65504.
static inline uint16_t qk_half_below(float x) {
  uint16_t half = qk_float_to_half__scalar(x);
  if (qk_half_to_float__scalar(half) <= x) return half;
  if (half & 0x8000u) return half & 0x7FFFu ? half + 1 : 0x8001u;
  return half ? half - 1 : 0x8001u;
}

// The least half not below x; 0 <= x <= 65504.
static inline uint16_t qk_half_above(double x) {
  uint16_t half = qk_float_to_half__scalar((float)x);
  if (half && qk_half_to_float__scalar((uint16_t)(half - 1)) >= x) half--;
  while (qk_half_to_float__scalar(half) < x) half++;
  return half;
}

// Minimum and scale of numbers from low to high, and the inverse that codes are computed by:
// code = round((x - minimum) * inverse) in double, whose errors are far below what the bound
// s/2 (1 + 1e-6) leaves.
typedef struct qk_latent_range {
  uint16_t scale, minimum;
  double low, inverse;
} qk_latent_range;

static inline qk_latent_range qk_latent_range_of(float low, float high, int bits) {
  qk_latent_range range;
  range.minimum = qk_half_below(low + 0.0f); // + 0: no negative zero
  range.low = qk_half_to_float__scalar(range.minimum);
  range.scale = qk_half_above(((double)high - range.low) / (double)((1 << bits) - 1) + 0.0);
  const double scale = qk_half_to_float__scalar(range.scale);
  range.inverse = scale > 0 ? 1 / scale : 0;
  return range;
}

static inline int qk_latent_refuse(uint8_t *codes, ptrdiff_t n, uint16_t *scale,
                                   uint16_t *minimum) {
  memset(codes, 0, (size_t)n);
  *scale = 0;
  *minimum = 0x7E00u;
  return 0;
}

static inline ptrdiff_t qk_latent_unit(int is_value, ptrdiff_t e, ptrdiff_t p) {
  return is_value ? p / 4 * 2 + e / 16 : e / 4;
}
static inline ptrdiff_t qk_latent_byte(int is_value, ptrdiff_t e, ptrdiff_t p) {
  return is_value ? e % 16 * 4 + p % 4 : 4 * p + e % 4;
}

// Where in the 512 bytes of an unpacked chunk element e of position p lies.
static inline ptrdiff_t qk_latent_at(int is_value, ptrdiff_t e, ptrdiff_t p) {
  return qk_latent_unit(is_value, e, p) * 64 + qk_latent_byte(is_value, e, p);
}

// 8 units of a chunk, 512 bytes.
static inline __attribute__((always_inline)) void qk_latent_unpack_chunk(
    int bits, const uint8_t *restrict packed, uint8_t *restrict units) {
  switch (bits) {
    case 8: memcpy(units, packed, QK_LATENT_CHUNK_BYTES); break;
    case 4:
      for (int v = 0; v < 4; v++)
        for (int i = 0; i < 64; i++) {
          const uint8_t byte = packed[64 * v + i];
          units[128 * v + i] = byte & 15;
          units[128 * v + 64 + i] = byte >> 4;
        }
      break;
    default:
      for (int v = 0; v < 2; v++)
        for (int i = 0; i < 64; i++) {
          const uint8_t byte = packed[64 * v + i];
          const uint8_t high = bits == 3 ? packed[128 + i] >> (4 * v) : 0;
          units[256 * v + i] = (byte & 3) | (high & 1) << 2;
          units[256 * v + 64 + i] = (byte >> 2 & 3) | (high & 2) << 1;
          units[256 * v + 128 + i] = (byte >> 4 & 3) | (high & 4);
          units[256 * v + 192 + i] = byte >> 6 | (high & 8) >> 1;
        }
  }
}

// Eight codes of a stream of bits as bytes, the first in the lowest: halves are moved apart by what a code lacks of eight
// bits, four, two and one at a time.
static inline uint64_t qk_latent_spread(int bits, uint64_t x) {
  const uint64_t four = ((1ull << 4 * bits) - 1) * 0x0000000100000001ull;
  const uint64_t two = ((1ull << 2 * bits) - 1) * 0x0001000100010001ull;
  const uint64_t one = ((1ull << bits) - 1) * 0x0101010101010101ull;
  x = (x | x << 4 * (8 - bits)) & four;
  x = (x | x << 2 * (8 - bits)) & two;
  return (x | x << (8 - bits)) & one;
}

// The chunk that the rest of the width makes, zero behind it.
static inline __attribute__((always_inline)) void qk_latent_unpack_rest(int bits, int is_value, const uint8_t *packed,
                                                                        ptrdiff_t rest, uint8_t *units) {
  const ptrdiff_t bytes = (rest * bits + 7) / 8;
  for (ptrdiff_t p = 0; p < QK_LATENT_BLOCK; p += 4) {
    uint8_t rows[4][QK_LATENT_CHUNK];
    for (ptrdiff_t i = 0; i < 4; i++, packed += bytes)
      for (ptrdiff_t e = 0; e < QK_LATENT_CHUNK; e += 8) {
        const ptrdiff_t left = bytes - e * bits / 8;
        uint64_t stream = 0;
        if (left >= bits) memcpy(&stream, packed + e * bits / 8, (size_t)bits);
        else
          for (ptrdiff_t j = 0; j < left; j++) stream |= (uint64_t)packed[e * bits / 8 + j] << 8 * j;
        // Bits behind the last code are zero.
        stream = qk_latent_spread(bits, stream);
        memcpy(rows[i] + e, &stream, 8);
      }
    if (is_value)
      // Units of elements 0...15 and 16...31 follow one another, four positions in a word.
      for (ptrdiff_t e = 0; e < QK_LATENT_CHUNK; e++) {
        const uint32_t word = (uint32_t)rows[0][e] | (uint32_t)rows[1][e] << 8 | (uint32_t)rows[2][e] << 16 |
                              (uint32_t)rows[3][e] << 24;
        memcpy(units + qk_latent_at(1, 0, p) + 4 * e, &word, 4);
      }
    else
      for (ptrdiff_t e = 0; e < QK_LATENT_CHUNK; e += 4)
        for (ptrdiff_t i = 0; i < 4; i++) memcpy(units + qk_latent_at(0, e, p + i), rows[i] + e, 4);
  }
}

// Chunk c of a block, unpacked.
static inline __attribute__((always_inline)) void qk_latent_chunk(qk_latent_type type, int is_value,
                                                                  const void *block,
                                                                  ptrdiff_t width, ptrdiff_t c,
                                                                  uint8_t *units) {
  const int bits = qk_latent_bits(type);
  const uint8_t *packed =
      (const uint8_t *)block + QK_LATENT_HEADER + c * 64 * (ptrdiff_t)bits;
  const ptrdiff_t rest = width - c * QK_LATENT_CHUNK;
#define QK_LATENT_UNPACK(bits)                                                              \
  if (rest < QK_LATENT_CHUNK) qk_latent_unpack_rest(bits, is_value, packed, rest, units);   \
  else qk_latent_unpack_chunk(bits, packed, units);                                         \
  break;
  switch (type) {
    case QK_LATENT_8: QK_LATENT_UNPACK(8)
    case QK_LATENT_4: QK_LATENT_UNPACK(4)
    case QK_LATENT_3: QK_LATENT_UNPACK(3)
    default: QK_LATENT_UNPACK(2)
  }
#undef QK_LATENT_UNPACK
}

// Whether a row of floats or halves of a block of values is one that was not finite: the whole row
// is NaN then.
static inline int qk_latent_is_lost(qk_latent_type type, const void *block, ptrdiff_t width,
                                    ptrdiff_t p) {
  const float first = type == QK_LATENT_FLOAT
                          ? ((const float *)block)[p * width]
                          : qk_half_to_float__scalar(((const uint16_t *)block)[p * width]);
  return first != first;
}

// Parts of the scratch memory.
typedef struct qk_latent_parts {
  uint8_t *codes;   // unpacked codes
  int32_t *dots;    // [rows][32]
  float *numbers;   // codes or numbers as floats
  float *keys;      // [head_width][QK_LATENT_TILE]
  float *weights;   // [rows][QK_LATENT_PARTITION]
  float *scales, *sums;
  int8_t *digits;   // [rows][2 * QK_LATENT_PARTITION]
} qk_latent_parts;

static inline ptrdiff_t qk_latent_parts_of(qk_latent_parts *parts, void *scratch, ptrdiff_t rows,
                                           ptrdiff_t width, ptrdiff_t head_width) {
  uint8_t *at = (uint8_t *)scratch;
  ptrdiff_t used = 0;
  const ptrdiff_t padded = qk_latent_padded(width);
#define QK_PART(name, type, count)                        \
  parts->name = (type *)(at + used);                      \
  used += ((ptrdiff_t)sizeof(type) * (count) + 63) & ~(ptrdiff_t)63;
  const ptrdiff_t code_bytes = 2 * QK_LATENT_BLOCK * padded; // of two blocks of keys
  const ptrdiff_t value_bytes = QK_LATENT_PARTITION * QK_LATENT_CHUNK;
  QK_PART(codes, uint8_t, code_bytes > value_bytes ? code_bytes : value_bytes)
  QK_PART(dots, int32_t, rows * QK_LATENT_CHUNK)
  const ptrdiff_t tile = QK_LATENT_TILE * padded;
  QK_PART(numbers, float, tile > value_bytes ? tile : value_bytes)
  QK_PART(keys, float, head_width * QK_LATENT_TILE)
  QK_PART(weights, float, rows * QK_LATENT_PARTITION)
  QK_PART(scales, float, rows)
  QK_PART(sums, float, rows)
  QK_PART(digits, int8_t, rows * 2 * QK_LATENT_PARTITION)
#undef QK_PART
  return used;
}

#endif
