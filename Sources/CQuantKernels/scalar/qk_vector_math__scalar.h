#ifndef QK_VECTOR_MATH__SCALAR_H
#define QK_VECTOR_MATH__SCALAR_H
// Scalar forms of bodies/qk_vector_math.inc, operation for operation, and of half precision.
#include <stdint.h>

float qk_exp2_nonpositive__scalar(float x);
float qk_exp__scalar(float x);
float qk_tanh__scalar(float x);
// 16 lanes: i with i + 8, then + 4, + 2, + 1. Overwrites them.
float qk_sum16__scalar(float *lanes);
float qk_half_to_float__scalar(uint16_t half);
uint16_t qk_float_to_half__scalar(float x);

#endif
