// Runs the kernels over low-rank latents of every level that this processor supports and compares
// bits with the scalar level: codes, scales and minima of vectors of every length and kind, blocks
// of keys and values of every type and of widths that end in every part of a chunk, scores by
// digits, by floats and by rebuilt keys, probabilities, sums of values, and products.
//
//   latent_driver scalar,neonDotprod,neonI8mm
//
// The argument lists the levels that this processor must support, in order. Exit code 0 when
// everything agrees, 1 otherwise. A kernel that reads or writes outside of its buffers dies on a
// guard page.
#include <math.h>
#include <string.h>

#include "driver_comparison.h"
#include "qk_latent.h"

// MARK: Quantizing

// A vector of a kind: both signs, one sign, constant, zero, tiny, huge, with one that is no number.
static void fill(float *x, ptrdiff_t n, int kind) {
  for (ptrdiff_t i = 0; i < n; i++) {
    switch (kind) {
      case 0: x[i] = 3 * unit(); break;
      case 1: x[i] = 10.5f + 0.3f * unit(); break;
      case 2: x[i] = -7.3f; break;
      case 3: x[i] = i % 2 ? 0.0f : -0.0f; break;
      case 4: x[i] = 1e-39f * unit(); break;
      case 5: x[i] = 65504.0f * unit(); break;
      default: x[i] = i == n / 2 ? (kind == 6 ? NAN : -INFINITY) : unit();
    }
  }
}

static void check_quantizing(qk_isa isa) {
  const qk_latent_kernels *k = qk_latent_kernels_for(isa),
                          *scalar = qk_latent_kernels_for(QK_ISA_SCALAR);
  static const int widths[] = {2, 3, 4, 8};
  for (ptrdiff_t n = 1; n <= 70; n++)
    for (int kind = 0; kind < 8; kind++) {
      guarded gx, ga = reserve((size_t)n), gb = reserve((size_t)n);
      float *x = floats(&gx, (size_t)n, 1);
      fill(x, n, kind);
      for (int w = 0; w < 4; w++) {
        uint16_t a[3] = {0}, b[3] = {0};
        a[2] = (uint16_t)k->quantize(x, n, widths[w], ga.bytes, &a[0], &a[1]);
        b[2] = (uint16_t)scalar->quantize(x, n, widths[w], gb.bytes, &b[0], &b[1]);
        same("scale and minimum", isa, (long)n, a, b, sizeof a);
        same("codes", isa, (long)n, ga.bytes, gb.bytes, (size_t)n);
      }
      const ptrdiff_t padded = qk_latent_padded(n);
      guarded gd = reserve(2 * (size_t)padded), ge = reserve(2 * (size_t)padded);
      float a[2], b[2];
      k->digits(x, n, padded, (int8_t *)gd.bytes, &a[0], &a[1]);
      scalar->digits(x, n, padded, (int8_t *)ge.bytes, &b[0], &b[1]);
      same("digits", isa, (long)n, gd.bytes, ge.bytes, 2 * (size_t)padded);
      if (kind < 6) same("their scale and sum", isa, (long)n, a, b, sizeof a);
      release(gx), release(ga), release(gb), release(gd), release(ge);
    }
  for (ptrdiff_t n = 1; n <= 256; n *= 2) {
    guarded ga, gb;
    float *a = floats(&ga, 3 * (size_t)n, 2), *b = floats(&gb, 3 * (size_t)n, 1);
    memcpy(b, a, 12 * (size_t)n);
    k->hadamard(a, n, 3, 0.3f);
    scalar->hadamard(b, n, 3, 0.3f);
    same("hadamard", isa, (long)n, a, b, 12 * (size_t)n);
    release(ga), release(gb);
  }
  for (ptrdiff_t rows = 1; rows <= 17; rows++) {
    const ptrdiff_t depth = rows * 5 % 37;
    guarded ga, gx, gp, gq;
    const float *a = floats(&ga, (size_t)(rows * depth) + 1, 1);
    const float *x = floats(&gx, (size_t)(depth * 48) + 48, 1);
    float *p = floats(&gp, (size_t)(rows * 48), 1), *q = floats(&gq, (size_t)(rows * 48), 1);
    k->product(a, depth, rows, depth, x, 48, 48, p, 48);
    scalar->product(a, depth, rows, depth, x, 48, 48, q, 48);
    same("product", isa, (long)rows, p, q, 4 * (size_t)(rows * 48));
    release(ga), release(gx), release(gp), release(gq);
  }
}

// MARK: Blocks

enum { BLOCKS = QK_LATENT_BLOCKS };

typedef struct latents {
  guarded keys, values;
  const void *key_blocks[QK_LATENT_POINTERS];
  const void *value_blocks[QK_LATENT_POINTERS];
} latents;

