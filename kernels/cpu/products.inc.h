/* products.inc.h - matrix products: register tiles, blocking. Written once on vector.h.
 *
 * Order of accumulation: each output is one chain of fmaf over ascending k. Blocking over k stores
 * the unfinished chain in C and goes on from there, which loses nothing as C is fp32 too. Speed comes
 * from many chains side by side: a tile of TILE_ROWS x TILE_PANELS * 16 outputs lives in registers.
 * A is read where it lies if its rows are contiguous; B comes in panels of 16 columns, [k][16]. */
#pragma once

#include "kernels/backend.h"
#include "kernels/cpu/pack.inc.h"
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
/* Blocks: a tile's panels of B and rows of A fit the L1 cache together (48 KiB); A's rows for all columns, and
 * the B that they meet there, the L2 cache (1 MiB and more). */
#define PRODUCT_K 192       /* k in one block, a multiple of 8: 36 KiB of B, 6 KiB of A */
#define PRODUCT_DEEP 3      /* blocks of k after each other before the next columns */
#define PRODUCT_ROWS 344UL  /* rows of A for so many: 774 KiB; more of them where k is shorter */
#define PRODUCT_COLUMNS 192 /* columns of B beside each other for fewer rows than a tile has */
#define PRODUCT_PLAIN 576   /* columns of a B that is packed here, */
#define PRODUCT_PLAIN_K 256 /* for so many k: 576 KiB; or more k of fewer columns */
#define PRODUCT_WIDEN 16    /* rows from which 16-bit weights are widened, block by block */
#define PRODUCT_AHEAD_K 4   /* steps of k in which a tile asks for one line of each next panel */
#define PACK_TERMS 4        /* of a row of A packed at a time: one line, or two, of a tile */
/* Rows of A so many floats apart share too few sets of the caches, and are copied: as are those of an A whose
 * columns are contiguous. */
#define PRODUCT_ALIAS 1024

