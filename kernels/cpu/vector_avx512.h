/* vector_avx512.h - the vector operations of vector.h for AVX-512, 16 floats. Included by vector.h. */
#pragma once

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define V_WIDTH 16
typedef __m512 vf;
typedef __m512i vi;

V_INLINE __mmask16 v_mask(size_t count)
{
    return (__mmask16)((1U << count) - 1U);
}
V_INLINE vf v_load(const float *p)
{
    return _mm512_loadu_ps(p);
}
V_INLINE vf v_load_part(const float *p, size_t count, float fill)
{
    return _mm512_mask_loadu_ps(_mm512_set1_ps(fill), v_mask(count), p);
}
V_INLINE void v_store(float *p, vf a)
{
    _mm512_storeu_ps(p, a);
}
V_INLINE void v_store_part(float *p, size_t count, vf a)
{
    _mm512_mask_storeu_ps(p, v_mask(count), a);
}
#define v_set1 _mm512_set1_ps
#define v_add _mm512_add_ps
#define v_sub _mm512_sub_ps
#define v_mul _mm512_mul_ps
#define v_div _mm512_div_ps
#define v_sqrt _mm512_sqrt_ps
#define v_fma _mm512_fmadd_ps
#define v_max _mm512_max_ps
#define v_min _mm512_min_ps
#define v_bits _mm512_castps_si512
#define v_float _mm512_castsi512_ps
#define vi_set1 _mm512_set1_epi32
#define vi_add _mm512_add_epi32
#define vi_sub _mm512_sub_epi32
#define vi_and _mm512_and_si512
#define vi_half(a) _mm512_srai_epi32(a, 1)
#define vi_exponent(a) _mm512_slli_epi32(a, 23)
#define vi_any_equal(a, b) (_mm512_cmpeq_epi32_mask(a, b) != 0)
#define vi_max _mm512_max_epi32
#define vi_largest _mm512_reduce_max_epi32 /* of all elements */
#define v_from_int _mm512_cvtepi32_ps

V_INLINE vf v_load_bf16(const uint16_t *p)
{
    const __m256i half = _mm256_loadu_si256((const __m256i *)(const void *)p);
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}
V_INLINE vf v_load_f16(const uint16_t *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)(const void *)p));
}
/* Rounds to nearest even; |a| <= 127. */
V_INLINE void v_store_codes(int8_t *p, vf a)
{
    _mm_storeu_si128((__m128i *)(void *)p, _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(a)));
}

/* int8: vq is as many weights as fit beside the sums of V_WIDTH columns, [column][4]; q_load adds Q_OFFSET to
 * each. q_dot adds the products of each column's 4 weights with the 4 codes in x to that column's integer sum. */
typedef __m512i vq;

V_INLINE vq q_codes(const int8_t *p)
{
    int32_t four;
    memcpy(&four, p, sizeof four);
    return _mm512_set1_epi32(four);
}
#if defined(__AVX512VNNI__)
#define Q_OFFSET 128 /* vpdpbusd wants one factor unsigned */
V_INLINE vq q_load(const int8_t *p)
{
    return _mm512_xor_si512(_mm512_loadu_si512(p), _mm512_set1_epi8(-128));
}
V_INLINE vi q_dot(vi sum, vq w, vq x)
{
    return _mm512_dpbusd_epi32(sum, w, x);
}
#else
#define Q_OFFSET 0
V_INLINE vq q_load(const int8_t *p)
{
    return _mm512_loadu_si512(p);
}
/* |w| <= 128 is unsigned, the sign goes to x: pairs sum to at most 2 * 128 * 127, which vpmaddubsw
 * holds without saturating. */
V_INLINE vi q_dot(vi sum, vq w, vq x)
{
    const __m512i zero = _mm512_setzero_si512();
    const __m512i turned = _mm512_mask_sub_epi8(x, _mm512_movepi8_mask(w), zero, x);
    const __m512i pairs = _mm512_maddubs_epi16(_mm512_abs_epi8(w), turned);
    return _mm512_add_epi32(sum, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)));
}
#endif