// A partition of 256 positions; `poisoned` holds no numbers.
static latents store(qk_isa isa, qk_latent_type type, ptrdiff_t width, ptrdiff_t poisoned,
                     uint64_t seed) {
  const qk_latent_kernels *k = qk_latent_kernels_for(isa);
  const ptrdiff_t bytes = qk_latent_block_bytes(type, width);
  const size_t all = (size_t)(BLOCKS * bytes);
  latents l = {.keys = reserve(all), .values = reserve(all)};
  state = seed;
  float *x = malloc(4 * (size_t)width);
  uint8_t *codes = malloc((size_t)width);
  for (ptrdiff_t t = 0; t < QK_LATENT_PARTITION; t++)
    for (int is_value = 0; is_value < 2; is_value++) {
      fill(x, width, (int)(t % 3));
      if (t == poisoned)
        for (ptrdiff_t e = 0; e < width; e++) x[e] = NAN;
      void *block = (is_value ? l.values : l.keys).bytes + t / 16 * bytes;
      if (qk_latent_bits(type) > 8) {
        qk_latent_store_floats(type, is_value, x, width, t % 16, block);
      } else {
        uint16_t scale, minimum;
        k->quantize(x, width, qk_latent_bits(type), codes, &scale, &minimum);
        qk_latent_store_codes(type, is_value, codes, scale, minimum, width, t % 16, block);
        uint8_t *again = malloc((size_t)width);
        float *numbers = malloc(4 * (size_t)width);
        qk_latent_load(type, is_value, block, width, t % 16, again, numbers);
        same("the codes read back", isa, (long)t, again, codes, (size_t)width);
        free(again), free(numbers);
      }
    }
  for (ptrdiff_t b = 0; b < QK_LATENT_POINTERS; b++) {
    const ptrdiff_t at = b < BLOCKS ? b : BLOCKS - 1;
    l.key_blocks[b] = l.keys.bytes + at * bytes;
    l.value_blocks[b] = l.values.bytes + at * bytes;
  }
  free(x), free(codes);
  return l;
}

typedef struct shape {
  ptrdiff_t width, heads, queries, head_width;
  ptrdiff_t from, to;
  float cap;
} shape;

enum { MOST_ROWS = 36 };

// Scores, probabilities and sums of one partition, one after another into `out`.
static size_t attend(qk_isa isa, const shape *s, qk_latent_type type, const latents *l, int exact,
                     int rebuilt, float *out) {
  const qk_latent_kernels *k = qk_latent_kernels_for(isa);
  const ptrdiff_t rows = s->heads * s->queries, padded = qk_latent_padded(s->width);
  const ptrdiff_t depth = rebuilt ? s->head_width : s->width;
  state = 99;
  guarded gq, gd = reserve((size_t)(rows * 2 * padded)), gp;
  guarded gs = reserve((size_t)qk_latent_scratch(rows, s->width, s->head_width));
  float *q = floats(&gq, (size_t)(rows * depth), 0.3f);
  float *scores = floats(&gp, (size_t)(rows * QK_LATENT_PARTITION), 0);
  float scales[MOST_ROWS] = {0}, sums[MOST_ROWS] = {0};
  for (ptrdiff_t r = 0; r < rows; r++) {
    if (!exact)
      k->digits(q + r * depth, depth, padded, (int8_t *)gd.bytes + r * 2 * padded, &scales[r],
                &sums[r]);
    else
      for (ptrdiff_t e = 0; e < depth; e++) sums[r] += q[r * depth + e];
  }
  const qk_latent_rows queries = {.rows = rows,
                                  .digits = exact ? NULL : (int8_t *)gd.bytes,
                                  .floats = q,
                                  .stride = depth,
                                  .scales = scales,
                                  .sums = sums};
  qk_latent_group keys = {type, s->width, l->key_blocks, s->from, s->to};
  qk_latent_group values = {type, s->width, l->value_blocks, s->from, s->to};
  guarded gu, gb, g1, g2, g3, g4;
  const ptrdiff_t pairs = s->head_width / 2;
  const qk_latent_rebuild up = {
      .heads = s->heads,
      .rows_per_head = s->queries,
      .head_width = s->head_width,
      .pairs = pairs,
      .interleaved = (int)(s->width % 2),
      .up = floats(&gu, (size_t)(s->heads * s->head_width * s->width), 1),
      .bias = floats(&gb, (size_t)(s->heads * s->head_width), 1),
      .block_cos = floats(&g1, (size_t)(16 * pairs), 1),
      .block_sin = floats(&g2, (size_t)(16 * pairs), 1),
      .cos = floats(&g3, (size_t)(16 * pairs), 1),
      .sin = floats(&g4, (size_t)(16 * pairs), 1)};
  if (rebuilt) k->rebuild(&queries, &keys, &up, scores, gs.bytes);
  else k->score(&queries, &keys, scores, gs.bytes);
  float *next = out;
  // What lies outside of the blocks that are seen is nobody's.
#define EMIT()                                                                             \
  for (ptrdiff_t r = 0; r < rows; r++)                                                     \
    for (ptrdiff_t i = 16 * s->from; i < 16 * s->to; i++)                                  \
      *next++ = scores[r * QK_LATENT_PARTITION + i]
  EMIT();
  qk_latent_seen seen[MOST_ROWS];
  for (ptrdiff_t i = 0; i < s->queries; i++)
    seen[i] = (qk_latent_seen){(int32_t)(16 * s->from + 3 * i),
                               (int32_t)(16 * s->to - 7 * i)};
  const ptrdiff_t stride = QK_LATENT_STATE_HEADER + padded;
  guarded gt;
  float *states = floats(&gt, (size_t)(rows * stride), 0);
  k->soften(scores, rows, s->queries, seen, s->from, s->to, s->cap, states, stride);
  EMIT();
  k->weigh(scores, rows, exact, &values, states, stride, gs.bytes);
  memcpy(next, states, 4 * (size_t)(rows * stride));
  next += rows * stride;
  release(gq), release(gd), release(gs), release(gp), release(gt);
  release(gu), release(gb), release(g1), release(g2), release(g3), release(g4);
  return (size_t)(next - out);
}

