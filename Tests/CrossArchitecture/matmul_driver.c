// Runs every matmul kernel of every level that this processor supports and compares bits: with a
// reference that is written here from the documented formats and float expression, hence also with
// the scalar level, which is one of them.
//
//   matmul_driver scalar,neonDotprod,neonI8mm
//
// The argument lists the levels that this processor must support, in order; the best of them, or
// the one that QK_MAX_ISA names, must be what dispatch picks. Exit code 0 when everything agrees, 1
// otherwise. A kernel that reads or writes outside of its buffers dies on a guard page.
#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "matmul_reference.h"

static int failures = 0;
static long checks = 0;

static void fail(const char *format, ...) {
  va_list list;
  va_start(list, format);
  if (failures++ < 20) {
    fputs("FAILED ", stdout);
    vprintf(format, list);
    putchar('\n');
  }
  va_end(list);
}

// What runs now, for whoever dies on a guard page.
static char running[128] = "";
static void die(int number) {
  (void)number;
  static const char text[] = "FAILED: memory outside of its buffers is touched by ";
  if (write(1, text, sizeof text - 1) < 0 || write(1, running, strlen(running)) < 0 ||
      write(1, "\n", 1) < 0)
    _exit(2);
  _exit(1);
}

static int same(float a, float b) { return (isnan(a) && isnan(b)) || memcmp(&a, &b, 4) == 0; }

// MARK: The checks of one level

typedef struct tile {
  guarded x, codes, scale, sum, initial, floats;
} tile;

// Quantizes `rows` rows with a level's kernel and checks every array.
static tile quantize(const qk_matmul_table *t, const activations *a, size_t rows, int format,
                     size_t subgroups) {
  const size_t groups = a->k / 32, step = (size_t)t->step;
  const int halves = format == QK_Q6_K;
  tile q = {reserve(4 * rows * a->columns),
            reserve(rows * a->k),
            reserve(4 * rows * groups),
            reserve(4 * rows * groups / subgroups),
            reserve(4 * rows * groups * (halves ? 2 : 1)),
            reserve(4 * rows * a->k)};
  for (size_t i = 0; i < rows; i++) memcpy(q.x.bytes + 4 * i * a->columns, a->x[i], 4 * a->columns);
  const qk_quantize_args args = {.x = (const float *)q.x.bytes,
                                 .x_stride = a->columns,
                                 .rows = rows,
                                 .columns = a->columns,
                                 .groups = groups,
                                 .subgroups = subgroups,
                                 .zero = qk_zero((qk_format)format),
                                 .halves = halves,
                                 .codes = (int8_t *)q.codes.bytes,
                                 .scale = (float *)q.scale.bytes,
                                 .sum = (float *)q.sum.bytes,
                                 .initial = (int32_t *)q.initial.bytes};
  snprintf(running, sizeof running, "%s quantize, %zu rows", qk_isa_name(t->isa), rows);
  t->quantize(&args);
  for (size_t i = 0; i < rows; i++) {
    for (size_t k = 0; k < a->k; k++) {
      ((float *)q.floats.bytes)[k * rows + i] = a->x[i][k];
      if (args.codes[(k / step * rows + i) * step + k % step] != a->code[i][k])
        fail("%s quantize %zu rows: code %zu of row %zu", qk_isa_name(t->isa), rows, k, i);
    }
    for (size_t g = 0; g < groups; g++) {
      if (!same(args.scale[g * rows + i], a->scale[i][g]))
        fail("%s quantize %zu rows: scale %zu of row %zu", qk_isa_name(t->isa), rows, g, i);
      for (size_t h = 0; h < (halves ? 2 : 1); h++) {
        const int32_t sum =
            halves ? code_sum(a, i, 32 * g + 16 * h, 16) : code_sum(a, i, 32 * g, 32);
        if (args.initial[(halves ? 2 * g + h : g) * rows + i] != -args.zero * sum)
          fail("%s quantize %zu rows: start %zu of row %zu", qk_isa_name(t->isa), rows, g, i);
      }
    }
    for (size_t b = 0; b < groups / subgroups; b++)
      if (!same(args.sum[b * rows + i], scaled_sum(a, i, b * subgroups, subgroups)))
        fail("%s quantize %zu rows: sum %zu of row %zu", qk_isa_name(t->isa), rows, b, i);
  }
  checks += (long)(rows * a->k);
  return q;
}

static void release_tile(tile q) {
  release(q.x), release(q.codes), release(q.scale), release(q.sum), release(q.initial),
      release(q.floats);
}

// Rows of a tile in kernels of 16, 8, 4, 2 and 1 rows, as the package cuts it.
static void multiply(const qk_matmul_table *t, qk_format format, qk_matmul_args args, size_t rows,
                     const tile *q) {
  float *y = args.y;
  args.x_rows = rows;
  for (size_t done = 0; done < rows;) {
    size_t height = 16;
    while (height > rows - done) height /= 2;
    args.x = (const int8_t *)q->codes.bytes + (size_t)t->step * done;
    args.x_scale = (const float *)q->scale.bytes + done;
    args.x_sum = (const float *)q->sum.bytes + done;
    args.x_init = (const int32_t *)q->initial.bytes + done;
    args.x_float = (const float *)q->floats.bytes + done;
    args.y = y + done * args.y_stride;
    snprintf(running, sizeof running, "%s %s, rows %zu+%zu of %zu", qk_isa_name(t->isa),
             format_names[format], done, height, rows);
    qk_matmul_entry(t, format, height)(&args);
    done += height;
  }
}

