/* pack.inc.h - matrices copied into the order in which tiles read them; no arithmetic but exact widening.
 * Written once on vector.h; for products.inc.h. */
#pragma once

#include "kernels/backend.h"
#include "kernels/cpu/vector.h"

#if V_WIDTH > 1
/* dst[j * 16 + i] = src[i * src_stride + j], 8 x 8. In halves of a register: rows i and i + 4 lie side by
 * side, so that no number crosses the middle later. */
V_INLINE void turn_8x8(const float *src, size_t src_stride, float *dst)
{
#if V_WIDTH > 4
    __m256 row[8];
    TILE_UNROLL
    for (int i = 0; i < 8; i++) {
        const float *at = src + (size_t)(i & 3) * src_stride + (i & 4);
        row[i] = _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(at)),
                                      _mm_loadu_ps(at + 4 * src_stride), 1);
    }
    TILE_UNROLL
    for (int i = 0; i < 8; i += 4) {
        const __m256 low01 = _mm256_unpacklo_ps(row[i], row[i + 1]);
        const __m256 high01 = _mm256_unpackhi_ps(row[i], row[i + 1]);
        const __m256 low23 = _mm256_unpacklo_ps(row[i + 2], row[i + 3]);
        const __m256 high23 = _mm256_unpackhi_ps(row[i + 2], row[i + 3]);
        float *to = dst + (size_t)i * 16;
        _mm256_storeu_ps(to, _mm256_shuffle_ps(low01, low23, 0x44));
        _mm256_storeu_ps(to + 16, _mm256_shuffle_ps(low01, low23, 0xEE));
        _mm256_storeu_ps(to + 32, _mm256_shuffle_ps(high01, high23, 0x44));
        _mm256_storeu_ps(to + 48, _mm256_shuffle_ps(high01, high23, 0xEE));
    }
#else
    for (size_t i = 0; i < 8; i++) {
        for (size_t j = 0; j < 8; j++) {
            dst[j * 16 + i] = src[i * src_stride + j];
        }
    }
#endif
}

/* One panel: dst[p][j] = b[p * row_stride + j * column_stride], j < columns <= 16; the rest +0. */
static inline void pack_panel(size_t k, size_t columns, const float *b, size_t row_stride,
                              size_t column_stride, float *dst)
{
    if (columns == 16 && column_stride == 1) {
        for (size_t p = 0; p < k; p++) {
            memcpy(dst + p * 16, b + p * row_stride, 16 * sizeof *dst);
        }
        return;
    }
    size_t done = 0;
    if (columns == 16 && row_stride == 1) {
        for (; done + 8 <= k; done += 8) {
            turn_8x8(b + done, column_stride, dst + done * 16);
            turn_8x8(b + done + 8 * column_stride, column_stride, dst + done * 16 + 8);
        }
    }
    for (size_t p = done; p < k; p++) {
        for (size_t j = 0; j < 16; j++) {
            dst[p * 16 + j] = j < columns ? b[p * row_stride + j * column_stride] : 0.0F;
        }
    }
}

static inline void products_pack(size_t k, size_t n, struct kernels_matrix b,
                                 struct kernels_range panels, float *packed)
{
    for (size_t panel = panels.begin; panel < panels.end; panel++) {
        const size_t left = n - panel * 16;
        pack_panel(k, left < 16 ? left : 16, b.data + panel * 16 * b.column_stride, b.row_stride,
                   b.column_stride, packed + panel * 16 * k);
    }
}

/* Moves bits only. */
static inline void products_pack16(size_t k, size_t n, struct kernels_matrix16 b,
                                   struct kernels_range panels, uint16_t *packed)
{
    for (size_t panel = panels.begin; panel < panels.end; panel++) {
        const size_t columns = n - panel * 16 < 16 ? n - panel * 16 : 16;
        const uint16_t *from = b.data + panel * 16 * b.column_stride;
        uint16_t *to = packed + panel * 16 * k;
        for (size_t p = 0; p < k; p++) {
            for (size_t j = 0; j < 16; j++) {
                to[p * 16 + j] = j < columns ? from[p * b.row_stride + j * b.column_stride] : 0;
            }
        }
    }
}

/* A block of packed 16-bit weights as fp32: pays when many rows use it. */
static inline void products_widen(const struct kernels_gemm *gemm, size_t j0, size_t width,
                                  size_t k0, size_t depth, float *out)
{
    const bool bf16 = gemm->type == KERNELS_BF16;
    for (size_t panel = 0; panel < (width + 15) / 16; panel++) {
        const uint16_t *from =
            (const uint16_t *)gemm->packed + (j0 + panel * 16) * gemm->k + k0 * 16;
        float *to = out + panel * depth * 16;
        for (size_t i = 0; i < depth * 16; i += V_WIDTH) {
            v_store(to + i, bf16 ? v_load_bf16(from + i) : v_load_f16(from + i));
        }
    }
}
#endif
