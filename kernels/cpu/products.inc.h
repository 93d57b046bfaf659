/* products.inc.h - matrix products: packing, register tiles, blocking. Written once on vector.h.
 *
 * Order of accumulation: each output is one chain of fmaf over ascending k. Blocking over k stores
 * the unfinished chain in C and goes on from there, which loses nothing as C is fp32 too. Speed comes
 * from many chains side by side: a tile of TILE_ROWS x TILE_PANELS * 16 outputs lives in registers.
 * A is read where it lies; B comes in panels of 16 columns, [k][16]. */
#pragma once

#include "kernels/backend.h"
#include "kernels/cpu/vector.h"

#if V_WIDTH == 16
#define TILE_ROWS 8 /* 8 x 3 accumulators, 3 of B: 27 of 32 registers */
#define TILE_PANELS 3
#define TILE_HALF 4
#elif V_WIDTH == 8
#define TILE_ROWS 6 /* 6 x 2 accumulators, 2 of B, 1 of A: 15 of 16 registers */
#define TILE_PANELS 1
#define TILE_HALF 3
#else
#define TILE_ROWS 4 /* only so that this header compiles alone: the scalar backend has its own */
#define TILE_PANELS 1
#define TILE_HALF 2
#endif
#define TILE_ROW_PANELS (V_WIDTH == 16 ? 8 : 4) /* panels beside each other for a single row */

#define PRODUCT_K 256 /* k in one block: a panel of B and the rows of A stay in the L1 cache */
#define PRODUCT_COLUMNS 192 /* columns in one block of B: 192 KiB, stays in the L2 cache */

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

/* How a tile's rows share k. */
enum tile_shape {
    TILE_FULL,  /* all rows have k terms */
    TILE_TRAIL, /* row r has k + r terms: the causal edge seen from the queries */
    TILE_LEAD,  /* row r starts at term r: the same edge seen from the keys */
};

struct tile {
    const float *a;
    size_t a_stride; /* floats from row to row, or from k to k when the rows of A are contiguous */
    const float *b;
    size_t panel_stride; /* floats from panel to panel */
    size_t k;
    float *c;
    size_t c_stride;
    size_t columns; /* written, at most 16 x panels */
    bool accumulate;
};

/* One step of k for rows [first, last). All of rows, panels, across, first, last are constants. */
#define TILE_STEP(at, first, last)                                                                 \
    do {                                                                                           \
        vf b_part[8 * V_PARTS];                                                                    \
        TILE_UNROLL for (int j = 0; j < parts; j++)                                                \
        {                                                                                          \
            b_part[j] = v_load(b + (size_t)(j / V_PARTS) * panel_stride + (at)*16 +                \
                               (size_t)(j % V_PARTS) * V_WIDTH);                                   \
        }                                                                                          \
        TILE_UNROLL for (int i = (first); i < (last); i++)                                         \
        {                                                                                          \
            vf a_all = v_set1(across ? a_row[0][(at)*a_stride + (size_t)i] : a_row[i][at]);        \
            TILE_UNROLL for (int j = 0; j < parts; j++)                                            \
            {                                                                                      \
                sum[i * parts + j] = v_fma(a_all, b_part[j], sum[i * parts + j]);                  \
            }                                                                                      \
        }                                                                                          \
    } while (0)

/* rows x panels * 16 outputs, in registers. across: A's rows are contiguous, its k are a_stride
 * apart. rows, panels, shape and across are constants at each call: everything unrolls. */
