#if defined(__x86_64__)
#include "qk_vector.h"

#include "bodies/qk_vector_constants.h"

#include <immintrin.h>
#include <math.h>
#include <string.h>

#pragma STDC FP_CONTRACT OFF
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)

#include "bodies/qk_vector_lanes__avx2.inc"
#include "bodies/qk_vector_math.inc"

#define QK_NAME(op) qk_vector_##op##__avx2
#define QK_TABLE qk_vector__avx2
#include "bodies/qk_vector_body.inc"

#pragma clang attribute pop
#endif
