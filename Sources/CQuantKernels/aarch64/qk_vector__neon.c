#if defined(__aarch64__)
#include "qk_vector.h"

#include "bodies/qk_vector_constants.h"

#include <arm_neon.h>
#include <math.h>
#include <string.h>

#pragma STDC FP_CONTRACT OFF

#include "bodies/qk_vector_lanes__neon.inc"
#include "bodies/qk_vector_math.inc"

#define QK_NAME(op) qk_vector_##op##__neon
#define QK_TABLE qk_vector__neon
#include "bodies/qk_vector_body.inc"

#endif