V_INLINE void tile_run(const int rows, const int panels, const enum tile_shape shape,
                       const bool across, const struct tile *tile)
{
    const int parts = panels * V_PARTS;
    const size_t a_stride = tile->a_stride;
    const size_t panel_stride = tile->panel_stride;
    const size_t k = tile->k;
    const float *b = tile->b;
    const float *a_row[TILE_ROWS];
    vf sum[TILE_ROWS * TILE_PANELS * V_PARTS + 8 * V_PARTS];
    TILE_UNROLL
    for (int i = 0; i < rows; i++) {
        a_row[i] = across ? tile->a : tile->a + (size_t)i * a_stride;
        TILE_UNROLL
        for (int j = 0; j < parts; j++) {
            const size_t column = (size_t)j * V_WIDTH;
            const float *c = tile->c + (size_t)i * tile->c_stride;
            sum[i * parts + j] = v_set1(0.0F);
            if (tile->accumulate && column < tile->columns) {
                sum[i * parts + j] = v_load_row(c + column, tile->columns - column, 0.0F);
            }
        }
    }
    size_t p = 0;
    if (shape == TILE_LEAD) {
        TILE_UNROLL
        for (int u = 0; u < rows - 1; u++) {
            if (p < k) {
                TILE_STEP(p, 0, u + 1);
                p++;
            }
        }
    }
    for (; p < k; p++) {
        TILE_STEP(p, 0, rows);
    }
    if (shape == TILE_TRAIL) {
        TILE_UNROLL
        for (int u = 1; u < rows; u++) {
            TILE_STEP(p, u, rows);
            p++;
        }
    }
    TILE_UNROLL
    for (int i = 0; i < rows; i++) {
        TILE_UNROLL
        for (int j = 0; j < parts; j++) {
            const size_t column = (size_t)j * V_WIDTH;
            float *c = tile->c + (size_t)i * tile->c_stride;
            if (column < tile->columns) {
                v_store_row(c + column, tile->columns - column, sum[i * parts + j]);
            }
        }
    }
}

/* A strip: `rows` rows against as many panels as tile->columns needs. */
V_INLINE void tile_strip(const int rows, const int wide, const enum tile_shape shape,
                         const bool across, struct tile tile)
{
    size_t left = tile.columns;
    while (left > 0) {
        const size_t panels = (left + 15) / 16;
        size_t taken = 1;
        tile.columns = left;
        if (panels >= (size_t)wide) {
            taken = (size_t)wide;
            tile.columns = left < taken * 16 ? left : taken * 16;
            tile_run(rows, wide, shape, across, &tile);
        } else if (wide > 2 && panels >= 2) {
            taken = 2;
            tile.columns = left < taken * 16 ? left : taken * 16;
            tile_run(rows, wide > 2 ? 2 : 1, shape, across, &tile);
        } else {
            tile.columns = left < 16 ? left : 16;
            tile_run(rows, 1, shape, across, &tile);
        }
        left -= tile.columns;
        tile.b += taken * tile.panel_stride;
        tile.c += taken * 16;
    }
}

#define TILE_STRIP(name, rows, wide, shape, across)                                                \
    static __attribute__((noinline, unused)) void name(const struct tile *tile)                    \
    {                                                                                              \
        tile_strip(rows, wide, shape, across, *tile);                                              \
    }
TILE_STRIP(strip_rows, TILE_ROWS, TILE_PANELS, TILE_FULL, false)
TILE_STRIP(strip_half, TILE_HALF, TILE_PANELS, TILE_FULL, false)
TILE_STRIP(strip_one, 1, TILE_ROW_PANELS, TILE_FULL, false)
TILE_STRIP(strip_rows_across, TILE_ROWS, TILE_PANELS, TILE_FULL, true)
TILE_STRIP(strip_half_across, TILE_HALF, TILE_PANELS, TILE_FULL, true)
TILE_STRIP(strip_one_across, 1, TILE_ROW_PANELS, TILE_FULL, true)

/* All rows of one block: the tallest tiles first. */
static inline void tile_rows(size_t rows, bool across, struct tile tile)
{
    const size_t step = across ? 1 : tile.a_stride;
    while (rows > 0) {
        size_t taken = 1;
        if (rows >= TILE_ROWS) {
            taken = TILE_ROWS;
            across ? strip_rows_across(&tile) : strip_rows(&tile);
        } else if (rows >= TILE_HALF) {
            taken = TILE_HALF;
            across ? strip_half_across(&tile) : strip_half(&tile);
        } else {
            across ? strip_one_across(&tile) : strip_one(&tile);
        }
        rows -= taken;
        tile.a += taken * step;
        tile.c += taken * tile.c_stride;
    }
}

