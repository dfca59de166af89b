#include "qk_latent.h"

#include "bodies/qk_latent_common.h"

const qk_latent_kernels *qk_latent_kernels_for(qk_isa isa) {
#if defined(__x86_64__)
  if (isa >= QK_ISA_AVX512VNNI && qk_isa_supported(QK_ISA_AVX512VNNI))
    return &qk_latent__avx512vnni;
  if (isa >= QK_ISA_AVX2 && qk_isa_supported(QK_ISA_AVX2)) return &qk_latent__avx2;
#elif defined(__aarch64__)
  if (isa >= QK_ISA_NEON_DOTPROD && qk_isa_supported(QK_ISA_NEON_DOTPROD)) return &qk_latent__neon;
#endif
  (void)isa;
  return &qk_latent__scalar;
}

ptrdiff_t qk_latent_scratch(ptrdiff_t rows, ptrdiff_t width, ptrdiff_t head_width) {
  qk_latent_parts parts;
  return qk_latent_parts_of(&parts, 0, rows, width, head_width);
}

// MARK: Bits

void qk_latent_pack_bits(const uint8_t *codes, ptrdiff_t n, int bits, uint8_t *packed) {
  uint64_t waiting = 0;
  int have = 0;
  for (ptrdiff_t e = 0; e < n; e++) {
    waiting |= (uint64_t)codes[e] << have, have += bits;
    while (have >= 8) *packed++ = (uint8_t)waiting, waiting >>= 8, have -= 8;
  }
  if (have > 0) *packed = (uint8_t)waiting;
}

void qk_latent_unpack_bits(const uint8_t *packed, ptrdiff_t n, int bits, uint8_t *codes) {
  uint64_t waiting = 0;
  int have = 0;
  for (ptrdiff_t e = 0; e < n; e++) {
    while (have < bits) waiting |= (uint64_t)*packed++ << have, have += 8;
    codes[e] = (uint8_t)(waiting & ((1u << bits) - 1));
    waiting >>= bits, have -= bits;
  }
}

// MARK: Blocks

static unsigned get(int bits, const uint8_t *packed, ptrdiff_t unit, ptrdiff_t byte) {
  switch (bits) {
    case 8: return packed[64 * unit + byte];
    case 4: return packed[unit / 2 * 64 + byte] >> unit % 2 * 4 & 15;
    case 3:
      return (packed[unit / 4 * 64 + byte] >> unit % 4 * 2 & 3) |
             (packed[128 + byte] >> unit & 1) << 2;
    default: return packed[unit / 4 * 64 + byte] >> unit % 4 * 2 & 3;
  }
}

// Four keys' codes lie in one word, and all that shares its bytes is of the same position.
static uint32_t word(const uint8_t *codes) {
  uint32_t four;
  memcpy(&four, codes, 4);
  return four;
}

static void put_keys(int bits, const uint8_t *codes, uint8_t *packed) {
  uint32_t w;
  switch (bits) {
    case 8:
      for (int u = 0; u < 8; u++) memcpy(packed + 64 * u, codes + 4 * u, 4);
      break;
    case 4:
      for (int v = 0; v < 4; v++) {
        w = word(codes + 8 * v) | word(codes + 8 * v + 4) << 4;
        memcpy(packed + 64 * v, &w, 4);
      }
      break;
    default:
      for (int v = 0; v < 2; v++) {
        w = 0;
        for (int i = 0; i < 4; i++) w |= (word(codes + 16 * v + 4 * i) & 0x03030303u) << 2 * i;
        memcpy(packed + 64 * v, &w, 4);
      }
      if (bits == 2) break;
      w = 0;
      for (int u = 0; u < 8; u++) w |= (word(codes + 4 * u) >> 2 & 0x01010101u) << u;
      memcpy(packed + 128, &w, 4);
  }
}

