/* vector.h - one small set of vector operations for 1, 4, 8 or 16 floats at a time.
 *
 * Why: rows.inc.h, products.inc.h, int8.inc.h and attention.inc.h are written once on top of it and compiled
 * once per backend; the flags of the including file choose the width, KERNELS_SCALAR forces 1.
 *
 * Every operation is correctly rounded by IEEE 754, so the width cannot change a bit. Order of
 * operands matters only in v_max and v_min: a > b ? a : b, as the x86 instructions do. */
#pragma once

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* The scalar texts are compiled for CUDA devices too: kernels/cuda/device.h defines this first. */
#ifndef V_FUNCTION
#define V_FUNCTION static inline
#endif
#define V_INLINE V_FUNCTION __attribute__((always_inline, unused))

#if defined(__AVX512F__) && !defined(KERNELS_SCALAR)
#include "kernels/cpu/vector_avx512.h"
#elif defined(__AVX2__) && defined(__FMA__) && !defined(KERNELS_SCALAR)
#include "kernels/cpu/vector_avx2.h"
#elif defined(__aarch64__) && !defined(KERNELS_SCALAR)
#include "kernels/cpu/vector_neon.h"
#else

#define V_WIDTH 1
typedef float vf;
typedef int32_t vi;

V_INLINE vf v_load(const float *p)
{
    return *p;
}
V_INLINE vf v_load_part(const float *p, size_t count, float fill)
{
    return count > 0 ? *p : fill;
}
V_INLINE void v_store(float *p, vf a)
{
    *p = a;
}
V_INLINE void v_store_part(float *p, size_t count, vf a)
{
    if (count > 0) {
        *p = a;
    }
}
V_INLINE vf v_max(vf a, vf b)
{
    return a > b ? a : b;
}
V_INLINE vf v_min(vf a, vf b)
{
    return a < b ? a : b;
}
V_INLINE vi v_bits(vf a)
{
    vi bits;
    memcpy(&bits, &a, sizeof bits);
    return bits;
}
V_INLINE vf v_float(vi bits)
{
    vf a;
    memcpy(&a, &bits, sizeof a);
    return a;
}
V_INLINE vi vi_half(vi a)
{
    return a >= 0 ? a / 2 : -((1 - a) / 2); /* rounds down, as an arithmetic shift */
}
V_INLINE vi vi_exponent(vi a)
{
    return (vi)((uint32_t)a << 23);
}
V_INLINE vi vi_add(vi a, vi b)
{
    return (vi)((uint32_t)a + (uint32_t)b);
}
V_INLINE vi vi_sub(vi a, vi b)
{
    return (vi)((uint32_t)a - (uint32_t)b);
}
#define v_set1(a) (a)
#define v_add(a, b) ((a) + (b))
#define v_sub(a, b) ((a) - (b))
#define v_mul(a, b) ((a) * (b))
#define v_div(a, b) ((a) / (b))
#define v_sqrt sqrtf
#define v_fma fmaf
#define vi_set1(a) (a)
#define vi_and(a, b) ((a) & (b))
#define vi_any_equal(a, b) ((a) == (b))
#endif

/* Loops over rows and panels of a tile have constant bounds and must vanish, so that its sums live in
 * registers. Not under a sanitizer, which would check every one of a thousand copies. */
#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define TILE_UNROLL
#endif
#elif defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define TILE_UNROLL
#endif
#ifndef TILE_UNROLL
#define TILE_UNROLL _Pragma("GCC unroll 16")
#endif

/* The next vector of a row that has `left` elements left; what is missing reads as fill. */
V_INLINE vf v_load_row(const float *p, size_t left, float fill)
{
    return left >= V_WIDTH ? v_load(p) : v_load_part(p, left, fill);
}
V_INLINE void v_store_row(float *p, size_t left, vf a)
{
    if (left >= V_WIDTH) {
        v_store(p, a);
    } else {
        v_store_part(p, left, a);
    }
}

/* exp(x): x = n ln 2 + r with |r| <= ln(2) / 2, a polynomial of degree 7 in r (minimax, Cephes
 * expf), then times 2^(n/2) twice so that results below 2^-126 round once, correctly. */
V_INLINE vf v_exp(vf x)
{
    const vf magic = v_set1(0x1.8p23F); /* adding it rounds to an integer, kept in the low bits */
    x = v_max(v_set1(-104.0F), x);      /* operand order lets a NaN through */
    x = v_min(v_set1(89.0F), x);
    vf t = v_fma(x, v_set1(0x1.715476p+0F), magic);
    vf n = v_sub(t, magic);
    vf r = v_fma(n, v_set1(-0x1.62e43p-1F), x);
    r = v_fma(n, v_set1(0x1.05c610p-29F), r);
    vf p = v_set1(1.9875691500e-4F);
    p = v_fma(p, r, v_set1(1.3981999507e-3F));
    p = v_fma(p, r, v_set1(8.3334519073e-3F));
    p = v_fma(p, r, v_set1(4.1665795894e-2F));
    p = v_fma(p, r, v_set1(1.6666665459e-1F));
    p = v_fma(p, r, v_set1(5.0000001201e-1F));
    p = v_add(v_fma(v_mul(r, r), p, r), v_set1(1.0F));
    vi whole = vi_sub(v_bits(t), vi_set1(0x4b400000));
    vi half = vi_half(whole);
    vi bias = vi_set1(127);
    vf low = v_float(vi_exponent(vi_add(half, bias)));
    vf high = v_float(vi_exponent(vi_add(vi_sub(whole, half), bias)));
    return v_mul(v_mul(p, low), high);
}

/* A lane sum or lane maximum in the making: lane l of the 16 is lane l % V_WIDTH of part
 * l / V_WIDTH. */
#define V_PARTS (16 / V_WIDTH)
struct lanes {
    vf part[V_PARTS];
};
V_INLINE struct lanes lanes_of(float value)
{
    struct lanes lanes;
    for (int i = 0; i < V_PARTS; i++) {
        lanes.part[i] = v_set1(value);
    }
    return lanes;
}
V_INLINE float lanes_sum(const struct lanes *lanes)
{
    float s[16];
    for (int i = 0; i < V_PARTS; i++) {
        v_store(s + i * V_WIDTH, lanes->part[i]);
    }
    for (int half = 8; half > 0; half /= 2) {
        for (int i = 0; i < half; i++) {
            s[i] = s[i] + s[i + half];
        }
    }
    return s[0];
}
V_INLINE float lanes_max(const struct lanes *lanes)
{
    float s[16];
    for (int i = 0; i < V_PARTS; i++) {
        v_store(s + i * V_WIDTH, lanes->part[i]);
    }
    for (int half = 8; half > 0; half /= 2) {
        for (int i = 0; i < half; i++) {
            s[i] = s[i] > s[i + half] ? s[i] : s[i + half];
        }
    }
    return s[0];
}
