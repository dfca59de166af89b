// Moves, products and vector operations of the simulated NPU.
#include "CDeviceModel.h"

#include <string.h>

// ---- binary16 ------------------------------------------------------------------------------------------------------

static inline float float_of_bits(uint32_t bits) {
  float value;
  memcpy(&value, &bits, 4);
  return value;
}

static inline uint32_t bits_of_float(float value) {
  uint32_t bits;
  memcpy(&bits, &value, 4);
  return bits;
}

static inline float from_half(uint16_t half) {
  const uint32_t sign = (uint32_t)(half & 0x8000) << 16, magnitude = half & 0x7FFF;
  if (magnitude >= 0x7C00) return float_of_bits(sign | 0x7F800000 | (magnitude & 0x3FF) << 13);
  if (magnitude < 0x400) return float_of_bits(sign | bits_of_float((float)magnitude * 0x1p-24f));
  return float_of_bits(sign | ((magnitude << 13) + (112u << 23)));
}

// Nearest even. From 2⁻¹⁴ on 13 bits are rounded away; below, the unit is that of the floats in [0.5, 1).
static inline uint16_t to_half(float value) {
  const uint32_t bits = bits_of_float(value), magnitude = bits & 0x7FFFFFFF;
  const uint16_t sign = (uint16_t)(bits >> 16) & 0x8000;
  if (magnitude > 0x7F800000) return sign | 0x7E00;
  if (magnitude >= 0x47800000) return sign | 0x7C00;
  if (magnitude >= 0x38800000) {
    const uint32_t rebased = magnitude - (112u << 23);
    return sign | (uint16_t)((rebased + 0xFFF + ((rebased >> 13) & 1)) >> 13);
  }
  return sign | (uint16_t)(bits_of_float(float_of_bits(magnitude) + 0.5f) - 0x3F000000);
}

// ---- fractals ------------------------------------------------------------------------------------------------------

static inline size_t fractal(size_t rows16, size_t row, size_t column) {
  return (column / 16 * (rows16 / 16) + row / 16) * 256 + row % 16 * 16 + column % 16;
}

void cdm_npu_pack(uint16_t *target, size_t rows16, size_t first_row, const uint16_t *source, size_t pitch, size_t rows,
                  size_t columns) {
  for (size_t row = 0; row < rows; row++)
    for (size_t column = 0; column < columns; column += 16) {
      const size_t count = columns - column < 16 ? columns - column : 16;
      memcpy(target + fractal(rows16, first_row + row, column), source + row * pitch + column, count * 2);
    }
}

void cdm_npu_move(uint16_t *target, size_t target_rows16, const uint16_t *source, size_t source_rows16, size_t row,
                  size_t column, size_t rows, size_t columns, int transposed) {
  for (size_t i = 0; i < rows; i++)
    for (size_t j = 0; j < columns; j++) {
      const uint16_t value = source[fractal(source_rows16, row + i, column + j)];
      target[transposed ? fractal(target_rows16, j, i) : fractal(target_rows16, i, j)] = value;
    }
}

void cdm_npu_mmad(const uint16_t *a, size_t a_rows16, const uint16_t *b, size_t b_rows16, float *c, size_t c_rows16,
                  size_t m, size_t n, size_t k, int accumulate, float *scratch) {
  float *const rows = scratch, *const columns = scratch + m * k;
  for (size_t i = 0; i < m; i++)
    for (size_t x = 0; x < k; x++) rows[i * k + x] = from_half(a[fractal(a_rows16, i, x)]);
  // k-major, so that the inner loop runs over neighbors.
  for (size_t j = 0; j < n; j++)
    for (size_t x = 0; x < k; x++) columns[x * n + j] = from_half(b[fractal(b_rows16, j, x)]);
  for (size_t j = 0; j < n; j += 16) {
    const size_t width = n - j < 16 ? n - j : 16;
    for (size_t i = 0; i < m; i++) {
      float *const out = c + fractal(c_rows16, i, j);
      float sums[16] = {0};
      if (accumulate) memcpy(sums, out, width * 4);
      if (width == 16) {
        for (size_t x = 0; x < k; x++) {
          const float left = rows[i * k + x];
          const float *const right = columns + x * n + j;
          for (size_t lane = 0; lane < 16; lane++) sums[lane] += left * right[lane];
        }
      } else {
        for (size_t x = 0; x < k; x++)
          for (size_t lane = 0; lane < width; lane++) sums[lane] += rows[i * k + x] * columns[x * n + j + lane];
      }
      memcpy(out, sums, width * 4);
    }
  }
}

