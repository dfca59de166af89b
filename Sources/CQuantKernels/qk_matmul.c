#include "qk_matmul.h"

#define QK_LEVEL_ROW(level, suffix) extern const qk_matmul_table qk_table__##suffix;
#include "registry.inc"
#undef QK_LEVEL_ROW

const qk_matmul_table *qk_matmul_kernels(qk_isa isa) {
  if (!qk_isa_supported(isa)) return 0;
#define QK_LEVEL_ROW(level, suffix) \
  if (isa == level) return &qk_table__##suffix;
#include "registry.inc"
#undef QK_LEVEL_ROW
  return 0;
}

// [rows][columns] → [columns][rows]: the float kernels' activations.
void qk_transpose(const float *x, size_t x_stride, size_t rows, size_t columns, float *out) {
  for (size_t row = 0; row < rows; row++)
    for (size_t k = 0; k < columns; k++) out[k * rows + row] = x[row * x_stride + k];
}
