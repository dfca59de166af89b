#if defined(__x86_64__)
#include "qk_attention.h"

#include "bodies/qk_attention_common.h"
#include "bodies/qk_vector_constants.h"

#include <immintrin.h>
#include <math.h>
#include <string.h>

#pragma STDC FP_CONTRACT OFF
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)

#include "bodies/qk_vector_lanes__avx2.inc"
#include "bodies/qk_vector_math.inc"

#define QK_NAME(op) qk_attention_##op##__avx2
#define QK_TABLE qk_attention__avx2
#define QK_REGISTERS 16
// 6 x 2 sums, 2 loads, 1 broadcast; 4 x 3, 3 and 1. Of a row alone 4, as that many blocks' lines
// are read side by side.
#define QK_VECTORS(R) ((R) > 4 ? 2 : (R) > 2 ? 3 : 4)
#include "bodies/qk_attention_body.inc"

#pragma clang attribute pop
#endif