void cdm_npu_unpack(void *target, size_t pitch, int half, const float *source, size_t rows16, size_t row, size_t column,
                    size_t rows, size_t columns) {
  for (size_t i = 0; i < rows; i++)
    for (size_t j = 0; j < columns; j++) {
      const float value = source[fractal(rows16, row + i, column + j)];
      if (half) ((uint16_t *)target)[i * pitch + j] = to_half(value);
      else ((float *)target)[i * pitch + j] = value;
    }
}

// ---- vector operations ---------------------------------------------------------------------------------------------

// 2^f for |f| <= 0.5: the series of e^(f ln 2) to the 9th power, error below 1e-11.
static inline double small_power(double f) {
  const double y = f * 0.693147180559945309417;
  double sum = 1;
  for (int i = 9; i > 0; i--) sum = 1 + sum * y / i;
  return sum;
}

// x · 2^n for a normal double.
static inline double scaled(double x, int n) {
  uint64_t bits = (uint64_t)(n + 1023) << 52;
  double power;
  memcpy(&power, &bits, 8);
  return x * power;
}

static inline float power_of_two(double x) {
  if (x != x) return (float)x;
  if (x > 200) return float_of_bits(0x7F800000);
  if (x < -200) return 0;
  const int n = (int)(x < 0 ? x - 0.5 : x + 0.5);
  return (float)scaled(small_power(x - n), n);
}

static inline float exponential(float x) { return power_of_two((double)x * 1.44269504088896340736); }

// ln(m · 2ⁿ), m in [√½, √2): n ln 2 + 2 artanh((m − 1) / (m + 1)), the series to the 19th power: |t| <= 0.172.
static inline float logarithm(float x) {
  if (!(x > 0)) return x == 0 ? -float_of_bits(0x7F800000) : float_of_bits(0x7FC00000);
  if (bits_of_float(x) >= 0x7F800000) return x;
  double value = x;
  uint64_t bits;
  memcpy(&bits, &value, 8);
  int n = (int)(bits >> 52) - 1023;
  bits = (bits & 0xFFFFFFFFFFFFF) | 1023ull << 52;
  memcpy(&value, &bits, 8);
  if (value > 1.4142135623730951) {
    value *= 0.5;
    n++;
  }
  const double t = (value - 1) / (value + 1), square = t * t;
  double sum = 0;
  for (int i = 19; i > 0; i -= 2) sum = sum * square + 1.0 / i;
  return (float)(n * 0.693147180559945309417 + 2 * t * sum);
}

static inline float ceiling(float x) {
  if (!(x > -8388608.0f && x < 8388608.0f)) return x;
  const float whole = (float)(int32_t)x;
  return whole < x ? whole + 1 : whole;
}

static inline float add_exponent(float a, float b) {
  const uint32_t bits = bits_of_float(a), magnitude = bits & 0x7FFFFFFF;
  if (magnitude == 0 || magnitude >= 0x7F800000) return a;
  // b is an integer or −∞.
  const int64_t exponent = (int64_t)(magnitude >> 23) + (b < -1000 ? -1000 : b > 1000 ? 1000 : (int64_t)b);
  if (exponent <= 0) return float_of_bits(bits & 0x80000000);
  if (exponent >= 255) return float_of_bits((bits & 0x80000000) | 0x7F800000);
  return float_of_bits((bits & 0x807FFFFF) | (uint32_t)exponent << 23);
}

#define EACH(expression)                                                                                               \
  for (size_t i = 0; i < rows; i++)                                                                                    \
    for (size_t j = 0; j < columns; j++) {                                                                             \
      const float x = a[i * a_pitch + j];                                                                              \
      const float y = b ? (b_row ? b[i] : b[i * b_pitch + j]) : 0;                                                     \
      (void)y;                                                                                                         \
      target[i * target_pitch + j] = (expression);                                                                     \
    }                                                                                                                  \
  return;

