/* vector_avx2.h - the vector operations of vector.h for AVX2, FMA and F16C, 8 floats. Included by
 * vector.h. */
#pragma once

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define V_WIDTH 8
typedef __m256 vf;
typedef __m256i vi;

V_INLINE __m256i v_mask(size_t count)
{
    const __m256i index = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)count), index);
}
V_INLINE vf v_load(const float *p)
{
    return _mm256_loadu_ps(p);
}
V_INLINE vf v_load_part(const float *p, size_t count, float fill)
{
    __m256i mask = v_mask(count);
    return _mm256_blendv_ps(_mm256_set1_ps(fill), _mm256_maskload_ps(p, mask),
                            _mm256_castsi256_ps(mask));
}
V_INLINE void v_store(float *p, vf a)
{
    _mm256_storeu_ps(p, a);
}
V_INLINE void v_store_part(float *p, size_t count, vf a)
{
    _mm256_maskstore_ps(p, v_mask(count), a);
}
#define v_set1 _mm256_set1_ps
#define v_add _mm256_add_ps
#define v_sub _mm256_sub_ps
#define v_mul _mm256_mul_ps
#define v_div _mm256_div_ps
#define v_sqrt _mm256_sqrt_ps
#define v_fma _mm256_fmadd_ps
#define v_max _mm256_max_ps
#define v_min _mm256_min_ps
#define v_bits _mm256_castps_si256
#define v_float _mm256_castsi256_ps
#define vi_set1 _mm256_set1_epi32
#define vi_add _mm256_add_epi32
#define vi_sub _mm256_sub_epi32
#define vi_and _mm256_and_si256
#define vi_half(a) _mm256_srai_epi32(a, 1)
#define vi_exponent(a) _mm256_slli_epi32(a, 23)
#define vi_any_equal(a, b) (_mm256_movemask_epi8(_mm256_cmpeq_epi32(a, b)) != 0)
#define vi_max _mm256_max_epi32
#define v_from_int _mm256_cvtepi32_ps

/* Of all elements. */
V_INLINE int32_t vi_largest(vi a)
{
    __m128i max = _mm_max_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
    max = _mm_max_epi32(max, _mm_shuffle_epi32(max, 0x4E));
    return _mm_cvtsi128_si32(_mm_max_epi32(max, _mm_shuffle_epi32(max, 0xB1)));
}

V_INLINE vf v_load_bf16(const uint16_t *p)
{
    const __m128i half = _mm_loadu_si128((const __m128i *)(const void *)p);
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(half), 16));
}
V_INLINE vf v_load_f16(const uint16_t *p)
{
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)(const void *)p));
}
/* Rounds to nearest even; |a| <= 127. */
V_INLINE void v_store_codes(int8_t *p, vf a)
{
    const __m256i wide = _mm256_cvtps_epi32(a);
    const __m128i half =
        _mm_packs_epi32(_mm256_castsi256_si128(wide), _mm256_extracti128_si256(wide, 1));
    _mm_storel_epi64((__m128i *)(void *)p, _mm_packs_epi16(half, half));
}

/* int8: vq is as many weights as fit beside the sums of V_WIDTH columns, [column][4]; q_load adds Q_OFFSET to
 * each. q_dot adds the products of each column's 4 weights with the 4 codes in x to that column's integer sum. */
#define Q_OFFSET 0
typedef __m256i vq;

V_INLINE vq q_load(const int8_t *p)
{
    return _mm256_loadu_si256((const __m256i *)(const void *)p);
}
V_INLINE vq q_codes(const int8_t *p)
{
    int32_t four;
    memcpy(&four, p, sizeof four);
    return _mm256_set1_epi32(four);
}
/* |w| <= 128 is unsigned, the sign goes to x: pairs sum to at most 2 * 128 * 127, which vpmaddubsw
 * holds without saturating. */
V_INLINE vi q_dot(vi sum, vq w, vq x)
{
    const __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w));
    return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}
