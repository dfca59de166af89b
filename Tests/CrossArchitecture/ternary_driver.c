// Runs the ternary kernels of every level that this processor supports against sums in 64 bits: panels of both formats,
// blocks with scales of their own, lookup tables, and the quantisers against the scalar ones. Packing is written here apart from the package's.
// Usage: ternary_driver LEVEL[,LEVEL...], the levels that must be supported.
#include "driver_support.h"
#include "qk_lookup.h"
#include "qk_ternary.h"

#include <math.h>
#include <stdarg.h>
#include <string.h>

enum { N_MOST = 80, K_MOST = 1000, M_MOST = 7 };

static long checks;
static int failures;
static uint8_t codes[N_MOST * K_MOST];

static void check(int holds, const char *format, ...) {
  checks++;
  if (holds || failures++ > 20) return;
  va_list list;
  va_start(list, format);
  vprintf(format, list);
  va_end(list);
  puts("");
}

static int code(size_t n, size_t k, size_t outputs, size_t columns) {
  return n < outputs && k < columns ? codes[n * columns + k] : 1;
}

// What activations and weights are: random, or the extremes.
typedef enum { RANDOM, ALL_LOW, ALL_HIGH, KINDS } kind;

static void fill_codes(size_t count, kind of) {
  for (size_t i = 0; i < count; i++) codes[i] = of == RANDOM ? next() % 3 : of == ALL_LOW ? 0 : 2;
}
static int8_t activation(kind of) { return of == RANDOM ? (int8_t)next() : of == ALL_LOW ? -128 : 127; }

// Panels of the codes, head and vectors; `step` is the level's k.
static void pack(guarded w, qk_ternary_format format, size_t step, size_t vectors, size_t outputs, size_t columns) {
  const size_t fields = (size_t)qk_ternary_steps(format), head = (size_t)qk_ternary_head(format);
  const size_t stride = head + vectors * 16 * step;
  for (size_t p = 0; p < (outputs + 15) / 16; p++)
    for (size_t lane = 0; lane < 16; lane++) {
      int32_t total = 0;
      for (size_t v = 0; v < vectors; v++)
        for (size_t e = 0; e < step; e++) {
          unsigned number = 0, bits = 0;
          for (size_t f = 0; f < fields; f++) {
            const int c = code(16 * p + lane, (v * fields + f) * step + e, outputs, columns);
            number = 3 * number + (unsigned)c;
            bits |= (unsigned)c << 2 * (f & 3);
            total += c - 1;
          }
          w.bytes[p * stride + head + (v * 16 + lane) * step + e] =
              (uint8_t)(format == QK_T2 ? bits : ((number * 256 + 242) / 243) ^ 128);
        }
      if (head) memcpy(w.bytes + p * stride + 4 * lane, &total, 4);
    }
}

static void check_panels(const qk_ternary_table *t, qk_ternary_format format, size_t outputs, size_t columns,
                         size_t rows, kind weights, kind inputs) {
  const size_t step = (size_t)t->step, fields = (size_t)qk_ternary_steps(format), chunk = QK_TERNARY_STEPS * step;
  const size_t vectors = (columns + fields * step - 1) / (fields * step), panels = (outputs + 15) / 16;
  const size_t head = (size_t)qk_ternary_head(format), stride = head + vectors * 16 * step;
  const size_t chunks = (columns + chunk - 1) / chunk;
  guarded w = reserve(panels * stride), x = reserve(chunks * chunk * rows), y = reserve(4 * rows * outputs);
  fill_codes(outputs * columns, weights);
  pack(w, format, step, vectors, outputs, columns);
  int32_t sums[M_MOST] = {0}, scratch[16 * QK_TERNARY_SUMS * M_MOST];
  float x_scale[M_MOST], w_scale[N_MOST];
  memset(x.bytes, 0, chunks * chunk * rows);
  for (size_t m = 0; m < rows; m++) {
    x_scale[m] = 3 + (float)m;
    for (size_t k = 0; k < columns; k++) {
      const int8_t a = activation(inputs);
      x.bytes[(k / chunk * rows + m) * chunk + k % chunk] = (uint8_t)a;
      sums[m] += a;
    }
  }
  for (size_t n = 0; n < 16 * panels; n++) w_scale[n] = 0.5f + (float)n;
  const qk_ternary_args args = {w.bytes, stride,  panels,  vectors,          (int8_t *)x.bytes, rows,    sums,
                                x_scale, w_scale, (float *)y.bytes, outputs, outputs,           scratch};
  qk_ternary_entry(t, format)(&args);
  for (size_t m = 0; m < rows; m++)
    for (size_t n = 0; n < outputs; n++) {
      int64_t dot = 0;
      for (size_t k = 0; k < columns; k++)
        dot += (codes[n * columns + k] - 1) * (int8_t)x.bytes[(k / chunk * rows + m) * chunk + k % chunk];
      const float wanted = (float)(int32_t)dot * (w_scale[n] / x_scale[m]);
      check(memcmp(&wanted, y.bytes + 4 * (m * outputs + n), 4) == 0,
            "%s format %d, %zu x %zu, row %zu of %zu, output %zu", qk_isa_name(t->isa), format, outputs, columns, m, rows,
            n);
    }
  release(w), release(x), release(y);
}

