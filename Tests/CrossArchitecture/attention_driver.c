// Runs the vector operations and the attention of every level that this processor supports and
// compares bits with the scalar level: over counts that end in every part of a vector, widths of
// keys and values, groups, windows, bit masks, slopes, soft-caps, sinks, every cache type, and rows
// computed together against rows computed alone.
//
//   attention_driver scalar,neonDotprod,neonI8mm
//
// The argument lists the levels that this processor must support, in order. Exit code 0 when
// everything agrees, 1 otherwise. A kernel that reads or writes outside of its buffers dies on a
// guard page.
#include <math.h>
#include <string.h>

#include "driver_comparison.h"
#include "qk_attention.h"
#include "qk_vector.h"

// MARK: Vector operations

enum { MOST = 50 };
static const float special[] = {0.0f,  -0.0f,  88.9f,    -88.9f,   -104.5f, 1e30f,
                                -1e30f, 1e-40f, 0x1p-25f, 65519.9f, 65520.0f};

// One operation on copies of x (and on y) by its number; the result is in `out`.
static int apply(const qk_vector_kernels *k, int operation, const float *x, const float *y,
                 float *out, ptrdiff_t n) {
  switch (operation) {
    case 0: k->rms_norm(x, y, 1e-5f, out, n); break;
    case 1: k->silu_multiply(x, y, out, n); break;
    case 2: k->gelu_multiply(x, y, out, n); break;
    case 3: k->squared_relu_multiply(x, y, out, n); break;
    case 4: memcpy(out, y, 4 * (size_t)n), k->add(x, out, n); break;
    case 5: memcpy(out, x, 4 * (size_t)n), k->scale(out, 0.37f, n); break;
    case 6: memcpy(out, x, 4 * (size_t)n), k->soft_cap(out, 3, n); break;
    case 7: memcpy(out, x, 4 * (size_t)n), k->softmax(out, n); break;
    case 8:
      memcpy(out, x, 4 * (size_t)n), k->rotate_interleaved(out, 1, n, n / 2, y, y + n / 2);
      break;
    case 9: memcpy(out, x, 4 * (size_t)n), k->rotate_halves(out, 1, n, n / 2, y, y + n / 2); break;
    default: return 0;
  }
  return 1;
}

static void check_vectors(qk_isa isa) {
  const qk_vector_kernels *k = qk_vector_kernels_for(isa),
                          *scalar = qk_vector_kernels_for(QK_ISA_SCALAR);
  for (ptrdiff_t n = 1; n <= MOST; n++) {
    guarded gx, gy, ga, gb;
    float *x = floats(&gx, (size_t)n, 20), *y = floats(&gy, (size_t)n, 3);
    float *a = floats(&ga, (size_t)n, 1), *b = floats(&gb, (size_t)n, 1);
    for (int round = 0; round < 2; round++) {
      for (int operation = 0; apply(k, operation, x, y, a, n); operation++) {
        apply(scalar, operation, x, y, b, n);
        char name[32];
        snprintf(name, sizeof name, "vector operation %d", operation);
        same(name, isa, (long)n, a, b, 4 * (size_t)n);
      }
      guarded gh = reserve(2 * (size_t)n), gs = reserve(2 * (size_t)n);
      k->float_to_half(x, (uint16_t *)gh.bytes, n);
      scalar->float_to_half(x, (uint16_t *)gs.bytes, n);
      same("float_to_half", isa, (long)n, gh.bytes, gs.bytes, 2 * (size_t)n);
      k->half_to_float((uint16_t *)gh.bytes, a, n);
      scalar->half_to_float((uint16_t *)gh.bytes, b, n);
      same("half_to_float", isa, (long)n, a, b, 4 * (size_t)n);
      float largest = 0;
      for (ptrdiff_t i = 0; i < n; i++) largest = fmaxf(largest, fabsf(x[i]));
      checks++;
      if (!k->all_within(x, largest, n) ||
          (largest > 0 && k->all_within(x, nextafterf(largest, 0), n))) {
        failures++;
        printf("FAILED all_within of %s for %ld\n", qk_isa_name(isa), (long)n);
      }
      release(gh), release(gs);
      // The second round has numbers at the edges of ranges; their sums may be infinite, which all
      // levels share.
      for (ptrdiff_t i = 0; i < n; i += 3)
        x[i] = special[(size_t)(i + n) % (sizeof special / sizeof *special)];
    }
    release(gx), release(gy), release(ga), release(gb);
  }
}