_Static_assert(PRODUCT_PLAIN_K >= PRODUCT_K, "one block of all columns fits");

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
    const char
        *ahead; /* what is asked for meanwhile: here and each ahead_stride on; NULL: nothing */
    const char *ahead_end;
    size_t ahead_stride; /* bytes from panel to panel */
    bool ahead_c; /* C's lines, too: those stored after this tile, or loaded before the next */
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
    if (type == KERNELS_F32 && rows == TILE_ROWS && shape == TILE_FULL) {
        const char *ahead = tile->ahead;
        const float *c = tile->c + (tile->accumulate ? (size_t)rows * tile->c_stride : 0);
        int c_rows = tile->ahead_c ? rows : 0;
        for (; p + PRODUCT_AHEAD_K <= k; p += PRODUCT_AHEAD_K) {
            TILE_UNROLL
            for (size_t u = 0; u < PRODUCT_AHEAD_K; u++) {
                TILE_STEP(p + u, 0, rows);
            }
            TILE_UNROLL
            for (int j = 0; j < panels && ahead != NULL; j++) {
                __builtin_prefetch(ahead + (size_t)j * tile->ahead_stride, 0, 2);
            }
            ahead = ahead == NULL ? NULL : ahead + 64;
            if (c_rows > 0) {
                TILE_UNROLL
                for (int j = 0; j < panels; j++) {
                    __builtin_prefetch(c + (size_t)j * 16, 1);
                }
                c += tile->c_stride;
                c_rows--;
            }
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
                tile.ahead += tile.k / PRODUCT_AHEAD_K * 64;
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

/* Rows of an A whose columns are contiguous, `stride` floats apart. Whole tiles as a tile reads them
 * across, [tile][depth][TILE_ROWS]; the rows left over each by itself, [row][depth]. A few terms at a time, in
 * order of A's memory: a step of stride may be a page, whose lines are then fetched once; and what they become
 * in a tile is whole lines, which may share too few sets of the L1 cache to be filled in several turns. */
static inline void pack_rows(size_t depth, size_t rows, const float *a, size_t stride, float *out)
{
    const size_t tiles = rows / TILE_ROWS;
    for (size_t p = 0; p < depth; p += PACK_TERMS, a += PACK_TERMS * stride) {
        const size_t terms = depth - p < PACK_TERMS ? depth - p : PACK_TERMS;
        for (size_t i = 0; i < tiles; i++) {
            for (size_t t = 0; t < terms; t++) {
                memcpy(out + (i * depth + p + t) * TILE_ROWS, a + t * stride + i * TILE_ROWS,
                       TILE_ROWS * sizeof *out);
            }
        }
        for (size_t i = tiles * TILE_ROWS; i < rows; i++) {
            for (size_t t = 0; t < terms; t++) {
                out[i * depth + p + t] = a[t * stride + i];
            }
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

struct products {
    const struct kernels_gemm *gemm;
    size_t depth;     /* k in one block */
    float *a_scratch; /* PRODUCT_ROWS x PRODUCT_DEEP blocks; NULL: A is read where it lies */
    float *b_scratch; /* [panel][depth][16]; NULL: B is packed already */
};

/* What is worked on at a time: outputs, and of each chain these terms. */
struct part {
    struct kernels_range rows, columns, terms;
    bool last; /* rows are the last ones */
};

/* The part's A into scratch: whole rows, or block by block as pack_rows does. */
static inline void products_copy(const struct products *products, const struct part *part)
{
    const struct kernels_matrix *a = &products->gemm->a;
    const size_t rows = part->rows.end - part->rows.begin;
    const size_t terms = part->terms.end - part->terms.begin;
    const float *from = a->data + part->rows.begin * a->row_stride;
    if (a->column_stride == 1) {
        for (size_t i = 0; i < rows; i++) {
            memcpy(products->a_scratch + i * terms, from + i * a->row_stride + part->terms.begin,
                   terms * sizeof(float));
        }
        return;
    }
    for (size_t at = 0; at < terms; at += products->depth) {
        const size_t depth = terms - at < products->depth ? terms - at : products->depth;
        pack_rows(depth, rows, from + (part->terms.begin + at) * a->column_stride, a->column_stride,
                  products->a_scratch + at * rows);
    }
}

/* Asks, while this block of packed B is used, for the next: of k, of columns, then of the next rows. */
static inline void products_ahead(const struct products *products, const struct part *part,
                                  size_t j0, size_t k0, struct tile *tile)
{
    const struct kernels_gemm *gemm = products->gemm;
    const size_t size = gemm->type == KERNELS_F32 ? sizeof(float) : sizeof(uint16_t);
    size_t j = j0;
    size_t k = k0 + tile->k;
    if (k == part->terms.end) {
        j = j0 + tile->columns < part->columns.end ? j0 + tile->columns : part->columns.begin;
        k = j > j0 || !part->last ? part->terms.begin : k < gemm->k ? k : 0;
    }
    const size_t depth = gemm->k - k < products->depth ? gemm->k - k : products->depth;
    tile->ahead = (const char *)gemm->packed + (j * gemm->k + k * 16) * size;
    tile->ahead_end = tile->ahead + depth * 16 * size;
    tile->ahead_stride = gemm->k * 16 * size;
}

/* A B that is not packed: all columns and terms of the part. */
static inline void products_plain(const struct products *products, const struct part *part)
{
    struct kernels_matrix b = products->gemm->b;
    const size_t width = part->columns.end - part->columns.begin;
    b.data += part->terms.begin * b.row_stride + part->columns.begin * b.column_stride;
    products_pack(part->terms.end - part->terms.begin, width, b,
                  (struct kernels_range){0, (width + 15) / 16}, products->b_scratch);
}

/* The block of B at column j0, term k0 of the size that the tile has, as the tile reads it. */
static inline void products_panels(const struct products *products, const struct part *part,
                                   size_t j0, size_t k0, struct tile *tile)
{
    const struct kernels_gemm *gemm = products->gemm;
    if (products->b_scratch == NULL) {
        const size_t at = j0 * gemm->k + k0 * 16;
        tile->b = gemm->type == KERNELS_F32 ? (const void *)((const float *)gemm->packed + at)
                                            : (const void *)((const uint16_t *)gemm->packed + at);
        tile->panel_stride = gemm->k * 16;
        return;
    }
    if (gemm->packed == NULL) {
        const size_t terms = part->terms.end - part->terms.begin;
        tile->b = products->b_scratch + (j0 - part->columns.begin) * terms +
                  (k0 - part->terms.begin) * 16;
        tile->panel_stride = terms * 16;
        return;
    }
    tile->b = products->b_scratch;
    tile->panel_stride = tile->k * 16;
    products_widen(gemm, j0, tile->columns, k0, tile->k, products->b_scratch);
}

/* Block after block of B against the part's rows: B comes from the L1 cache, A from the L2 cache. */
static inline void products_part(const struct products *products, const struct part *part,
                                 size_t wide)
{
    const struct kernels_gemm *gemm = products->gemm;
    const size_t rows = part->rows.end - part->rows.begin;
    const bool across = gemm->a.column_stride != 1;
    const enum kernels_type type = products->b_scratch == NULL ? gemm->type : KERNELS_F32;
    if (products->a_scratch != NULL) {
        products_copy(products, part);
    }
    for (size_t j0 = part->columns.begin; j0 < part->columns.end; j0 += wide) {
        const size_t left = part->columns.end - j0;
        for (size_t k0 = part->terms.begin; k0 < part->terms.end; k0 += products->depth) {
            const size_t terms = part->terms.end - k0;
            struct tile tile = {
                .a = gemm->a.data + part->rows.begin * gemm->a.row_stride + k0,
                .a_stride = gemm->a.row_stride,
                .k = terms < products->depth ? terms : products->depth,
                .c = gemm->c + part->rows.begin * gemm->c_stride + j0,
                .c_stride = gemm->c_stride,
                .columns = left < wide ? left : wide,
                .accumulate = gemm->accumulate || k0 > 0,
                .ahead_c = rows >= TILE_ROWS,
            };
            products_panels(products, part, j0, k0, &tile);
            if (gemm->packed != NULL && rows >= TILE_ROWS) {
                products_ahead(products, part, j0, k0, &tile);
            }
            const size_t at = k0 - part->terms.begin;
            if (across) {
                tile.a = products->a_scratch + at * rows;
                tile_rows_across(rows, tile);
                continue;
            }
            if (products->a_scratch != NULL) {
                tile.a = products->a_scratch + at;
                tile.a_stride = part->terms.end - part->terms.begin;
            }
            tile_rows(rows, type, tile);
        }
    }
}

static inline size_t products_divide(size_t count, size_t most)
{
    return (count + most - 1) / most;
}

/* Blocks of k after each other before the next columns: of a B that is packed here as many as fit. */
static inline size_t products_deep(const struct products *products, struct kernels_range columns)
{
    if (products->gemm->packed != NULL) {
        return PRODUCT_DEEP;
    }
    const size_t count = columns.end - columns.begin;
    const size_t width = count < PRODUCT_PLAIN ? (count + 15) / 16 * 16 : PRODUCT_PLAIN;
    const size_t fit = PRODUCT_PLAIN_K * PRODUCT_PLAIN / (width * products->depth);
    return fit < PRODUCT_DEEP ? fit : PRODUCT_DEEP;
}

/* Parts of equal size: a short last one would pay for as much of B, or of C, as the others. */
static inline void products_run(const struct kernels_gemm *gemm, struct kernels_range rows,
                                struct kernels_range columns, float *a_scratch, float *b_scratch)
{
    const size_t count = rows.end - rows.begin;
    const bool plain = gemm->packed == NULL;
    const bool few = count <= PRODUCT_FEW && a_scratch == NULL && b_scratch == NULL;
    const bool tall = count >= TILE_ROWS && (gemm->type == KERNELS_F32 || b_scratch != NULL);
    const size_t wide = few ? gemm->n : tall ? TILE_PANELS * 16 : PRODUCT_COLUMNS;
    const size_t blocks = few ? 1 : products_divide(gemm->k, PRODUCT_K);
    const struct products products = {
        .gemm = gemm,
        .depth = (products_divide(gemm->k, blocks) + 7) / 8 * 8,
        .a_scratch = a_scratch,
        .b_scratch = b_scratch,
    };
    const size_t group = plain ? PRODUCT_PLAIN : columns.end - columns.begin;
    const size_t deep =
        products_divide(blocks, products_divide(blocks, products_deep(&products, columns)));
    const size_t terms = products.depth * deep;
    const size_t most =
        plain || few ? PRODUCT_ROWS / 2 : PRODUCT_ROWS * PRODUCT_K * PRODUCT_DEEP / terms;
    const size_t tiles = products_divide(count, TILE_ROWS);
    const size_t step = products_divide(tiles, products_divide(count, most)) * TILE_ROWS;
    struct part part;
    for (size_t j = columns.begin; j < columns.end; j += group) {
        part.columns = (struct kernels_range){j, columns.end - j < group ? columns.end : j + group};
        for (size_t k = 0; k < gemm->k; k += terms) {
            part.terms = (struct kernels_range){k, gemm->k - k < terms ? gemm->k : k + terms};
            if (plain) {
                products_plain(&products, &part);
            }
            for (size_t i = rows.begin; i < rows.end; i += step) {
                part.rows = (struct kernels_range){i, rows.end - i < step ? rows.end : i + step};
                part.last = part.rows.end == rows.end;
                products_part(&products, &part, wide);
            }
        }
    }
}

/* With memory for what is widened or packed; its pages are touched at each call. */
static __attribute__((noinline)) void products_scratch_b(const struct kernels_gemm *gemm,
                                                         struct kernels_range rows,
                                                         struct kernels_range columns)
{
    _Alignas(64) float b_scratch[PRODUCT_PLAIN_K * PRODUCT_PLAIN];
    products_run(gemm, rows, columns, NULL, b_scratch);
}

/* And for a copy of A. */
static __attribute__((noinline)) void products_scratch_a(const struct kernels_gemm *gemm,
                                                         struct kernels_range rows,
                                                         struct kernels_range columns, bool with_b)
{
    _Alignas(64) float a_scratch[(PRODUCT_ROWS + TILE_ROWS) * PRODUCT_K * PRODUCT_DEEP];
    _Alignas(64) float b_scratch[PRODUCT_PLAIN_K * PRODUCT_PLAIN];
    products_run(gemm, rows, columns, a_scratch, with_b ? b_scratch : NULL);
}

static inline void products_gemm(const struct kernels_gemm *gemm, struct kernels_range rows,
                                 struct kernels_range columns)
{
    const size_t count = rows.end - rows.begin;
    const bool across = gemm->a.column_stride != 1;
    const bool widen = gemm->type != KERNELS_F32 && (across || count >= PRODUCT_WIDEN);
    const bool with_b = gemm->packed == NULL || widen;
    const bool alias = count >= TILE_ROWS && gemm->a.row_stride % PRODUCT_ALIAS == 0 &&
                       columns.end - columns.begin >= PRODUCT_COLUMNS;
    if (across || alias) {
        products_scratch_a(gemm, rows, columns, with_b);
    } else if (with_b) {
        products_scratch_b(gemm, rows, columns);
    } else {
        products_run(gemm, rows, columns, NULL, NULL);
    }
}
#endif