void qk_latent_store_codes(qk_latent_type type, int is_value, const uint8_t *codes, uint16_t scale,
                           uint16_t minimum, ptrdiff_t width, ptrdiff_t p, void *block) {
  const int bits = qk_latent_bits(type);
  uint16_t *header = (uint16_t *)block;
  header[p] = scale;
  header[QK_LATENT_BLOCK + p] = minimum;
  uint8_t *packed = (uint8_t *)block + QK_LATENT_HEADER;
  for (; width >= QK_LATENT_CHUNK; width -= QK_LATENT_CHUNK, codes += QK_LATENT_CHUNK) {
    if (!is_value) {
      put_keys(bits, codes, packed + 4 * p);
    } else if (bits == 4) {
      // Elements e and e + 16 of a position share a byte.
      uint8_t *at = packed + p / 4 * 64 + p % 4;
      for (int e = 0; e < 16; e++) at[4 * e] = (uint8_t)(codes[e] | codes[e + 16] << 4);
    } else if (bits < 4) {
      // Elements e and e + 16 lie in units u and u + 1 of the same four, beside those of other positions.
      const ptrdiff_t u = qk_latent_unit(1, 0, p), shift = u % 4 * 2;
      uint8_t *at = packed + u / 4 * 64 + p % 4, *high = packed + 128 + p % 4;
      for (int e = 0; e < 16; e++) {
        const unsigned a = codes[e], b = codes[e + 16];
        at[4 * e] = (uint8_t)((at[4 * e] & ~(15u << shift)) | ((a & 3) | (b & 3) << 2) << shift);
        if (bits == 3) high[4 * e] = (uint8_t)((high[4 * e] & ~(3u << u)) | ((a >> 2) | (b >> 2) << 1) << u);
      }
    } else {
      for (ptrdiff_t e = 0; e < QK_LATENT_CHUNK; e++)
        packed[64 * qk_latent_unit(1, e, p) + qk_latent_byte(1, e, p)] = codes[e];
    }
    packed += 64 * bits;
  }
  qk_latent_pack_bits(codes, width, bits, packed + p * ((width * bits + 7) / 8));
}

void qk_latent_store_floats(qk_latent_type type, int is_value, const float *x, ptrdiff_t width,
                            ptrdiff_t p, void *block) {
  const ptrdiff_t step = is_value ? 1 : QK_LATENT_BLOCK, first = is_value ? p * width : p;
  for (ptrdiff_t e = 0; e < width; e++) {
    if (type == QK_LATENT_FLOAT)
      ((float *)block)[first + e * step] = x[e];
    else
      ((uint16_t *)block)[first + e * step] = qk_float_to_half__scalar(x[e]);
  }
}

void qk_latent_load(qk_latent_type type, int is_value, const void *block, ptrdiff_t width,
                    ptrdiff_t p, uint8_t *codes, float *x) {
  const int bits = qk_latent_bits(type);
  if (bits > 8) {
    const ptrdiff_t step = is_value ? 1 : QK_LATENT_BLOCK, first = is_value ? p * width : p;
    for (ptrdiff_t e = 0; e < width; e++)
      x[e] = type == QK_LATENT_FLOAT
                 ? ((const float *)block)[first + e * step]
                 : qk_half_to_float__scalar(((const uint16_t *)block)[first + e * step]);
    return;
  }
  const uint16_t *header = (const uint16_t *)block;
  const float scale = qk_half_to_float__scalar(header[p]);
  const float minimum = qk_half_to_float__scalar(header[QK_LATENT_BLOCK + p]);
  const uint8_t *packed = (const uint8_t *)block + QK_LATENT_HEADER;
  const ptrdiff_t whole = width / QK_LATENT_CHUNK * QK_LATENT_CHUNK, rest = width - whole;
  const uint8_t *last = packed + 2 * whole * bits + p * ((rest * bits + 7) / 8);
  for (ptrdiff_t e = 0; e < width; e++) {
    unsigned code = 0;
    if (e < whole) {
      const ptrdiff_t i = e % QK_LATENT_CHUNK;
      code = get(bits, packed + e / QK_LATENT_CHUNK * 64 * bits, qk_latent_unit(is_value, i, p),
                 qk_latent_byte(is_value, i, p));
    } else {
      for (int i = 0; i < bits; i++) {
        const ptrdiff_t at = (e - whole) * bits + i;
        code |= (last[at / 8] >> at % 8 & 1u) << i;
      }
    }
    if (codes != NULL) codes[e] = (uint8_t)code;
    x[e] = fmaf(scale, (float)code, minimum);
  }
}