void cdm_npu_vector(cdm_npu_op op, float *target, size_t target_pitch, const float *a, size_t a_pitch, const float *b,
                    size_t b_pitch, int b_row, float scalar, size_t rows, size_t columns) {
  switch (op) {
  case CDM_NPU_SCALE: EACH(x * scalar)
  case CDM_NPU_ADD: EACH(x + y)
  case CDM_NPU_SUBTRACT: EACH(x - y)
  case CDM_NPU_MULTIPLY: EACH(x * y)
  case CDM_NPU_DIVIDE: EACH(x / y)
  case CDM_NPU_MAXIMUM: EACH(x < y || x != x ? y : x)
  case CDM_NPU_EXPONENTIAL: EACH(exponential(x))
  case CDM_NPU_LOGARITHM: EACH(logarithm(x))
  case CDM_NPU_CEILING: EACH(ceiling(x))
  case CDM_NPU_POWER_OF_TWO: EACH(power_of_two(x))
  case CDM_NPU_ADD_EXPONENT: EACH(add_exponent(x, y))
  case CDM_NPU_ZERO_INFINITY: EACH(bits_of_float(x) == 0xFF800000 ? 0 : x)
  case CDM_NPU_ONE_ZERO: EACH(x == 0 ? 1 : x)
  }
}

// 64 lanes of a repeat one after another.
static float reduce_lanes(int sum, const float *lanes, size_t width) {
  float value = lanes[0];
  for (size_t j = 1; j < width; j++) value = sum ? value + lanes[j] : value < lanes[j] ? lanes[j] : value;
  return value;
}

void cdm_npu_reduce(int sum, int by_repeats, float *target, const float *a, size_t a_pitch, size_t rows,
                    size_t columns) {
  for (size_t i = 0; i < rows; i++) {
    const float *const row = a + i * a_pitch;
    if (by_repeats) {
      float value = reduce_lanes(sum, row, 64);
      for (size_t j = 64; j < columns; j += 64) {
        const float next = reduce_lanes(sum, row + j, 64);
        value = sum ? value + next : value < next ? next : value;
      }
      target[i] = value;
      continue;
    }
    float lanes[64];
    const size_t width = columns < 64 ? columns : 64;
    memcpy(lanes, row, width * 4);
    for (size_t j = 64; j < columns; j++)
      lanes[j % 64] = sum ? lanes[j % 64] + row[j] : lanes[j % 64] < row[j] ? row[j] : lanes[j % 64];
    target[i] = reduce_lanes(sum, lanes, width);
  }
}

void cdm_npu_mask_compare(float *target, size_t pitch, size_t rows, size_t columns, int64_t delta, int complement) {
  for (size_t i = 0; i < rows; i++)
    for (size_t j = 0; j < columns; j++) {
      const int masked = (int64_t)j > (int64_t)i + delta;
      if (masked != complement) target[i * pitch + j] = float_of_bits(0xFF800000);
    }
}

void cdm_npu_mask_bytes(float *target, size_t pitch, const uint8_t *mask, size_t mask_pitch, size_t rows, size_t columns,
                        int complement) {
  for (size_t i = 0; i < rows; i++)
    for (size_t j = 0; j < columns; j++)
      if ((mask[i * mask_pitch + j] != 0) != complement) target[i * pitch + j] = float_of_bits(0xFF800000);
}

void cdm_npu_to_half(uint16_t *target, size_t target_pitch, const float *a, size_t a_pitch, size_t rows,
                     size_t columns) {
  for (size_t i = 0; i < rows; i++)
    for (size_t j = 0; j < columns; j++) target[i * target_pitch + j] = to_half(a[i * a_pitch + j]);
}

void cdm_npu_from_half(float *target, size_t target_pitch, const uint16_t *a, size_t a_pitch, size_t rows,
                       size_t columns) {
  for (size_t i = 0; i < rows; i++)
    for (size_t j = 0; j < columns; j++) target[i * target_pitch + j] = from_half(a[i * a_pitch + j]);
}
