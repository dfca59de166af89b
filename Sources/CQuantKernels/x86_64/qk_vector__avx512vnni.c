#if defined(__x86_64__)
#include "qk_vector.h"

#include "bodies/qk_vector_constants.h"

#include <immintrin.h>
#include <math.h>
#include <string.h>

#pragma STDC FP_CONTRACT OFF
// clang-format off
#pragma clang attribute push( \
    __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c"))), \
    apply_to = function)
// clang-format on

#include "bodies/qk_vector_lanes__avx512vnni.inc"
#include "bodies/qk_vector_math.inc"

#define QK_NAME(op) qk_vector_##op##__avx512vnni
#define QK_TABLE qk_vector__avx512vnni
#include "bodies/qk_vector_body.inc"

#pragma clang attribute pop
#endif
