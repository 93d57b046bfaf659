/* int8.inc.h - products with int8 weights and the quantisation of activations. Written once on
 * vector.h; kernels.h states the rules. Integer sums are exact, so only the blocks have an order. */
#pragma once

#include <float.h>

#include "kernels/backend.h"
#include "kernels/cpu/vector.h"

#if V_WIDTH > 1
#if V_WIDTH == 16
#define INT8_ROWS 6 /* 6 x 2 integer sums, as many fp32 sums, 2 of W, 2 of x: 28 of 32 registers */
#define INT8_PANELS 2
#define INT8_FEW 3 /* rows that take their weights out of memory, from end to end, asking ahead */
#define INT8_FEW_PANELS                                                                            \
    4 /* then beside each other, as streams: 3 x 4 of each sum, 4 of W, 1 of x */
#elif V_WIDTH == 8
#define INT8_ROWS 2 /* 2 x 2 of each kind, the rest for the signs */
#define INT8_PANELS 1
#define INT8_FEW 1
#define INT8_FEW_PANELS 2
#else
#define INT8_ROWS 2 /* 2 x 4 of each kind, 4 of W */
#define INT8_PANELS 1
#define INT8_FEW 1
#define INT8_FEW_PANELS 2
#endif
#define INT8_SUMS (16 * V_PARTS) /* room for any tile's */
#define INT8_COLUMNS                                                                               \
    256 /* in one block, read again for each strip of rows: stays in the L2 cache */
#define INT8_PANEL (KERNELS_QUANT * 16)
#define INT8_BLOCKS 128 /* along k, whose starts lie beside each other: 3 KiB */
#define INT8_AHEAD 4    /* blocks: 2 KiB of each panel are on their way while one is used */

static inline void int8_quantize(size_t k, const float *x, int8_t *codes, float *scales)
{
    float part[KERNELS_QUANT];
    for (size_t at = 0; at < k; at += KERNELS_QUANT) {
        const float *block = x + at;
        if (k - at < KERNELS_QUANT) {
            memset(part, 0, sizeof part);
            memcpy(part, block, (k - at) * sizeof *part);
            block = part;
        }
        vi max = vi_set1(0); /* a number's magnitude is ordered as its bits are, NaN above all */
        for (size_t i = 0; i < KERNELS_QUANT; i += V_WIDTH) {
            max = vi_max(max, vi_and(v_bits(v_load(block + i)), vi_set1(0x7fffffff)));
        }
        const int32_t bits = vi_largest(max);
        float largest;
        memcpy(&largest, &bits, sizeof largest);
        float *scale = &scales[at / KERNELS_QUANT];
        if (largest >= KERNELS_QUANT_MIN && largest <= FLT_MAX) {
            const vf inverse = v_set1(127.0F / largest);
            *scale = largest / 127.0F;
            for (size_t i = 0; i < KERNELS_QUANT; i += V_WIDTH) {
                v_store_codes(codes + at + i, v_mul(v_load(block + i), inverse));
            }
        } else {
            *scale = largest < KERNELS_QUANT_MIN ? 0.0F : NAN;
            memset(codes + at, 0, KERNELS_QUANT);
        }
    }
}

struct int8_tile {
    const int8_t *x_codes; /* rows stride * 32 apart */
    const float *x_scales; /* rows stride apart */
    const int8_t *w_codes; /* panels stride * INT8_PANEL apart */
    const uint16_t *w_scales;
    size_t stride;         /* blocks of a whole row */
    size_t blocks;         /* summed here, at most INT8_BLOCKS */
    const int32_t *starts; /* rows INT8_BLOCKS apart */
    float *c;
    size_t c_stride;
    size_t columns; /* written, at most 16 x panels */
    bool accumulate;
};

/* What the integer sums of each row and block begin with: Q_OFFSET, which q_load adds to every weight, is
 * taken off again. */
static inline void int8_starts(const struct int8_tile *tile, size_t rows, int32_t *starts)
{
    for (size_t i = 0; i < rows && Q_OFFSET != 0; i++) {
        const int8_t *codes = tile->x_codes + i * tile->stride * KERNELS_QUANT;
        for (size_t b = 0; b < tile->blocks; b++) {
            int32_t sum = 0;
            for (size_t t = 0; t < KERNELS_QUANT; t++) {
                sum += codes[b * KERNELS_QUANT + t];
            }
            starts[i * INT8_BLOCKS + b] = -Q_OFFSET * sum;
        }
    }
}

/* Asks for block b + INT8_AHEAD of each panel; behind the last one the next panels begin. */
V_INLINE void int8_ahead(const int panels, const struct int8_tile *tile, size_t b)
{
    const bool next = b + INT8_AHEAD >= tile->stride;
    const size_t at = b + INT8_AHEAD + (next ? (size_t)(panels - 1) * tile->stride : 0);
    TILE_UNROLL
    for (int j = 0; j < panels; j++) {
        const size_t block = (size_t)j * tile->stride + at;
        TILE_UNROLL
        for (size_t line = 0; line < INT8_PANEL; line += 64) {
            __builtin_prefetch(tile->w_codes + block * INT8_PANEL + line);
        }
        __builtin_prefetch(tile->w_scales + block * 16);
    }
}