// Activations of Q8_K's range with a scale for each 256, against the sums of the blocks in 64 bits.
static void check_blocks(const qk_ternary_table *t, size_t outputs, size_t columns, size_t rows, kind weights,
                         kind inputs) {
  const size_t step = (size_t)t->step, vectors = (columns + 4 * step - 1) / (4 * step), panels = (outputs + 15) / 16;
  const size_t blocks = (columns + 255) / 256, stride = vectors * 16 * step;
  guarded w = reserve(panels * stride), x = reserve(blocks * 256 * rows), y = reserve(4 * rows * outputs);
  fill_codes(outputs * columns, weights);
  pack(w, QK_T2, step, vectors, outputs, columns);
  int32_t sums[4 * M_MOST] = {0}, scratch[16 * M_MOST];
  float d[4 * M_MOST], totals[16 * M_MOST], w_scale[N_MOST];
  memset(x.bytes, 0, blocks * 256 * rows);
  for (size_t b = 0; b < blocks; b++)
    for (size_t m = 0; m < rows; m++) {
      d[b * rows + m] = unit();
      for (size_t k = 256 * b; k < columns && k < 256 * (b + 1); k++) {
        const int8_t a = activation(inputs);
        x.bytes[(b * rows + m) * 256 + k % 256] = (uint8_t)a;
        sums[b * rows + m] += a;
      }
    }
  for (size_t n = 0; n < 16 * panels; n++) w_scale[n] = 0.3f + (float)n;
  const qk_ternary_blocks_args args = {w.bytes, stride, panels,  vectors, (int8_t *)x.bytes, rows,    sums,   d,
                                       w_scale, (float *)y.bytes, outputs, outputs, scratch,          totals};
  t->matmul_blocks(&args);
  for (size_t m = 0; m < rows; m++)
    for (size_t n = 0; n < outputs; n++) {
      volatile float wanted = 0; // each operation rounds
      for (size_t b = 0; b < blocks; b++) {
        int64_t dot = 0;
        for (size_t k = 256 * b; k < columns && k < 256 * (b + 1); k++)
          dot += (codes[n * columns + k] - 1) * (int8_t)x.bytes[(b * rows + m) * 256 + k % 256];
        volatile float scale = d[b * rows + m] * w_scale[n], part = (float)(int32_t)dot * scale;
        wanted = wanted + part;
      }
      const float plain = wanted;
      check(memcmp(&plain, y.bytes + 4 * (m * outputs + n), 4) == 0, "%s blocks, %zu x %zu, row %zu of %zu, output %zu",
            qk_isa_name(t->isa), outputs, columns, m, rows, n);
    }
  release(w), release(x), release(y);
}

