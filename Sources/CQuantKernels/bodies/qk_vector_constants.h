#ifndef QK_VECTOR_CONSTANTS_H
#define QK_VECTOR_CONSTANTS_H
// Coefficients that the scalar reference and the vector bodies share; see qk_vector_math.inc.

// 2^f = 1 + C1 f + ... + C6 f^6 on [-1/2, 1/2]
#define QK_EXP2_C1 0x1.62e432p-1f
#define QK_EXP2_C2 0x1.ebfbe2p-3f
#define QK_EXP2_C3 0x1.c6ae72p-5f
#define QK_EXP2_C4 0x1.3b270ep-7f
#define QK_EXP2_C5 0x1.5f7276p-10f
#define QK_EXP2_C6 0x1.470b4ap-13f

// e^r = 1 + r + C2 r^2 + ... + C6 r^6 on [-ln 2 / 2, ln 2 / 2]
#define QK_EXP_C2 0x1.fffffcp-2f
#define QK_EXP_C3 0x1.555492p-3f
#define QK_EXP_C4 0x1.5558f2p-5f
#define QK_EXP_C5 0x1.1239e2p-7f
#define QK_EXP_C6 0x1.6a2434p-10f
#define QK_LOG2_E 0x1.715476p+0f
// The high part has 14 bits, so that its product with |n| <= 151 is exact.
#define QK_LN2_HIGH 0x1.62e4p-1f
#define QK_LN2_LOW 0x1.7f7d1cp-20f

// tanh x = x + x^3 (C1 + C3 x^2 + ... + C9 x^8) on |x| < 0.625
#define QK_TANH_C1 -0x1.555534p-2f
#define QK_TANH_C3 0x1.110768p-3f
#define QK_TANH_C5 -0x1.b84448p-5f
#define QK_TANH_C7 0x1.5256d8p-6f
#define QK_TANH_C9 -0x1.76ac1ap-8f

#define QK_GELU_CUBIC 0.044715f
// -2 sqrt(2 / pi)
#define QK_GELU_FACTOR -0x1.988454p+0f

#endif
