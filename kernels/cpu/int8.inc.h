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
#elif V_WIDTH == 8
#define INT8_ROWS 2 /* 2 x 2 of each kind, the rest for the signs */
#define INT8_PANELS 1
#else
#define INT8_ROWS 2 /* 2 x 4 of each kind, 4 of W */
#define INT8_PANELS 1
#endif
#define INT8_ROW_PANELS 2 /* panels beside each other for a single row */
#define INT8_COLUMNS                                                                               \
    256 /* in one block, read again for each strip of rows: stays in the L2 cache */
#define INT8_PANEL (KERNELS_QUANT * 16)

static inline void int8_quantize(size_t k, const float *x, int8_t *codes, float *scales)
{
    for (size_t at = 0; at < k; at += KERNELS_QUANT) {
        float part[KERNELS_QUANT] = {0.0F};
        const float *block = x + at;
        if (k - at < KERNELS_QUANT) {
            memcpy(part, block, (k - at) * sizeof *part);
            block = part;
        }
        vi max = vi_set1(0); /* a number's magnitude is ordered as its bits are, NaN above all */
        for (size_t i = 0; i < KERNELS_QUANT; i += V_WIDTH) {
            max = vi_max(max, vi_and(v_bits(v_load(block + i)), vi_set1(0x7fffffff)));
        }
        int32_t lanes[V_WIDTH];
        memcpy(lanes, &max, sizeof lanes);
        for (int half = V_WIDTH / 2; half > 0; half /= 2) {
            for (int i = 0; i < half; i++) {
                lanes[i] = lanes[i] > lanes[i + half] ? lanes[i] : lanes[i + half];
            }
        }
        float largest;
        memcpy(&largest, lanes, sizeof largest);
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
    const int8_t *x_codes; /* rows blocks * 32 apart */
    const float *x_scales; /* rows blocks apart */
    const int8_t *w_codes; /* panels blocks * INT8_PANEL apart */
    const uint16_t *w_scales;
    size_t blocks;
    float *c;
    size_t c_stride;
    size_t columns; /* written, at most 16 x panels */
    bool accumulate;
};

/* rows x panels * 16 outputs, in registers; rows and panels are constants at each call. */
V_INLINE void int8_run(const int rows, const int panels, const struct int8_tile *tile)
{
    const int parts = panels * V_PARTS;
    const size_t blocks = tile->blocks;
    vf sum[INT8_ROWS * INT8_PANELS * V_PARTS + INT8_ROW_PANELS * V_PARTS];
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
    for (size_t b = 0; b < blocks; b++) {
        vi dot[INT8_ROWS * INT8_PANELS * V_PARTS + INT8_ROW_PANELS * V_PARTS];
        TILE_UNROLL
        for (int j = 0; j < parts; j++) {
            const size_t panel = (size_t)(j / V_PARTS) * blocks + b;
            const vi start =
                q_start(tile->w_codes + panel * INT8_PANEL + j % V_PARTS * V_WIDTH * 4);
            TILE_UNROLL
            for (int i = 0; i < rows; i++) {
                dot[i * parts + j] = start;
            }
        }
        for (size_t four = 0; four < KERNELS_QUANT / 4; four++) {
            vq w[(INT8_PANELS + INT8_ROW_PANELS) * V_PARTS];
            TILE_UNROLL
            for (int j = 0; j < parts; j++) {
                const size_t panel = (size_t)(j / V_PARTS) * blocks + b;
                w[j] = q_load(tile->w_codes + panel * INT8_PANEL + four * 64 +
                              (size_t)(j % V_PARTS) * V_WIDTH * 4);
            }
            TILE_UNROLL
            for (int i = 0; i < rows; i++) {
                const vq x =
                    q_codes(tile->x_codes + ((size_t)i * blocks + b) * KERNELS_QUANT + four * 4);
                TILE_UNROLL
                for (int j = 0; j < parts; j++) {
                    dot[i * parts + j] = q_dot(dot[i * parts + j], w[j], x);
                }
            }
        }
        TILE_UNROLL
        for (int j = 0; j < parts; j++) {
            const size_t panel = (size_t)(j / V_PARTS) * blocks + b;
            const vf scale = v_load_f16(tile->w_scales + panel * 16 + j % V_PARTS * V_WIDTH);
            TILE_UNROLL
            for (int i = 0; i < rows; i++) {
                const vf both = v_mul(scale, v_set1(tile->x_scales[(size_t)i * blocks + b]));
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

/* `rows` rows against as many panels as tile.columns needs, `wide` beside each other. */
V_INLINE void int8_strip(const int rows, const int wide, struct int8_tile tile)
{
    size_t left = tile.columns;
    while (left > 0) {
        const size_t taken = wide > 1 && left > 16 ? 2 : 1;
        tile.columns = left < taken * 16 ? left : taken * 16;
        if (taken == 2) {
            int8_run(rows, wide, &tile);
        } else {
            int8_run(rows, 1, &tile);
        }
        left -= tile.columns;
        tile.w_codes += taken * tile.blocks * INT8_PANEL;
        tile.w_scales += taken * tile.blocks * 16;
        tile.c += taken * 16;
    }
}

static __attribute__((noinline)) void int8_rows(const struct int8_tile *tile)
{
    int8_strip(INT8_ROWS, INT8_PANELS, *tile);
}

static __attribute__((noinline)) void int8_row(const struct int8_tile *tile)
{
    int8_strip(1, INT8_ROW_PANELS, *tile);
}

static inline void int8_gemm(const struct kernels_gemm_int8 *gemm, struct kernels_range rows,
                             struct kernels_range columns)
{
    const size_t blocks = kernels_quant_blocks(gemm->k);
    for (size_t j = columns.begin; j < columns.end; j += INT8_COLUMNS) {
        const size_t width = columns.end - j;
        struct int8_tile tile = {
            .w_codes = gemm->w_codes + j / 16 * blocks * INT8_PANEL,
            .w_scales = gemm->w_scales + j / 16 * blocks * 16,
            .blocks = blocks,
            .c_stride = gemm->c_stride,
            .columns = width < INT8_COLUMNS ? width : INT8_COLUMNS,
            .accumulate = gemm->accumulate,
        };
        for (size_t i = rows.begin; i < rows.end;) {
            const bool tall = rows.end - i >= INT8_ROWS;
            tile.x_codes = gemm->x_codes + i * blocks * KERNELS_QUANT;
            tile.x_scales = gemm->x_scales + i * blocks;
            tile.c = gemm->c + i * gemm->c_stride + j;
            tall ? int8_rows(&tile) : int8_row(&tile);
            i += tall ? INT8_ROWS : 1;
        }
    }
}
#endif
