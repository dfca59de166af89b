// Runs the vector operations and the attention of every level that this processor supports and
// compares bits with the scalar level: over counts that end in every part of a vector, head widths,
// groups, windows, soft-caps, both cache types, and rows computed together against rows computed
// alone.
//
//   attention_driver scalar,neonDotprod,neonI8mm
//
// The argument lists the levels that this processor must support, in order. Exit code 0 when
// everything agrees, 1 otherwise. A kernel that reads or writes outside of its buffers dies on a
// guard page.
#include <math.h>
#include <string.h>

#include "driver_support.h"
#include "qk_attention.h"
#include "qk_vector.h"

static int failures = 0;
static long checks = 0;

static void same(const char *what, qk_isa isa, long where, const void *a, const void *b,
                 size_t bytes) {
  checks++;
  if (memcmp(a, b, bytes) != 0 && failures++ < 20)
    printf("FAILED %s of %s differs from scalar at %ld\n", what, qk_isa_name(isa), where);
}

static float *floats(guarded *g, size_t count, float bound) {
  *g = reserve(4 * count);
  float *x = (float *)g->bytes;
  for (size_t i = 0; i < count; i++) x[i] = bound * unit();
  return x;
}

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

enum { POSITIONS = 550 };

typedef struct shape {
  ptrdiff_t dimension, group, window;
  float cap;
} shape;

typedef struct cache {
  guarded keys, values;
  int half;
} cache;

// Attends from `count` positions from `first` on into out; partitions apart and merged when
// `split`.
static void attend(const qk_attention_kernels *k, const shape *s, const cache *c,
                   const float *queries, ptrdiff_t first, ptrdiff_t count, int split, float *out) {
  const ptrdiff_t d = s->dimension, stride = (d + 15) / 16 * 16, rows = count * s->group;
  const size_t states = (size_t)(rows * (QK_ATTENTION_STATE_HEADER + stride));
  guarded gq = reserve(4 * (size_t)(rows * d)), gs = reserve(4 * states), gl = reserve(4 * states);
  guarded gp = reserve(4 * QK_ATTENTION_ROWS * QK_ATTENTION_PARTITION);
  // Scores may hold anything from before.
  memset(gp.bytes, 0xFF, 4 * QK_ATTENTION_ROWS * QK_ATTENTION_PARTITION);
  const float factor = 0.3f / (s->cap != 0 ? s->cap : 1);
  const float *source = queries + first * s->group * d;
  qk_attention_rows r = {(float *)gq.bytes, (float *)gs.bytes, (float *)gp.bytes, rows,  d, stride,
                         s->group,          first,             s->window,         s->cap};
  k->prepare(source, s->group * d, factor, count, s->group, d, stride, (float *)gq.bytes,
             (float *)gs.bytes);
  for (ptrdiff_t start = 0; start < first + count; start += QK_ATTENTION_PARTITION) {
    if (split) {
      k->prepare(source, s->group * d, factor, count, s->group, d, stride, (float *)gq.bytes,
                 (float *)gl.bytes);
      r.states = (float *)gl.bytes;
    }
    if (c->half)
      k->partition_half(&r, start, (const uint16_t *)c->keys.bytes + start * d,
                        (const uint16_t *)c->values.bytes + start * stride);
    else
      k->partition_float(&r, start, (const float *)c->keys.bytes + start * d,
                         (const float *)c->values.bytes + start * stride);
    if (split) k->merge((float *)gs.bytes, (float *)gl.bytes, rows, stride);
  }
  k->finish((float *)gs.bytes, count, s->group, d, stride, out, s->group * d);
  release(gq), release(gs), release(gl), release(gp);
}

static cache store(const qk_attention_kernels *k, const float *keys, const float *values,
                   ptrdiff_t d, int half) {
  const ptrdiff_t stride = (d + 15) / 16 * 16, positions = (POSITIONS + 63) / 64 * 64;
  const size_t size = half ? 2 : 4;
  cache c = {reserve(size * (size_t)(positions * d)), reserve(size * (size_t)(positions * stride)),
             half};
  for (ptrdiff_t t = 0; t < POSITIONS;) { // in runs of 1, 2, 4, ...
    ptrdiff_t count = t + 1 < POSITIONS - t ? t + 1 : POSITIONS - t;
    if (half)
      k->store_half(keys + t * d, values + t * d, d, t, count, d, stride, (uint16_t *)c.keys.bytes,
                    (uint16_t *)c.values.bytes);
    else
      k->store_float(keys + t * d, values + t * d, d, t, count, d, stride, (float *)c.keys.bytes,
                     (float *)c.values.bytes);
    t += count;
  }
  return c;
}

static void check_attention(qk_isa isa) {
  static const shape shapes[] = {{16, 1, 0, 0}, {33, 2, 0, 0}, {64, 3, 0, 0}, {80, 1, 100, 0},
                                 {8, 7, 0, 2},  {128, 4, 300, 3}, {1, 5, 1, 0}};
  static const ptrdiff_t edges[] = {0, 1, 15, 16, 63, 64, 255, 256, 257, 511, 512, 549};
  const qk_attention_kernels *k = qk_attention_kernels_for(isa),
                             *scalar = qk_attention_kernels_for(QK_ISA_SCALAR);
  for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
    for (int half = 0; half < 2; half++) {
      const shape *s = &shapes[i];
      const size_t width = (size_t)(s->group * s->dimension),
                   kv = (size_t)(POSITIONS * s->dimension);
      guarded gq, gk, gv, go, ga, gb;
      const float *queries = floats(&gq, POSITIONS * width, 2), *keys = floats(&gk, kv, 2),
                  *values = floats(&gv, kv, 1);
      float *all = floats(&go, POSITIONS * width, 1), *a = floats(&ga, width, 1),
            *b = floats(&gb, width, 1);
      cache own = store(k, keys, values, s->dimension, half);
      cache other = store(scalar, keys, values, s->dimension, half);
      same("the stored keys", isa, (long)i, own.keys.bytes, other.keys.bytes, (half ? 2 : 4) * kv);
      attend(k, s, &own, queries, 0, POSITIONS, 0, all);
      for (size_t e = 0; e < sizeof edges / sizeof *edges; e++) {
        attend(k, s, &own, queries, edges[e], 1, 1, a);
        same("a row alone", isa, (long)edges[e], a, all + (size_t)edges[e] * width, 4 * width);
        attend(scalar, s, &other, queries, edges[e], 1, 0, b);
        same("attention", isa, (long)edges[e], a, b, 4 * width);
      }
      release(gq), release(gk), release(gv), release(go), release(ga), release(gb);
      release(own.keys), release(own.values), release(other.keys), release(other.values);
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
  }
  printf("%ld comparisons, %d failures\n", checks, failures);
  return failures ? 1 : 0;
}
