#if defined(__aarch64__)
#include "qk_attention.h"

#include "bodies/qk_attention_common.h"
#include "bodies/qk_vector_constants.h"

#include <arm_neon.h>
#include <math.h>
#include <string.h>

#pragma STDC FP_CONTRACT OFF

#include "bodies/qk_vector_lanes__neon.inc"
#include "bodies/qk_vector_math.inc"

#define QK_NAME(op) qk_attention_##op##__neon
#define QK_TABLE qk_attention__neon
#define QK_REGISTERS 32
// 6 x 4 sums, 4 loads, 1 broadcast.
#define QK_VECTORS(R) ((R) > 1 ? 4 : 8)
#include "bodies/qk_attention_body.inc"

#endif