// MARK: Attention

enum { POSITIONS = 550, BLOCKS = (POSITIONS + 15) / 16 };

typedef struct shape {
  ptrdiff_t key_width, value_width, group, window;
  float cap;
  int slopes, sinks, mask;
} shape;

typedef struct cache {
  guarded keys, values;
  qk_kv_type type;
} cache;

static const float slopes[] = {0.7f, 0.1f, 0.01f, 0.3f, 0.05f, 1.0f, 0.2f};
static const float sinks[] = {0.5f, 3.0f, -2.0f, 0.0f, 1.0f, 8.0f, -9.0f};
// A word of keys that a query's bits leave out, one that they see whole, and others.
static uint64_t masks[POSITIONS][POSITIONS / 64 + 1];

static void prepare(const qk_attention_kernels *k, const shape *s, qk_kv_type type,
                    const float *source, float factor, ptrdiff_t count, guarded queries,
                    guarded states) {
  const ptrdiff_t d = s->key_width, stride = qk_value_stride(s->value_width);
  if (type == QK_KV_PAIRS)
    qk_attention_pairs_for(QK_ISA_AVX512VNNI)
        ->prepare(source, s->group * d, factor, count, s->group, d, stride, (float *)queries.bytes,
                  (float *)states.bytes);
  else
    k->prepare(type, source, s->group * d, factor, count, s->group, d, stride,
               (float *)queries.bytes, (float *)states.bytes);
}

// Attends from `count` queries from `first` on into out; partitions apart and merged when `split`.
static void attend(const qk_attention_kernels *k, const shape *s, const cache *c,
                   const float *queries, ptrdiff_t first, ptrdiff_t count, int split, float *out,
                   float *logarithms) {
  const ptrdiff_t d = s->key_width, stride = qk_value_stride(s->value_width);
  const ptrdiff_t rows = count * s->group;
  const size_t states = (size_t)(rows * (QK_ATTENTION_STATE_HEADER + stride));
  guarded gq = reserve(4 * (size_t)(rows * qk_query_stride(c->type, d))), gs = reserve(4 * states), gl = reserve(4 * states);
  guarded gp = reserve(4 * QK_ATTENTION_ROWS * QK_ATTENTION_PARTITION);
  // Scores may hold anything from before.
  memset(gp.bytes, 0xFF, 4 * QK_ATTENTION_ROWS * QK_ATTENTION_PARTITION);
  static qk_attention_range ranges[POSITIONS];
  static int64_t positions[POSITIONS];
  for (ptrdiff_t i = 0; i < count; i++) {
    const int64_t low = s->window > 0 ? first + i - s->window + 1 : 0;
    ranges[i] = (qk_attention_range){low > 0 ? low : 0, first + i + 1};
    positions[i] = first + i;
  }
  const float factor = 0.3f / (s->cap != 0 ? s->cap : 1);
  const float *source = queries + first * s->group * d;
  qk_attention_rows r = {.queries = (float *)gq.bytes,
                         .states = (float *)gs.bytes,
                         .scores = (float *)gp.bytes,
                         .rows = rows,
                         .key_width = d,
                         .value_stride = stride,
                         .rows_per_position = s->group,
                         .seen = ranges,
                         .mask = s->mask ? masks[first] : NULL,
                         .mask_words = POSITIONS / 64 + 1,
                         .slopes = s->slopes ? slopes : NULL,
                         .positions = positions,
                         .soft_cap_log2e = s->cap};
  prepare(k, s, c->type, source, factor, count, gq, gs);
  for (ptrdiff_t start = 0; start < first + count; start += QK_ATTENTION_PARTITION) {
    if (split) {
      prepare(k, s, c->type, source, factor, count, gq, gl);
      r.states = (float *)gl.bytes;
    }
    const void *keys[QK_ATTENTION_POINTERS], *values[QK_ATTENTION_POINTERS];
    for (ptrdiff_t i = 0; i < QK_ATTENTION_POINTERS; i++) {
      const ptrdiff_t block = start / 16 + i < BLOCKS ? start / 16 + i : BLOCKS - 1;
      keys[i] = (const char *)c->keys.bytes + block * qk_key_block_bytes(c->type, d);
      values[i] =
          (const char *)c->values.bytes + block * qk_value_block_bytes(c->type, s->value_width);
    }
    if (c->type == QK_KV_PAIRS)
      qk_attention_pairs_for(QK_ISA_AVX512VNNI)->partition(&r, start, keys, values);
    else
      k->partition[c->type](&r, start, keys, values);
    if (split) k->merge((float *)gs.bytes, (float *)gl.bytes, rows, stride);
  }
  k->finish((float *)gs.bytes, count, s->group, s->value_width, stride, s->sinks ? sinks : NULL,
            out, s->group * s->value_width, logarithms, s->group);
  release(gq), release(gs), release(gl), release(gp);
}

