/* vector_neon.h - the vector operations of vector.h for AArch64 with Advanced SIMD, 4 floats. Included by
 * vector.h. Source: Arm C Language Extensions, Advanced SIMD intrinsics. */
#pragma once

#include <arm_neon.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define V_WIDTH 4
typedef float32x4_t vf;
typedef int32x4_t vi;

V_INLINE vf v_load(const float *p)
{
    return vld1q_f32(p);
}
V_INLINE vf v_load_part(const float *p, size_t count, float fill)
{
    float part[4] = {fill, fill, fill, fill};
    for (size_t i = 0; i < 4 && i < count; i++) {
        part[i] = p[i];
    }
    return vld1q_f32(part);
}
V_INLINE void v_store(float *p, vf a)
{
    vst1q_f32(p, a);
}
V_INLINE void v_store_part(float *p, size_t count, vf a)
{
    float part[4];
    vst1q_f32(part, a);
    for (size_t i = 0; i < 4 && i < count; i++) {
        p[i] = part[i];
    }
}
/* Not vmaxq_f32 and vminq_f32: those order zeros and give NaN for either operand. */
V_INLINE vf v_max(vf a, vf b)
{
    return vbslq_f32(vcgtq_f32(a, b), a, b);
}
V_INLINE vf v_min(vf a, vf b)
{
    return vbslq_f32(vcltq_f32(a, b), a, b);
}
#define v_set1 vdupq_n_f32
#define v_add vaddq_f32
#define v_sub vsubq_f32
#define v_mul vmulq_f32
#define v_div vdivq_f32
#define v_sqrt vsqrtq_f32
#define v_fma(a, b, c) vfmaq_f32(c, a, b)
#define v_bits vreinterpretq_s32_f32
#define v_float vreinterpretq_f32_s32
#define vi_set1 vdupq_n_s32
#define vi_add vaddq_s32
#define vi_sub vsubq_s32
#define vi_and vandq_s32
#define vi_half(a) vshrq_n_s32(a, 1)
#define vi_exponent(a) vshlq_n_s32(a, 23)
#define vi_any_equal(a, b) (vmaxvq_u32(vceqq_s32(a, b)) != 0)
#define vi_max vmaxq_s32
#define vi_largest vmaxvq_s32 /* of all elements */
#define v_from_int vcvtq_f32_s32

V_INLINE vf v_load_bf16(const uint16_t *p)
{
    return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p), 16));
}
V_INLINE vf v_load_f16(const uint16_t *p)
{
    return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)));
}
/* Rounds to nearest even; |a| <= 127. */
V_INLINE void v_store_codes(int8_t *p, vf a)
{
    const int16x4_t half = vmovn_s32(vcvtnq_s32_f32(a));
    const int8x8_t codes = vmovn_s16(vcombine_s16(half, half));
    vst1_lane_s32((int32_t *)(void *)p, vreinterpret_s32_s8(codes), 0);
}

/* int8: vq is as many weights as fit beside the sums of V_WIDTH columns, [column][4]; q_load adds Q_OFFSET to
 * each. q_dot adds the products of each column's 4 weights with the 4 codes in x to that column's integer sum: 8-bit products
 * widen to 16 bits (128 * 127 fits), neighbours to 32, those of a column are added. */
#define Q_OFFSET 0
typedef int8x16_t vq;

V_INLINE vq q_load(const int8_t *p)
{
    return vld1q_s8(p);
}
V_INLINE vq q_codes(const int8_t *p)
{
    int32_t four;
    memcpy(&four, p, sizeof four);
    return vreinterpretq_s8_s32(vdupq_n_s32(four));
}
V_INLINE vi q_dot(vi sum, vq w, vq x)
{
#if defined(__ARM_FEATURE_DOTPROD)
    return vdotq_s32(sum, w, x); /* SDOT: all of it in one instruction */
#else
    const int32x4_t low = vpaddlq_s16(vmull_s8(vget_low_s8(w), vget_low_s8(x)));
    const int32x4_t high = vpaddlq_s16(vmull_s8(vget_high_s8(w), vget_high_s8(x)));
    return vaddq_s32(sum, vpaddq_s32(low, high));
#endif
}