/* dst[4 x 16-strided] = transpose of 4 columns of 4 floats, src[i * stride + 0..3]. */
V_INLINE void pack_4x4(const float *src, size_t stride, float *dst)
{
#if V_WIDTH > 1
    __m128 r0 = _mm_loadu_ps(src);
    __m128 r1 = _mm_loadu_ps(src + stride);
    __m128 r2 = _mm_loadu_ps(src + 2 * stride);
    __m128 r3 = _mm_loadu_ps(src + 3 * stride);
    _MM_TRANSPOSE4_PS(r0, r1, r2, r3);
    _mm_storeu_ps(dst, r0);
    _mm_storeu_ps(dst + 16, r1);
    _mm_storeu_ps(dst + 32, r2);
    _mm_storeu_ps(dst + 48, r3);
#else
    for (size_t i = 0; i < 4; i++) {
        for (size_t p = 0; p < 4; p++) {
            dst[p * 16 + i] = src[i * stride + p];
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
        for (; done + 4 <= k; done += 4) {
            for (size_t j = 0; j < 16; j += 4) {
                pack_4x4(b + done + j * column_stride, column_stride, dst + done * 16 + j);
            }
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

static inline void products_gemm(const struct kernels_gemm *gemm, struct kernels_range rows,
                                 struct kernels_range columns)
{
    _Alignas(64) float scratch[PRODUCT_K * PRODUCT_COLUMNS];
    if (gemm->packed != NULL && gemm->type != KERNELS_F32) {
        kernels_scalar.gemm(gemm, rows, columns);
        return;
    }
    const struct kernels_matrix *a = &gemm->a;
    const struct kernels_matrix *b = &gemm->b;
    const bool across = a->column_stride != 1;
    for (size_t j0 = columns.begin; j0 < columns.end; j0 += PRODUCT_COLUMNS) {
        size_t width = columns.end - j0;
        width = width < PRODUCT_COLUMNS ? width : PRODUCT_COLUMNS;
        for (size_t k0 = 0; k0 < gemm->k; k0 += PRODUCT_K) {
            size_t depth = gemm->k - k0;
            depth = depth < PRODUCT_K ? depth : PRODUCT_K;
            struct tile tile = {
                .a = a->data + rows.begin * a->row_stride + k0 * a->column_stride,
                .a_stride = across ? a->column_stride : a->row_stride,
                .b = scratch,
                .panel_stride = depth * 16,
                .k = depth,
                .c = gemm->c + rows.begin * gemm->c_stride + j0,
                .c_stride = gemm->c_stride,
                .columns = width,
                .accumulate = gemm->accumulate || k0 > 0,
            };
            if (gemm->packed != NULL) {
                tile.b = (const float *)gemm->packed + j0 * gemm->k + k0 * 16;
                tile.panel_stride = gemm->k * 16;
            } else {
                struct kernels_matrix block = *b;
                block.data += k0 * b->row_stride + j0 * b->column_stride;
                products_pack(depth, width, block, (struct kernels_range){0, (width + 15) / 16},
                              scratch);
            }
            tile_rows(rows.end - rows.begin, across, tile);
        }
    }
}

/* Not yet written wider. */
static inline void products_pack16(size_t k, size_t n, struct kernels_matrix16 b,
                                   struct kernels_range panels, uint16_t *packed)
{
    kernels_scalar.pack16(k, n, b, panels, packed);
}

static inline void products_quantize(size_t k, const float *x, int8_t *codes, float *scales)
{
    kernels_scalar.quantize(k, x, codes, scales);
}

static inline void products_gemm_int8(const struct kernels_gemm_int8 *gemm,
                                      struct kernels_range rows, struct kernels_range columns)
{
    kernels_scalar.gemm_int8(gemm, rows, columns);
}