static const float untouched = 12345.5f;
static float wanted[ROWS][OUTPUTS];

static void compare(const qk_matmul_table *t, const char *what, int format, size_t rows,
                    const float *y, size_t stride) {
  for (size_t i = 0; i < rows; i++)
    for (size_t n = 0; n < (i + 1 < rows ? stride : OUTPUTS); n++) {
      const float found = y[i * stride + n];
      if (!same(found, n < OUTPUTS ? wanted[i][n] : untouched))
        fail("%s %s %s, %zu rows: row %zu output %zu is %a, not %a", qk_isa_name(t->isa), what,
             format_names[format], rows, i, n, found, n < OUTPUTS ? wanted[i][n] : untouched);
    }
  checks += (long)(rows * OUTPUTS);
}

static void check_products(const qk_matmul_table *t, const weights *w, const activations *a,
                           const guarded *packed, const guarded *plain) {
  const qk_format format = (qk_format)w->format;
  const int dense = is_dense(format);
  const size_t sum_groups = is_kquant(format) ? 1 : w->subgroups;
  const size_t stride = OUTPUTS + 7;
  for (size_t rows = 1; rows <= ROWS; rows++) {
    tile q = quantize(t, a, rows, dense ? QK_INT4_H : format, sum_groups);
    guarded y = reserve(4 * ((rows - 1) * stride + OUTPUTS));
    for (int unpacked = 0; unpacked <= !dense; unpacked++) {
      for (size_t i = 0; i < (rows - 1) * stride + OUTPUTS; i++) ((float *)y.bytes)[i] = untouched;
      qk_matmul_args args = {.blocks = w->blocks,
                             .subgroups = w->subgroups,
                             .y_stride = stride,
                             .y = (float *)y.bytes,
                             .panels = PANELS,
                             .outputs = OUTPUTS,
                             .weights = packed->bytes,
                             .panel_stride = w->blocks * qk_block_bytes(format, w->subgroups),
                             .prefetch = rows & 1 ? 2048 : 0};
      qk_format run = format;
      if (unpacked) {
        run = qk_plain_format(format);
        args.subgroups = sum_groups;
        args.blocks = w->k / 32 / sum_groups;
        args.panel_stride = args.blocks * qk_block_bytes(run, sum_groups);
        args.weights = plain->bytes;
      }
      multiply(t, run, args, rows, &q);
      compare(t, unpacked ? "unpacked" : "packed", (int)format, rows, (const float *)y.bytes,
              stride);
    }
    release(y);
    release_tile(q);
  }
}

static void check_format(const qk_matmul_table *t, const weights *w, const activations *a) {
  const qk_format format = (qk_format)w->format;
  guarded packed = pack(w, (size_t)t->step);
  const size_t stride = w->blocks * qk_block_bytes(format, w->subgroups);
  guarded plain = {0};
  if (!is_dense(format)) {
    const qk_format form = qk_plain_format(format);
    const size_t subgroups = is_kquant(format) ? 1 : w->subgroups;
    const size_t plain_stride = w->k / 32 / subgroups * qk_block_bytes(form, subgroups);
    plain = reserve(PANELS * plain_stride);
    snprintf(running, sizeof running, "%s unpack %s", qk_isa_name(t->isa), format_names[format]);
    for (size_t panel = 0; panel < PANELS; panel++)
      qk_unpack_entry(t, format)(packed.bytes + panel * stride, w->blocks, w->subgroups,
                                 plain.bytes + panel * plain_stride);
  }
  check_products(t, w, a, &packed, &plain);
  guarded values = reserve(4 * 16 * w->k);
  for (size_t panel = 0; panel < PANELS; panel++) {
    snprintf(running, sizeof running, "%s dequantize %s", qk_isa_name(t->isa),
             format_names[format]);
    qk_dequantize_entry(t, format)(packed.bytes + panel * stride, w->blocks, w->subgroups,
                                   (float *)values.bytes);
    for (size_t n = 16 * panel; n < OUTPUTS && n < 16 * panel + 16; n++)
      for (size_t k = 0; k < w->k; k++) {
        checks++;
        if (!same(((const float *)values.bytes)[16 * k + n % 16], dequantized(w, n, k)))
          fail("%s dequantize %s: output %zu k %zu", qk_isa_name(t->isa), format_names[format], n,
               k);
      }
  }
  release(values);
  release(packed);
  if (!is_dense(format)) release(plain);
}