static void check_quantize_blocks(const qk_ternary_table *t, size_t columns, int special) {
  const qk_ternary_table *scalar = qk_ternary_kernels(QK_ISA_SCALAR);
  const size_t blocks = (columns + 255) / 256;
  guarded x = reserve(4 * columns), ours = reserve(256 * blocks), theirs = reserve(256 * blocks);
  float *values = (float *)x.bytes;
  for (size_t k = 0; k < columns; k++) values[k] = special ? (float)(int)(next() % 509) / 2 - 127 : 3 * unit();
  if (special == 2 && columns) values[columns / 2] = NAN;
  int32_t sums[2][4];
  float scales[2][4];
  const qk_q8k_quantize_args a = {values, columns, (int8_t *)ours.bytes, 256, sums[0], scales[0], 1};
  const qk_q8k_quantize_args b = {values, columns, (int8_t *)theirs.bytes, 256, sums[1], scales[1], 1};
  t->quantize_blocks(&a);
  scalar->quantize_blocks(&b);
  check(memcmp(ours.bytes, theirs.bytes, 256 * blocks) == 0 && memcmp(sums[0], sums[1], 4 * blocks) == 0,
        "%s quantises %zu columns by blocks otherwise", qk_isa_name(t->isa), columns);
  for (size_t block = 0; block < blocks; block++)
    check(scales[0][block] == scales[1][block] || (isnan(scales[0][block]) && isnan(scales[1][block])),
          "%s has another scale of block %zu", qk_isa_name(t->isa), block);
  release(x), release(ours), release(theirs);
}

static void check_lookup(qk_isa isa, qk_lookup_format format, size_t outputs, size_t columns, size_t rows, kind weights,
                         kind inputs) {
  const qk_lookup_table *t = qk_lookup_kernels(isa), *scalar = qk_lookup_kernels(QK_ISA_SCALAR);
  const size_t width = qk_lookup_unit_columns(format), bytes = qk_lookup_unit_bytes(format);
  const size_t units = (columns + width - 1) / width, panels = (outputs + 15) / 16;
  const size_t tables = units * qk_lookup_table_bytes(format);
  guarded w = reserve(panels * units * bytes), x = reserve(units * width * rows), table = reserve(tables * rows);
  guarded y = reserve(4 * rows * outputs);
  fill_codes(outputs * columns, weights);
  memset(w.bytes, 0, panels * units * bytes);
  memset(x.bytes, 0, units * width * rows);
  for (size_t m = 0; m < rows; m++)
    for (size_t k = 0; k < columns; k++) x.bytes[m * units * width + k] = (uint8_t)activation(inputs);
  for (size_t n = 0; n < outputs; n++)
    for (size_t u = 0; u < units; u++) {
      uint8_t *unit = w.bytes + (n / 16 * units + u) * bytes;
      for (size_t g = 0; g < (format == QK_TL2 ? 8 : 4); g++) {
        int value = 0;
        for (size_t j = 0; j < (format == QK_TL2 ? 3 : 2); j++)
          value = 3 * value + code(n, u * width + (format == QK_TL2 ? 3 : 2) * g + j, outputs, columns) - 1;
        const int index = format == QK_TL2 ? abs(value) : value + 4;
        unit[g / 4 * 32 + g % 2 * 16 + n % 16] |= (uint8_t)(index << (g % 4 < 2 ? 0 : 4));
        if (format == QK_TL2 && value < 0) unit[64 + n % 16] |= (uint8_t)(128 >> g);
      }
    }
  float w_scale[N_MOST], scales[M_MOST], *other = malloc(4 * rows * outputs);
  for (size_t n = 0; n < N_MOST; n++) w_scale[n] = 0.5f + (float)n;
  uint8_t *tables2 = malloc(tables + 1);
  for (size_t m = 0; m < rows; m++) {
    const int8_t *from = (int8_t *)x.bytes + m * units * width;
    const float factor = t->build[format](from, units, table.bytes + m * tables);
    scales[m] = (3 + (float)m) * factor;
    check(scalar->build[format](from, units, tables2) == factor &&
              memcmp(tables2, table.bytes + m * tables, tables) == 0,
          "%s tables %d of %zu columns", qk_isa_name(isa), format, columns);
  }
  free(tables2);
  qk_lookup_args args = {w.bytes, units * bytes, panels,           units,   table.bytes, tables, rows,
                         scales,  w_scale,       (float *)y.bytes, outputs, outputs};
  t->matmul[format](&args);
  args.y = other;
  scalar->matmul[format](&args);
  for (size_t m = 0; m < rows; m++)
    for (size_t n = 0; n < outputs; n++) {
      int64_t dot = 0;
      for (size_t k = 0; k < columns; k++)
        dot += (codes[n * columns + k] - 1) * (int8_t)x.bytes[m * units * width + k];
      const float wanted =
          format == QK_TL1_FAST ? other[m * outputs + n] : (float)(int32_t)dot * (w_scale[n] / (3 + (float)m));
      check(memcmp(&wanted, y.bytes + 4 * (m * outputs + n), 4) == 0, "%s lookup %d, %zu x %zu, row %zu of %zu, output %zu",
            qk_isa_name(isa), format, outputs, columns, m, rows, n);
    }
  free(other);
  release(w), release(x), release(table), release(y);
}

