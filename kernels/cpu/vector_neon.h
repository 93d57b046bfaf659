/* vector_neon.h - the vector operations of vector.h for 64-bit Arm, 4 floats. Included by vector.h.
 *
 * Only what every ARMv8.0 core has: no dot products, no bf16 instructions. */
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
    float all[4] = {fill, fill, fill, fill};
    memcpy(all, p, count * sizeof *p);
    return vld1q_f32(all);
}
V_INLINE void v_store(float *p, vf a)
{
    vst1q_f32(p, a);
}
V_INLINE void v_store_part(float *p, size_t count, vf a)
{
    float all[4];
    vst1q_f32(all, a);
    memcpy(p, all, count * sizeof *p);
}
V_INLINE vf v_max(vf a, vf b)
{
    return vbslq_f32(vcgtq_f32(a, b), a, b);
}
V_INLINE vf v_min(vf a, vf b)
{
    return vbslq_f32(vcltq_f32(a, b), a, b);
}
V_INLINE vf v_fma(vf a, vf b, vf c)
{
    return vfmaq_f32(c, a, b);
}
V_INLINE bool vi_any_equal(vi a, vi b)
{
    return vmaxvq_u32(vceqq_s32(a, b)) != 0;
}
#define v_set1 vdupq_n_f32
#define v_add vaddq_f32
#define v_sub vsubq_f32
#define v_mul vmulq_f32
#define v_div vdivq_f32
#define v_sqrt vsqrtq_f32
#define v_bits vreinterpretq_s32_f32
#define v_float vreinterpretq_f32_s32
#define vi_set1 vdupq_n_s32
#define vi_add vaddq_s32
#define vi_sub vsubq_s32
#define vi_and vandq_s32
#define vi_half(a) vshrq_n_s32(a, 1)
#define vi_exponent(a) vshlq_n_s32(a, 23)
#define vi_max vmaxq_s32
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
    const int8x8_t bytes = vmovn_s16(vcombine_s16(half, half));
    memcpy(p, &bytes, 4);
}

/* int8: vq is as many weights as fit beside the sums of V_WIDTH columns, [column][4]. q_dot adds the
 * products of each column's 4 weights with the 4 codes in x to that column's integer sum. */
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
V_INLINE vi q_start(const int8_t *p)
{
    (void)p;
    return vdupq_n_s32(0);
}
V_INLINE vi q_dot(vi sum, vq w, vq x)
{
    const int16x8_t low = vmull_s8(vget_low_s8(w), vget_low_s8(x)); /* columns 0 and 1 */
    const int16x8_t high = vmull_high_s8(w, x);                     /* columns 2 and 3 */
    return vaddq_s32(sum, vpaddq_s32(vpaddlq_s16(low), vpaddlq_s16(high)));
}
