/* products.inc.h - matrix products: packing, register tiles, blocking. Written once on vector.h.
 *
 * Order of accumulation: each output is one chain of fmaf over ascending k. Blocking over k stores
 * the unfinished chain in C and goes on from there, which loses nothing as C is fp32 too. Speed comes
 * from many chains side by side: a tile of TILE_ROWS x TILE_PANELS * 16 outputs lives in registers.
 * A is read where it lies; B comes in panels of 16 columns, [k][16]. */
#pragma once

#include "kernels/backend.h"
#include "kernels/cpu/vector.h"

#if V_WIDTH > 1 /* the scalar backend has loops of its own */
#if V_WIDTH == 16
#define TILE_ROWS 8 /* 8 x 3 accumulators, 3 of B: 27 of 32 registers */
#define TILE_PANELS 3
#define TILE_HALF 4
#elif V_WIDTH == 8
#define TILE_ROWS 6 /* 6 x 2 accumulators, 2 of B, 1 of A: 15 of 16 registers */
#define TILE_PANELS 1
#define TILE_HALF 3
#else
#define TILE_ROWS 6 /* 6 x 4 accumulators, 4 of B, 1 of A: 29 of 32 registers */
#define TILE_PANELS 1
#define TILE_HALF 3
#endif
#define TILE_ROW_PANELS (V_WIDTH == 16 ? 8 : 4) /* panels beside each other for a single row */
#define TILE_TWO_PANELS (V_WIDTH == 16 ? 6 : V_WIDTH == 8 ? 2 : 3) /* and for two */

#define PRODUCT_FEW 2      /* rows that read B once, out of memory: from end to end, asking ahead */
#define PRODUCT_AHEAD 2048 /* bytes of each panel on their way while others are used */
/* Blocks: a tile's panels of B and rows of A fit the L1 cache together (48 KiB), a block of B, of A and
 * of C the L2 cache (1 MiB and more). */
#define PRODUCT_K 192       /* k in one block, a multiple of 8: 36 KiB of B, 6 KiB of A */
#define PRODUCT_WIDEN 16    /* rows from which 16-bit weights are widened once, into scratch */
#define PRODUCT_COLUMNS 192 /* columns in one block of B: 144 KiB */
#define PRODUCT_ROWS 512    /* rows of A in one block: 384 KiB */
/* When A's columns are contiguous it is copied, for every block of columns anew: so these are wide, and
 * fewer rows make up for it. */
#define PRODUCT_TURNED_COLUMNS 576 /* 432 KiB */
#define PRODUCT_TURNED_ROWS 128    /* 96 KiB */
/* Of B packed before, a block is one tile wide and meets so many rows: these stay in the L2 cache for all
 * columns, and the next block of B is asked for meanwhile. */
#define PRODUCT_KEPT_ROWS 128 /* 96 KiB for each block of k */
#define PRODUCT_KEPT_AHEAD 4  /* steps of k in which a tile asks for one line of each panel */

/* How a tile's rows share k. */
enum tile_shape {
    TILE_FULL,  /* all rows have k terms */
    TILE_TRAIL, /* row r has k + r terms: the causal edge seen from the queries */
    TILE_LEAD,  /* row r starts at term r: the same edge seen from the keys */
};

struct tile {
    const float *a;
    size_t a_stride; /* floats from row to row, or from k to k when the rows of A are contiguous */
    const void *b;   /* numbers of the type that tile_run is told */
    size_t panel_stride; /* numbers from panel to panel */
    size_t k;
    float *c;
    size_t c_stride;
    size_t columns; /* written, at most 16 x panels */
    bool accumulate;
    const char *ahead; /* what is asked for meanwhile: here and panel_stride on; NULL: nothing */
    const char *ahead_end; /* NULL: nothing was asked for, nor is C */
};

