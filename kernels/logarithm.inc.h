/* logarithm.inc.h - the logarithm: one text for elementary.c and for CUDA devices, so that both
 * have its constants and its order of operations. */
#pragma once

#include <float.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#ifndef V_FUNCTION /* see kernels/cpu/vector.h */
#define V_FUNCTION static inline
#endif

#define LOGARITHM_LN2 0x1.62e42fefa39efp-1

/* log of a positive finite x: x = m 2^e with m in [sqrt(1/2), sqrt(2)); with s = (m - 1) / (m + 1),
 * log m = 2 (s + s^3 / 3 + s^5 / 5 + ...). */
V_FUNCTION double logarithm(double x)
{
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    int64_t exponent = (int64_t)(bits >> 52) - 1023;
    bits = (bits & 0x000fffffffffffff) | 0x3ff0000000000000;
    double m;
    memcpy(&m, &bits, sizeof m);
    if (m > 0x1.6a09e667f3bcdp+0) {
        m *= 0.5;
        exponent++;
    }
    const double s = (m - 1.0) / (m + 1.0);
    const double square = s * s;
    double sum = 0.0;
    for (int i = 23; i >= 3; i -= 2) {
        sum = fma(sum, square, 1.0 / i);
    }
    sum = fma(sum * square, s, s);
    return fma((double)exponent, LOGARITHM_LN2, 2.0 * sum);
}

/* kernels_logf. */
V_FUNCTION float logarithm_float(float x)
{
    if (x == 0.0F) {
        return -INFINITY;
    }
    if (!(x > 0.0F) || x > FLT_MAX) {
        return x > FLT_MAX ? x : NAN;
    }
    return (float)logarithm((double)x);
}