// y (+)= x · w in float32, one fused multiply-add a k.
static void check_floats(const qk_matmul_table *t) {
  enum { DEPTH = 37 };
  for (size_t height = 1; height <= 16; height *= 2) {
    const size_t rows = height == 16 ? 16 : height + 1; // a tile that is taller than the kernel
    guarded w = reserve(4 * 16 * DEPTH), x = reserve(4 * (DEPTH * rows - (rows - height))),
            y = reserve(4 * 16 * height);
    float *wf = (float *)w.bytes, *xf = (float *)x.bytes, *yf = (float *)y.bytes,
          reference[16 * 16];
    for (size_t i = 0; i < 16 * DEPTH; i++) wf[i] = unit();
    for (size_t i = 0; i < DEPTH * rows - (rows - height); i++) xf[i] = unit();
    for (size_t i = 0; i < 16 * height; i++) reference[i] = yf[i] = unit();
    for (size_t i = 0; i < height; i++)
      for (size_t n = 0; n < 16; n++)
        for (size_t k = 0; k < DEPTH; k++)
          reference[16 * i + n] = fmaf(wf[16 * k + n], xf[k * rows + i], reference[16 * i + n]);
    const qk_float_args args = {.weights = wf, .depth = DEPTH, .x = xf, .x_rows = rows, .y = yf};
    snprintf(running, sizeof running, "%s float product, %zu rows", qk_isa_name(t->isa), height);
    qk_float_entry(t, height)(&args);
    for (size_t i = 0; i < 16 * height; i++) {
      checks++;
      if (!same(yf[i], reference[i]))
        fail("%s float product of %zu rows: %zu", qk_isa_name(t->isa), height, i);
    }
    release(w), release(x), release(y);
  }
}

// MARK: Dispatch

static int check_dispatch(const char *list, int supported[QK_ISA_COUNT]) {
  char last[32] = "";
  for (int isa = 0; isa < QK_ISA_COUNT; isa++) {
    const char *name = qk_isa_name((qk_isa)isa), *at = strstr(list, name);
    const size_t length = strlen(name);
    const int listed =
        at && (at == list || at[-1] == ',') && (at[length] == 0 || at[length] == ',');
    supported[isa] = listed;
    if (listed) snprintf(last, sizeof last, "%s", name);
    const qk_matmul_table *t = qk_matmul_kernels((qk_isa)isa);
    if (listed != qk_isa_supported((qk_isa)isa))
      fail("%s is %ssupported", name, listed ? "not " : "");
    if (listed != (t != NULL)) fail("%s has %s kernels", name, t ? "unexpected" : "no");
    if (t && t->isa != (qk_isa)isa) fail("%s got the kernels of %s", name, qk_isa_name(t->isa));
    const qk_matmul_table *scalar = qk_matmul_kernels(QK_ISA_SCALAR);
    for (int f = 0; t && isa != QK_ISA_SCALAR && f < QK_FORMATS; f++)
      for (int h = 0; h < QK_HEIGHTS; h++)
        if (!t->matmul[f][h] || t->matmul[f][h] == scalar->matmul[f][h])
          fail("%s has no kernel of its own for %s", name, format_names[f]);
  }
  const char *cap = getenv("QK_MAX_ISA");
  const char *best = qk_isa_name(qk_isa_best());
  if (strcmp(best, cap ? cap : last) != 0)
    fail("dispatch chose %s, not %s", best, cap ? cap : last);
  printf("levels %s, dispatch to %s\n", list, best);
  return failures == 0;
}

int main(int count, char **arguments) {
  static weights w;
  static activations a;
  int supported[QK_ISA_COUNT];
  setvbuf(stdout, NULL, _IOLBF, 0); // a crash must not swallow what came before
  if (count < 2) {
    puts("usage: matmul_driver LEVEL[,LEVEL...]");
    return 64;
  }
  signal(SIGSEGV, die);
  signal(SIGBUS, die);
  if (!check_dispatch(arguments[1], supported)) return 1;
  for (int format = 0; format < QK_PLAIN_S; format++) {
    // Blocks × groups of 32: a group a block, several, and K-quants' fixed eight.
    static const size_t shapes[3][2] = {{5, 1}, {3, 2}, {2, 4}};
    for (int s = 0; s < (is_kquant(format) ? 1 : is_dense(format) ? 2 : 3); s++) {
      const size_t blocks = is_kquant(format) ? 2 : shapes[s][0],
                   subgroups = is_kquant(format) ? 8 : shapes[s][1];
      make_weights(&w, format, blocks, subgroups);
      // Half of the shapes pad K: the last group of activations is partly, and once wholly, absent.
      const size_t absent = s == 1 ? 9 : s == 2 ? 40 : 0;
      make_activations(&a, w.k - absent, w.k, s == 0);
      for (size_t i = 0; i < ROWS; i++)
        for (size_t n = 0; n < OUTPUTS; n++) wanted[i][n] = expected(&w, &a, i, n);
      for (int isa = 0; isa < QK_ISA_COUNT; isa++)
        if (supported[isa]) check_format(qk_matmul_kernels((qk_isa)isa), &w, &a);
    }
  }
  for (int isa = 0; isa < QK_ISA_COUNT; isa++)
    if (supported[isa]) check_floats(qk_matmul_kernels((qk_isa)isa));
  printf("%ld comparisons, %d failures\n", checks, failures);
  return failures ? 1 : 0;
}