// Not bits: a number that is none has many.
static void same_numbers(const char *what, qk_isa isa, long where, const float *a, const float *b,
                         size_t count) {
  for (size_t i = 0; i < count; i++) {
    checks++;
    if (memcmp(a + i, b + i, 4) != 0 && !(a[i] != a[i] && b[i] != b[i]) && failures++ < 20)
      printf("FAILED %s of %s: %g, not %g, at %zu of case %ld\n", what, qk_isa_name(isa),
             (double)a[i], (double)b[i], i, where);
  }
}

static void check_attention(qk_isa isa) {
  static const shape shapes[] = {
      {32, 1, 1, 8, 0, 16, 0},   {64, 4, 1, 64, 0, 16, 0}, {90, 2, 3, 16, 3, 11, 0},
      {1, 1, 2, 2, 0, 1, 0},     {31, 3, 1, 4, 15, 16, 2}, {33, 1, 5, 16, 1, 2, 0},
      {256, 4, 4, 32, 0, 16, 0}, {130, 1, 7, 24, 5, 6, 3}, {7, 9, 4, 6, 0, 13, 0},
  };
  for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
    for (int type = 0; type < QK_LATENT_COUNT; type++)
      for (int poison = 0; poison < 2; poison++) {
        const shape *s = &shapes[i];
        // Positions that all, some and none see.
        const ptrdiff_t poisoned = poison ? (ptrdiff_t)(i % 2 ? 16 * s->to - 3 : 16 * s->from + 2)
                                          : -1;
        latents own = store(isa, (qk_latent_type)type, s->width, poisoned, 5 + i);
        latents other = store(QK_ISA_SCALAR, (qk_latent_type)type, s->width, poisoned, 5 + i);
        const size_t bytes =
            (size_t)(BLOCKS * qk_latent_block_bytes((qk_latent_type)type, s->width));
        same("the stored keys", isa, (long)i, own.keys.bytes, other.keys.bytes, bytes);
        same("the stored values", isa, (long)i, own.values.bytes, other.values.bytes, bytes);
        const size_t most = (size_t)(MOST_ROWS * (2 * QK_LATENT_PARTITION + 300));
        float *a = calloc(most, 4), *b = calloc(most, 4);
        for (int mode = 0; mode < 3; mode++) {
          // Digits are of codes up to four bits.
          const int exact = mode > 0;
          if (!exact && type <= QK_LATENT_8) continue;
          const size_t count = attend(isa, s, (qk_latent_type)type, &own, exact, mode == 2, a);
          attend(QK_ISA_SCALAR, s, (qk_latent_type)type, &other, exact, mode == 2, b);
          same_numbers(mode == 0   ? "attention by digits"
                       : mode == 1 ? "attention by floats"
                                   : "attention by rebuilt keys",
                       isa, (long)(i * 100 + (size_t)type * 10 + (size_t)poison), a, b, count);
        }
        free(a), free(b);
        release(own.keys), release(own.values), release(other.keys), release(other.values);
      }
}

int main(int count, char **arguments) {
  setvbuf(stdout, NULL, _IOLBF, 0);
  if (count < 2) {
    puts("usage: latent_driver LEVEL[,LEVEL...]");
    return 64;
  }
  for (char *name = strtok(arguments[1], ","); name; name = strtok(NULL, ",")) {
    int isa = 0;
    while (isa < QK_ISA_COUNT && strcmp(name, qk_isa_name((qk_isa)isa)) != 0) isa++;
    if (isa == QK_ISA_COUNT || !qk_isa_supported((qk_isa)isa)) {
      printf("FAILED %s is not supported\n", name);
      return 1;
    }
    if (isa != QK_ISA_SCALAR &&
        qk_latent_kernels_for((qk_isa)isa) == qk_latent_kernels_for(QK_ISA_SCALAR)) {
      printf("FAILED %s has no kernels of its own\n", name);
      return 1;
    }
    check_quantizing((qk_isa)isa);
    check_attention((qk_isa)isa);
  }
  printf("%ld comparisons, %d failures\n", checks, failures);
  return failures ? 1 : 0;
}