static void check_quantize(const qk_ternary_table *t, size_t columns, int ties) {
  const qk_ternary_table *scalar = qk_ternary_kernels(QK_ISA_SCALAR);
  const size_t chunk = QK_TERNARY_STEPS * (size_t)t->step, chunks = (columns + chunk - 1) / chunk;
  // The scalar level has chunks of its own.
  const size_t other = QK_TERNARY_STEPS * (size_t)scalar->step, others = (columns + other - 1) / other;
  guarded x = reserve(4 * columns), codes1 = reserve(chunks * chunk), codes2 = reserve(others * other);
  float *values = (float *)x.bytes;
  for (size_t k = 0; k < columns; k++) values[k] = ties ? (float)(int)(next() % 509) / 2 - 127 : 3 * unit();
  if (ties && columns) values[0] = ties == 2 ? NAN : 127;
  int32_t sum1, sum2;
  float scale1, scale2;
  const qk_ternary_quantize_args a = {values, columns, chunks, (int8_t *)codes1.bytes, chunk, &sum1, &scale1};
  const qk_ternary_quantize_args b = {values, columns, others, (int8_t *)codes2.bytes, other, &sum2, &scale2};
  t->quantize(&a);
  scalar->quantize(&b);
  check(memcmp(codes1.bytes, codes2.bytes, columns) == 0 && sum1 == sum2 &&
            (scale1 == scale2 || (ties == 2 && isnan(scale1) && isnan(scale2))),
        "%s quantises %zu columns otherwise", qk_isa_name(t->isa), columns);
  release(x), release(codes1), release(codes2);
}

int main(int count, char **arguments) {
  static const size_t ns[] = {1, 16, 17, 80}, ms[] = {1, 2, 3, 4, 7};
  static const size_t ks[] = {0, 1, 15, 17, 41, 239, 241, 480, 481, 1000};
  setvbuf(stdout, NULL, _IOLBF, 0); // a crash must not swallow what came before
  if (count < 2) {
    puts("usage: ternary_driver LEVEL[,LEVEL...]");
    return 64;
  }
  for (int isa = 0; isa < QK_ISA_COUNT; isa++) {
    const char *name = qk_isa_name((qk_isa)isa), *at = strstr(arguments[1], name);
    const size_t length = strlen(name);
    const int listed = at && (at == arguments[1] || at[-1] == ',') && (at[length] == 0 || at[length] == ',');
    const qk_ternary_table *t = qk_ternary_kernels((qk_isa)isa);
    check(listed == (t != NULL) && listed == (qk_lookup_kernels((qk_isa)isa) != NULL), "%s has %s kernels", name,
          t ? "unexpected" : "no");
    if (!t || !listed) continue;
    check(t->isa == (qk_isa)isa, "%s got the kernels of %s", name, qk_isa_name(t->isa));
    for (size_t n = 0; n < 4; n++)
      for (size_t k = 0; k < 10; k++)
        for (kind w = RANDOM; w < KINDS; w++)
          for (kind x = RANDOM; x < KINDS; x++) {
            for (int f = 0; f < QK_TERNARY_FORMATS; f++)
              for (size_t m = 0; m < 5; m++) check_panels(t, (qk_ternary_format)f, ns[n], ks[k], ms[m], w, x);
            for (size_t m = 0; m < 5; m++) check_blocks(t, ns[n], ks[k], ms[m], w, x);
            for (int f = 0; f < QK_LOOKUP_FORMATS; f++)
              for (size_t m = 0; m < 3; m++)
                check_lookup((qk_isa)isa, (qk_lookup_format)f, ns[n], ks[k], ms[m], w, x);
          }
    for (size_t k = 0; k < 10; k++)
      for (int ties = 0; ties < 3; ties++) check_quantize(t, ks[k], ties), check_quantize_blocks(t, ks[k], ties);
  }
  printf("levels %s: %ld comparisons, %d failures\n", arguments[1], checks, failures);
  return failures ? 1 : 0;
}