static cache store(const qk_attention_kernels *k, const float *keys, const float *values,
                   const shape *s, qk_kv_type type) {
  const ptrdiff_t key_bytes = qk_key_block_bytes(type, s->key_width);
  const ptrdiff_t value_bytes = qk_value_block_bytes(type, s->value_width);
  cache c = {reserve((size_t)(BLOCKS * key_bytes)), reserve((size_t)(BLOCKS * value_bytes)), type};
  memset(c.keys.bytes, 0, (size_t)(BLOCKS * key_bytes));
  memset(c.values.bytes, 0, (size_t)(BLOCKS * value_bytes));
  for (ptrdiff_t t = 0, most = 1; t < POSITIONS; most = most % 16 + 1) { // in runs of 1, 2, 3, ...
    ptrdiff_t count = 16 - t % 16;
    if (count > most) count = most;
    if (count > POSITIONS - t) count = POSITIONS - t;
    k->store[type](keys + t * s->key_width, s->key_width, values + t * s->value_width,
                   s->value_width, t % 16, count, s->key_width, s->value_width,
                   (char *)c.keys.bytes + t / 16 * key_bytes,
                   (char *)c.values.bytes + t / 16 * value_bytes);
    t += count;
  }
  return c;
}

// The same numbers as float32, by `widen`.
static cache widened(const qk_attention_kernels *k, const cache *c, const shape *s) {
  const ptrdiff_t stride = qk_value_stride(s->value_width);
  cache wide = {reserve((size_t)(BLOCKS * 64 * s->key_width)),
                reserve((size_t)(BLOCKS * 64 * stride)), QK_KV_FLOAT};
  for (ptrdiff_t b = 0; b < BLOCKS; b++)
    (c->type == QK_KV_HALF ? k->widen_half : k->widen_brain)(
        (char *)c->keys.bytes + b * qk_key_block_bytes(c->type, s->key_width),
        (char *)c->values.bytes + b * qk_value_block_bytes(c->type, s->value_width), s->key_width,
        stride, (float *)wide.keys.bytes + b * 16 * s->key_width,
        (float *)wide.values.bytes + b * 16 * stride);
  return wide;
}