/* One step of k for rows [first, last). All of rows, panels, across, first, last are constants. */
#define TILE_STEP(at, first, last)                                                                 \
    do {                                                                                           \
        vf b_part[8 * V_PARTS];                                                                    \
        TILE_UNROLL for (int j = 0; j < parts; j++)                                                \
        {                                                                                          \
            b_part[j] = tile_b(type, b,                                                            \
                               (size_t)(j / V_PARTS) * panel_stride + (at)*16 +                    \
                                   (size_t)(j % V_PARTS) * V_WIDTH);                               \
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

/* B's vector from number `at` on, widened. */
V_INLINE vf tile_b(const enum kernels_type type, const void *b, size_t at)
{
    return type == KERNELS_F32    ? v_load((const float *)b + at)
           : type == KERNELS_BF16 ? v_load_bf16((const uint16_t *)b + at)
                                  : v_load_f16((const uint16_t *)b + at);
}

/* Asks for what each panel has PRODUCT_AHEAD bytes behind step p of k; behind the last step the next panels
 * begin. */
V_INLINE void tile_ahead(const int panels, const size_t size, const struct tile *tile, size_t p)
{
    const size_t ahead = p + PRODUCT_AHEAD / 16 / size;
    const size_t skip = ahead >= tile->k ? (size_t)(panels - 1) * tile->panel_stride : 0;
    TILE_UNROLL
    for (int j = 0; j < panels; j++) {
        const size_t at = (size_t)j * tile->panel_stride + ahead * 16 + skip;
        __builtin_prefetch((const char *)tile->b + at * size);
    }
}

/* rows x panels * 16 outputs, in registers. across: A's rows are contiguous, its k are a_stride
 * apart. whole: all columns are written, so none needs a mask. All but tile are constants at each call:
 * everything unrolls. */
V_INLINE void tile_run(const int rows, const int panels, const enum kernels_type type,
                       const enum tile_shape shape, const bool across, const bool whole,
                       const struct tile *tile)
{
    const int parts = panels * V_PARTS;
    const size_t a_stride = tile->a_stride;
    const size_t panel_stride = tile->panel_stride;
    const size_t k = tile->k;
    const void *b = tile->b;
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
            if (tile->accumulate && whole) {
                sum[i * parts + j] = v_load(c + column);
            } else if (tile->accumulate && column < tile->columns) {
                sum[i * parts + j] = v_load_row(c + column, tile->columns - column, 0.0F);
            }
        }
    }
    if (tile->ahead_end != NULL && !tile->accumulate) { /* C's lines, stored after k steps */
        TILE_UNROLL
        for (int i = 0; i < rows; i++) {
            TILE_UNROLL
            for (int j = 0; j < parts; j++) {
                __builtin_prefetch(tile->c + (size_t)i * tile->c_stride + (size_t)j * V_WIDTH, 1);
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
    if (type == KERNELS_F32 && rows == TILE_ROWS && shape == TILE_FULL && !across &&
        tile->ahead != NULL) {
        const char *ahead = tile->ahead;
        for (; p + PRODUCT_KEPT_AHEAD <= k; p += PRODUCT_KEPT_AHEAD) {
            TILE_UNROLL
            for (size_t u = 0; u < PRODUCT_KEPT_AHEAD; u++) {
                TILE_STEP(p + u, 0, rows);
            }
            TILE_UNROLL
            for (int j = 0; j < panels; j++) {
                __builtin_prefetch(ahead + (size_t)j * panel_stride * sizeof(float), 0, 2);
            }
            ahead += 64;
        }
    }
    const size_t size = type == KERNELS_F32 ? sizeof(float) : sizeof(uint16_t);
    for (; p < k; p++) {
        if (rows <= PRODUCT_FEW && !across && p % (64 / 16 / size) == 0) { /* once for each line */
            tile_ahead(panels, size, tile, p);
        }
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
            if (whole) {
                v_store(c + column, sum[i * parts + j]);
            } else if (column < tile->columns) {
                v_store_row(c + column, tile->columns - column, sum[i * parts + j]);
            }
        }
    }
}

/* A strip: `rows` rows against as many panels as tile->columns needs. */
V_INLINE void tile_strip(const int rows, const int wide, const enum kernels_type type,
                         const enum tile_shape shape, const bool across, struct tile tile)
{
    const size_t size = type == KERNELS_F32 ? sizeof(float) : sizeof(uint16_t);
    size_t left = tile.columns;
    while (left > 0) {
        const size_t panels = (left + 15) / 16;
        const size_t taken = panels >= (size_t)wide    ? (size_t)wide
                             : wide > 2 && panels >= 2 ? 2
                                                       : 1;
        tile.columns = left < taken * 16 ? left : taken * 16;
        if (tile.columns == (size_t)wide * 16) {
            tile_run(rows, wide, type, shape, across, true, &tile);
        } else if (taken == (size_t)wide) {
            tile_run(rows, wide, type, shape, across, false, &tile);
        } else if (taken == 2) {
            tile_run(rows, wide > 2 ? 2 : 1, type, shape, across, false, &tile);
        } else {
            tile_run(rows, 1, type, shape, across, false, &tile);
        }
        left -= tile.columns;
        tile.b = (const char *)tile.b + taken * tile.panel_stride * size;
        tile.c += taken * 16;
    }
}

#define TILE_STRIP(name, rows, wide, type, shape, across)                                          \
    static __attribute__((noinline, unused)) void name(const struct tile *tile)                    \
    {                                                                                              \
        tile_strip(rows, wide, type, shape, across, *tile);                                        \
    }
TILE_STRIP(strip_rows, TILE_ROWS, TILE_PANELS, KERNELS_F32, TILE_FULL, false)
TILE_STRIP(strip_rows_across, TILE_ROWS, TILE_PANELS, KERNELS_F32, TILE_FULL, true)
TILE_STRIP(strip_half, TILE_HALF, TILE_PANELS, KERNELS_F32, TILE_FULL, false)
TILE_STRIP(strip_two, 2, TILE_TWO_PANELS, KERNELS_F32, TILE_FULL, false)
TILE_STRIP(strip_one, 1, TILE_ROW_PANELS, KERNELS_F32, TILE_FULL, false)
TILE_STRIP(strip_one_across, 1, TILE_ROW_PANELS, KERNELS_F32, TILE_FULL, true)
TILE_STRIP(strip_half_bf16, TILE_HALF, TILE_PANELS, KERNELS_BF16, TILE_FULL, false)
TILE_STRIP(strip_two_bf16, 2, TILE_TWO_PANELS, KERNELS_BF16, TILE_FULL, false)
TILE_STRIP(strip_one_bf16, 1, TILE_ROW_PANELS, KERNELS_BF16, TILE_FULL, false)
TILE_STRIP(strip_half_f16, TILE_HALF, TILE_PANELS, KERNELS_F16, TILE_FULL, false)
TILE_STRIP(strip_two_f16, 2, TILE_TWO_PANELS, KERNELS_F16, TILE_FULL, false)
TILE_STRIP(strip_one_f16, 1, TILE_ROW_PANELS, KERNELS_F16, TILE_FULL, false)

/* All rows of one block: the tallest tiles first. */
static inline void tile_rows(size_t rows, enum kernels_type type, struct tile tile)
{
    static void (*const strips[3][3])(const struct tile *tile) = {
        {strip_half, strip_two, strip_one},
        {strip_half_bf16, strip_two_bf16, strip_one_bf16},
        {strip_half_f16, strip_two_f16, strip_one_f16},
    };
    while (rows > 0) {
        size_t taken = 1;
        if (rows >= TILE_ROWS && type == KERNELS_F32) {
            taken = TILE_ROWS;
            strip_rows(&tile);
            if (tile.ahead != NULL) {
                tile.ahead += tile.k / PRODUCT_KEPT_AHEAD * 64;
                tile.ahead = tile.ahead < tile.ahead_end ? tile.ahead : NULL;
            }
        } else if (rows >= TILE_HALF) {
            taken = TILE_HALF;
            strips[type][0](&tile);
        } else if (rows >= 2) {
            taken = 2;
            strips[type][1](&tile);
        } else {
            strips[type][2](&tile);
        }
        rows -= taken;
        tile.a += taken * tile.a_stride;
        tile.c += taken * tile.c_stride;
    }
}

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

/* Rows of an A whose columns are contiguous, `stride` floats apart. Whole tiles as a tile reads them
 * across, [tile][depth][TILE_ROWS]; the rows left over each by itself, [row][depth]. In order of A's
 * memory: a step of stride may be a page, and its lines are then fetched once. */
static inline void pack_rows(size_t depth, size_t rows, const float *a, size_t stride, float *out)
{
    const size_t tiles = rows / TILE_ROWS;
    for (size_t p = 0; p < depth; p++, a += stride) {
        for (size_t i = 0; i < tiles; i++) {
            memcpy(out + (i * depth + p) * TILE_ROWS, a + i * TILE_ROWS, TILE_ROWS * sizeof *out);
        }
        for (size_t i = tiles * TILE_ROWS; i < rows; i++) {
            out[i * depth + p] = a[i];
        }
    }
}

/* Rows as pack_rows left them against the columns of one tile. */
static inline void tile_rows_across(size_t rows, struct tile tile)
{
    tile.a_stride = TILE_ROWS;
    for (; rows >= TILE_ROWS; rows -= TILE_ROWS) {
        strip_rows_across(&tile);
        tile.a += TILE_ROWS * tile.k;
        tile.c += TILE_ROWS * tile.c_stride;
    }
    tile.a_stride = tile.k;
    tile_rows(rows, KERNELS_F32, tile);
}

/* Blocks of k and of columns: of packed 16-bit weights, of packed fp32 ones, or packed here. */
struct products {
    const struct kernels_gemm *gemm;
    struct kernels_range rows;
    float *b_scratch; /* [panel][depth][16]; NULL: B is packed already */
    float *a_scratch; /* [PRODUCT_TURNED_ROWS][PRODUCT_K]; NULL: A's rows are contiguous */
};

/* One block of B against `rows` rows of A. The columns of one tile meet all rows before the next do:
 * its panels of B then stay in the L1 cache, and the rows of A come from the L2 cache. */
static inline void products_columns(size_t rows, enum kernels_type type, bool across,
                                    struct tile tile)
{
    if (!across && (type != KERNELS_F32 || rows < TILE_ROWS)) {
        tile_rows(rows, type, tile); /* reads B once anyway, and has wider tiles for few rows */
        return;
    }
    const size_t width = (size_t)TILE_PANELS * 16;
    for (size_t left = tile.columns; left > 0; left -= tile.columns) {
        tile.columns = left < width ? left : width;
        across ? tile_rows_across(rows, tile) : tile_rows(rows, type, tile);
        tile.b = (const float *)tile.b + TILE_PANELS * tile.panel_stride;
        tile.c += width;
    }
}

/* Where the block after columns [j0, j0 + width) and k [k0, ...) of packed B begins, of `step` k at most:
 * the next rows begin with the first block again. */
static inline void products_ahead(const struct kernels_gemm *gemm, struct kernels_range columns,
                                  size_t j0, size_t width, size_t k0, size_t step,
                                  struct tile *tile)
{
    const size_t k = k0 + tile->k < gemm->k ? k0 + tile->k : 0;
    const size_t j = k > 0 ? j0 : j0 + width < columns.end ? j0 + width : columns.begin;
    const size_t depth = gemm->k - k < step ? gemm->k - k : step;
    tile->ahead = (const char *)((const float *)gemm->packed + j * gemm->k + k * 16);
    tile->ahead_end = tile->ahead + depth * 16 * sizeof(float);
}

/* One block of B against all rows. tile is set but for A. */
static inline void products_block(const struct products *products, enum kernels_type type,
                                  size_t k0, struct tile tile)
{
    const struct kernels_matrix *a = &products->gemm->a;
    const struct kernels_range rows = products->rows;
    const bool across = products->a_scratch != NULL;
    const size_t step = across ? PRODUCT_TURNED_ROWS : PRODUCT_ROWS;
    for (size_t i = rows.begin; i < rows.end; i += step) {
        const size_t taken = rows.end - i < step ? rows.end - i : step;
        tile.a = a->data + i * a->row_stride + k0 * a->column_stride;
        tile.a_stride = a->row_stride;
        if (across) {
            pack_rows(tile.k, taken, tile.a, a->column_stride, products->a_scratch);
            tile.a = products->a_scratch;
        }
        products_columns(taken, type, across, tile);
        tile.c += taken * tile.c_stride;
    }
}

static inline void products_run(const struct products *products, struct kernels_range columns)
{
    const struct kernels_gemm *gemm = products->gemm;
    const struct kernels_range rows = products->rows;
    const bool narrow = gemm->packed != NULL && gemm->type != KERNELS_F32;
    const bool few = products->b_scratch == NULL && products->a_scratch == NULL &&
                     rows.end - rows.begin <= PRODUCT_FEW;
    const bool kept = products->b_scratch == NULL && products->a_scratch == NULL && !narrow &&
                      rows.end - rows.begin >= TILE_ROWS;
    const size_t most = few                           ? gemm->n
                        : kept                        ? TILE_PANELS * 16
                        : products->a_scratch == NULL ? PRODUCT_COLUMNS
                                                      : PRODUCT_TURNED_COLUMNS;
    /* Blocks of k of equal depth: a short last one would pay for a whole tile's C. */
    const size_t blocks = few ? 1 : (gemm->k + PRODUCT_K - 1) / PRODUCT_K;
    const size_t step = ((gemm->k + blocks - 1) / blocks + 7) / 8 * 8;
    for (size_t j0 = columns.begin; j0 < columns.end; j0 += most) {
        const size_t width = columns.end - j0 < most ? columns.end - j0 : most;
        for (size_t k0 = 0; k0 < gemm->k; k0 += step) {
            const size_t depth = gemm->k - k0 < step ? gemm->k - k0 : step;
            struct tile tile = {
                .b = products->b_scratch,
                .panel_stride = depth * 16,
                .k = depth,
                .c = gemm->c + rows.begin * gemm->c_stride + j0,
                .c_stride = gemm->c_stride,
                .columns = width,
                .accumulate = gemm->accumulate || k0 > 0,
            };
            if (products->b_scratch == NULL) {
                const size_t at = j0 * gemm->k + k0 * 16;
                tile.b = narrow ? (const void *)((const uint16_t *)gemm->packed + at)
                                : (const void *)((const float *)gemm->packed + at);
                tile.panel_stride = gemm->k * 16;
                if (kept) {
                    products_ahead(gemm, columns, j0, width, k0, step, &tile);
                }
            } else if (narrow) {
                products_widen(gemm, j0, width, k0, depth, products->b_scratch);
            } else {
                struct kernels_matrix block = gemm->b;
                block.data += k0 * block.row_stride + j0 * block.column_stride;
                products_pack(depth, width, block, (struct kernels_range){0, (width + 15) / 16},
                              products->b_scratch);
            }
            const bool wide = !narrow || products->b_scratch != NULL;
            products_block(products, wide ? KERNELS_F32 : gemm->type, k0, tile);
        }
    }
}

/* With memory for what is widened, packed or copied; its pages are touched at each call. */
static __attribute__((noinline)) void products_scratch(struct products *products, bool with_b,
                                                       struct kernels_range columns)
{
    _Alignas(64) float b_scratch[PRODUCT_K * PRODUCT_TURNED_COLUMNS];
    _Alignas(64) float a_scratch[PRODUCT_K * PRODUCT_TURNED_ROWS];
    products->b_scratch = with_b ? b_scratch : NULL;
    products->a_scratch = products->gemm->a.column_stride == 1 ? NULL : a_scratch;
    products_run(products, columns);
}

static inline void products_gemm(const struct kernels_gemm *gemm, struct kernels_range rows,
                                 struct kernels_range columns)
{
    struct products products = {.gemm = gemm, .rows = rows};
    const bool across = gemm->a.column_stride != 1;
    const bool widen =
        gemm->type != KERNELS_F32 && (across || rows.end - rows.begin >= PRODUCT_WIDEN);
    const bool with_b = gemm->packed == NULL || widen;
    if (with_b || across) {
        products_scratch(&products, with_b, columns);
        return;
    }
    /* Equal blocks of whole tiles: short ones would each pay for all of B. */
    const size_t count = rows.end - rows.begin;
    const size_t blocks = (count + PRODUCT_KEPT_ROWS - 1) / PRODUCT_KEPT_ROWS;
    const size_t tiles = (count + TILE_ROWS - 1) / TILE_ROWS;
    const size_t step = (tiles + blocks - 1) / blocks * TILE_ROWS;
    for (size_t i = rows.begin; i < rows.end; i += step) {
        products.rows = (struct kernels_range){i, rows.end - i < step ? rows.end : i + step};
        products_run(&products, columns);
    }
}
#endif