/* rows x panels * 16 outputs, in registers; rows and panels are constants at each call. */
V_INLINE void int8_run(const int rows, const int panels, const struct int8_tile *tile)
{
    const int parts = panels * V_PARTS;
    const size_t stride = tile->stride;
    vf sum[INT8_SUMS];
    TILE_UNROLL
    for (int i = 0; i < rows; i++) {
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
    for (size_t b = 0; b < tile->blocks; b++) {
        vi dot[INT8_SUMS];
        if (rows <= INT8_FEW) {
            int8_ahead(panels, tile, b);
        }
        TILE_UNROLL
        for (int i = 0; i < rows; i++) {
            const vi start = vi_set1(Q_OFFSET != 0 ? tile->starts[(size_t)i * INT8_BLOCKS + b] : 0);
            TILE_UNROLL
            for (int j = 0; j < parts; j++) {
                dot[i * parts + j] = start;
            }
        }
        TILE_UNROLL
        for (size_t four = 0; four < KERNELS_QUANT / 4; four++) {
            vq w[4 * V_PARTS];
            TILE_UNROLL
            for (int j = 0; j < parts; j++) {
                const size_t panel = (size_t)(j / V_PARTS) * stride + b;
                w[j] = q_load(tile->w_codes + panel * INT8_PANEL + four * 64 +
                              (size_t)(j % V_PARTS) * V_WIDTH * 4);
            }
            TILE_UNROLL
            for (int i = 0; i < rows; i++) {
                const vq x =
                    q_codes(tile->x_codes + ((size_t)i * stride + b) * KERNELS_QUANT + four * 4);
                TILE_UNROLL
                for (int j = 0; j < parts; j++) {
                    dot[i * parts + j] = q_dot(dot[i * parts + j], w[j], x);
                }
            }
        }
        TILE_UNROLL
        for (int j = 0; j < parts; j++) {
            const size_t panel = (size_t)(j / V_PARTS) * stride + b;
            const vf scale = v_load_f16(tile->w_scales + panel * 16 + j % V_PARTS * V_WIDTH);
            TILE_UNROLL
            for (int i = 0; i < rows; i++) {
                const vf both = v_mul(scale, v_set1(tile->x_scales[(size_t)i * stride + b]));
                sum[i * parts + j] =
                    v_fma(v_from_int(dot[i * parts + j]), both, sum[i * parts + j]);
            }
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

/* `rows` rows against as many panels as tile.columns needs, at most `wide` beside each other. */
V_INLINE void int8_strip(const int rows, const int wide, struct int8_tile tile)
{
    size_t left = tile.columns;
    while (left > 0) {
        size_t taken = (left + 15) / 16;
        taken = taken < (size_t)wide ? taken : (size_t)wide;
        tile.columns = left < taken * 16 ? left : taken * 16;
        if (wide > 2 && taken == (size_t)wide) {
            int8_run(rows, wide, &tile);
        } else if (wide > 3 && taken == 3) {
            int8_run(rows, 3, &tile);
        } else if (wide > 1 && taken == 2) {
            int8_run(rows, 2, &tile);
        } else {
            int8_run(rows, 1, &tile);
        }
        left -= tile.columns;
        tile.w_codes += taken * tile.stride * INT8_PANEL;
        tile.w_scales += taken * tile.stride * 16;
        tile.c += taken * 16;
    }
}

#define INT8_STRIP(name, rows, wide)                                                               \
    static __attribute__((noinline)) void name(const struct int8_tile *tile)                       \
    {                                                                                              \
        int8_strip(rows, wide, *tile);                                                             \
    }
INT8_STRIP(int8_one, 1, INT8_FEW_PANELS)
#if INT8_FEW == 3
INT8_STRIP(int8_two, 2, INT8_FEW_PANELS)
INT8_STRIP(int8_three, 3, INT8_FEW_PANELS)
#endif
INT8_STRIP(int8_rows, INT8_ROWS, INT8_PANELS)

/* All rows against columns [j, j + width), blocks [first, first + blocks) of k. */
static inline void int8_block(const struct kernels_gemm_int8 *gemm, struct kernels_range rows,
                              size_t j, size_t width, size_t first, size_t blocks)
{
    const size_t stride = kernels_quant_blocks(gemm->k);
    int32_t starts[INT8_ROWS * INT8_BLOCKS];
    struct int8_tile tile = {
        .w_codes = gemm->w_codes + (j / 16 * stride + first) * INT8_PANEL,
        .w_scales = gemm->w_scales + (j / 16 * stride + first) * 16,
        .stride = stride,
        .blocks = blocks,
        .starts = starts,
        .c_stride = gemm->c_stride,
        .columns = width,
        .accumulate = gemm->accumulate || first > 0,
    };
    static void (*const few[INT8_FEW])(const struct int8_tile *tile) = {
        int8_one,
#if INT8_FEW == 3
        int8_two,
        int8_three,
#endif
    };
    for (size_t i = rows.begin, taken = 0; i < rows.end; i += taken) {
        const size_t left = rows.end - i;
        taken = left >= INT8_ROWS ? INT8_ROWS : left < INT8_FEW ? left : INT8_FEW;
        tile.x_codes = gemm->x_codes + (i * stride + first) * KERNELS_QUANT;
        tile.x_scales = gemm->x_scales + i * stride + first;
        tile.c = gemm->c + i * gemm->c_stride + j;
        int8_starts(&tile, taken, starts);
        taken == INT8_ROWS ? int8_rows(&tile) : few[taken - 1](&tile);
    }
}

static inline void int8_gemm(const struct kernels_gemm_int8 *gemm, struct kernels_range rows,
                             struct kernels_range columns)
{
    const size_t stride = kernels_quant_blocks(gemm->k);
    const size_t step = rows.end - rows.begin <= INT8_FEW ? gemm->n : INT8_COLUMNS;
    for (size_t j = columns.begin; j < columns.end; j += step) {
        const size_t width = columns.end - j < step ? columns.end - j : step;
        for (size_t first = 0; first < stride; first += INT8_BLOCKS) {
            const size_t left = stride - first;
            int8_block(gemm, rows, j, width, first, left < INT8_BLOCKS ? left : INT8_BLOCKS);
        }
    }
}
#endif