// The same numbers in pairs of bfloat16.
static cache paired(const cache *c, const shape *s) {
  const ptrdiff_t key_bytes = qk_key_block_bytes(QK_KV_PAIRS, s->key_width);
  const ptrdiff_t value_bytes = qk_value_block_bytes(QK_KV_PAIRS, s->value_width);
  cache pairs = {reserve((size_t)(BLOCKS * key_bytes)), reserve((size_t)(BLOCKS * value_bytes)),
                 QK_KV_PAIRS};
  for (ptrdiff_t b = 0; b < BLOCKS; b++)
    qk_attention_pairs_for(QK_ISA_AVX512VNNI)
        ->pair[c->type]((char *)c->keys.bytes + b * qk_key_block_bytes(c->type, s->key_width),
                        (char *)c->values.bytes + b * qk_value_block_bytes(c->type, s->value_width),
                        s->key_width, qk_value_stride(s->value_width),
                        (char *)pairs.keys.bytes + b * key_bytes,
                        (char *)pairs.values.bytes + b * value_bytes);
  return pairs;
}

static const shape shapes[] = {
    {16, 16, 1, 0, 0, 0, 0, 0},   {33, 33, 2, 0, 0, 0, 1, 0},  {64, 64, 3, 0, 0, 1, 0, 0},
    {80, 80, 1, 100, 0, 0, 0, 1}, {8, 8, 7, 0, 2, 1, 1, 1},    {128, 128, 4, 300, 3, 0, 0, 0},
    {1, 1, 5, 1, 0, 0, 0, 0},     {40, 72, 2, 0, 0, 0, 0, 1},  {96, 24, 6, 0, 0, 0, 1, 0},
    {256, 256, 1, 0, 0, 0, 0, 0}, {48, 160, 3, 0, 0, 1, 1, 1},
};
static const ptrdiff_t edges[] = {0, 1, 15, 16, 63, 64, 255, 256, 257, 511, 512, 549};

// Products of pairs of bfloat16: rows together and alone to the bit, and near those in float32. Scores
// of these numbers, below 100, are off by less than 1/8; probabilities, and outputs of values below 1,
// by a factor within 1 +- 0.3.
static void check_pairs(qk_isa isa) {
  const qk_attention_kernels *k = qk_attention_kernels_for(isa);
  if (isa < QK_ISA_AVX512VNNI || qk_attention_pairs_for(isa) == NULL) return;
  for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
    for (int type = 0; type <= QK_KV_BRAIN; type++) {
      const shape *s = &shapes[i];
      const size_t wide = (size_t)(s->group * s->key_width),
                   out = (size_t)(s->group * s->value_width);
      guarded gq, gk, gv, go, ga, gb;
      const float *queries = floats(&gq, POSITIONS * wide, 2),
                  *keys = floats(&gk, (size_t)(POSITIONS * s->key_width), 2),
                  *values = floats(&gv, (size_t)(POSITIONS * s->value_width), 1);
      float *all = floats(&go, POSITIONS * out, 1), *a = floats(&ga, out, 1),
            *b = floats(&gb, out, 1);
      cache own = store(k, keys, values, s, (qk_kv_type)type), pairs = paired(&own, s);
      attend(k, s, &pairs, queries, 0, POSITIONS, 0, all, NULL);
      for (size_t e = 0; e < sizeof edges / sizeof *edges; e++) {
        attend(k, s, &pairs, queries, edges[e], 1, 1, a, NULL);
        same("a row of pairs alone", isa, edges[e], a, all + (size_t)edges[e] * out, 4 * out);
        attend(k, s, &own, queries, edges[e], 1, 0, b, NULL);
        float worst = 0;
        for (size_t o = 0; o < out; o++) worst = fmaxf(worst, fabsf(a[o] - b[o]));
        checks++;
        if (worst <= 0.3f) continue;
        failures++;
        printf("FAILED pairs of shape %zu, type %d, query %td: off by %g\n", i, type, edges[e], worst);
      }
      release(gq), release(gk), release(gv), release(go), release(ga), release(gb);
      release(own.keys), release(own.values), release(pairs.keys), release(pairs.values);
    }
}

