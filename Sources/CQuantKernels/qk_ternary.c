#include "qk_ternary.h"

#define QK_LEVEL_ROW(level, suffix) extern const qk_ternary_table qk_ternary_table__##suffix;
#include "registry.inc"
#undef QK_LEVEL_ROW

const qk_ternary_table *qk_ternary_kernels(qk_isa isa) {
  if (!qk_isa_supported(isa)) return 0;
#define QK_LEVEL_ROW(level, suffix) \
  if (isa == level) return &qk_ternary_table__##suffix;
#include "registry.inc"
#undef QK_LEVEL_ROW
  return 0;
}