static void check_attention(qk_isa isa) {
  const qk_attention_kernels *k = qk_attention_kernels_for(isa),
                             *scalar = qk_attention_kernels_for(QK_ISA_SCALAR);
  for (ptrdiff_t q = 0; q < POSITIONS; q++)
    for (ptrdiff_t word = 0; word < POSITIONS / 64 + 1; word++)
      masks[q][word] = (q + word) % 3 == 0   ? 0
                       : (q + word) % 3 == 1 ? ~(uint64_t)0
                                             : 0x9E3779B97F4A7C15u * (uint64_t)(q * 16 + word + 1);
  for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
    for (int type = 0; type < QK_KV_COUNT; type++) {
      const shape *s = &shapes[i];
      const size_t wide = (size_t)(s->group * s->key_width),
                   out = (size_t)(s->group * s->value_width), group = (size_t)s->group;
      guarded gq, gk, gv, go, gl, ga, gb, gm;
      const float *queries = floats(&gq, POSITIONS * wide, 2),
                  *keys = floats(&gk, (size_t)(POSITIONS * s->key_width), 2),
                  *values = floats(&gv, (size_t)(POSITIONS * s->value_width), 1);
      float *all = floats(&go, POSITIONS * out, 1), *logarithms = floats(&gl, POSITIONS * group, 1);
      float *a = floats(&ga, out, 1), *b = floats(&gb, out, 1), *m = floats(&gm, group, 1);
      cache own = store(k, keys, values, s, (qk_kv_type)type);
      cache other = store(scalar, keys, values, s, (qk_kv_type)type);
      const size_t stored = (size_t)(BLOCKS * qk_key_block_bytes(own.type, s->key_width));
      same("the stored keys", isa, (long)i, own.keys.bytes, other.keys.bytes, stored);
      same("the stored values", isa, (long)i, own.values.bytes, other.values.bytes,
           (size_t)(BLOCKS * qk_value_block_bytes(own.type, s->value_width)));
      // The scalar reference computes row by row anyway, and slowly.
      if (isa != QK_ISA_SCALAR) attend(k, s, &own, queries, 0, POSITIONS, 0, all, logarithms);
      const int widens = type == QK_KV_HALF || type == QK_KV_BRAIN;
      cache floats_of_it = widens ? widened(k, &own, s) : (cache){0};
      for (size_t e = 0; e < sizeof edges / sizeof *edges; e++) {
        const size_t at = (size_t)edges[e];
        if (isa == QK_ISA_SCALAR)
          attend(k, s, &own, queries, edges[e], 1, 0, all + at * out, logarithms + at * group);
        attend(k, s, &own, queries, edges[e], 1, 1, a, m);
        same("a row alone", isa, (long)at, a, all + at * out, 4 * out);
        same("its logarithm", isa, (long)at, m, logarithms + at * group, 4 * group);
        attend(scalar, s, &other, queries, edges[e], 1, 0, b, m);
        same("attention", isa, (long)at, a, b, 4 * out);
        same("logarithm", isa, (long)at, m, logarithms + at * group, 4 * group);
        if (!widens) continue;
        attend(k, s, &floats_of_it, queries, edges[e], 1, 0, b, NULL);
        same("attention over the widened", isa, (long)at, a, b, 4 * out);
      }
      release(gq), release(gk), release(gv), release(go), release(gl), release(ga), release(gb);
      release(gm), release(own.keys), release(own.values), release(other.keys);
      release(other.values);
      if (widens) release(floats_of_it.keys), release(floats_of_it.values);
    }
}

int main(int count, char **arguments) {
  setvbuf(stdout, NULL, _IOLBF, 0);
  if (count < 2) {
    puts("usage: attention_driver LEVEL[,LEVEL...]");
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
        (qk_attention_kernels_for((qk_isa)isa) == qk_attention_kernels_for(QK_ISA_SCALAR) ||
         qk_vector_kernels_for((qk_isa)isa) == qk_vector_kernels_for(QK_ISA_SCALAR))) {
      printf("FAILED %s has no kernels of its own\n", name);
      return 1;
    }
    check_vectors((qk_isa)isa);
    check_attention((qk_isa)isa);
    check_pairs((qk_isa)isa);
  }
  printf("%ld comparisons, %d failures\n", checks, failures);
  return failures ? 1 : 0;
}
