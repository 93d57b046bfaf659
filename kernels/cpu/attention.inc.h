/* attention.inc.h - causal attention, forward and backward, out of the register tiles of
 * products.inc.h. Written once on vector.h; kernels.h states formulas and orders.
 *
 * Why it is exact under chunking: scores go to a buffer of one block of 256 positions, so nothing
 * depends on which rows came in the same call; the softmax sum is one more column of P V, where V is
 * extended by a column of ones: fmaf(p, 1, l) is l + p. Masked pairs take no part in any chain.
 * A context of a few blocks keeps its keys and values packed and its scores stored; a longer one
 * computes scores twice (maximum first). A row or two (decoding) take the heads of a group as the rows
 * of a tile. All ways add in the same order. */
#pragma once

#include "kernels/cpu/int8.inc.h"
#include "kernels/cpu/products.inc.h"
#include "kernels/cpu/rows.inc.h"

#if V_WIDTH > 1
#if V_WIDTH == 16
#define HEAD_ROWS 8 /* divides KERNELS_BLOCK, so that a tile never crosses a block */
#else
#define HEAD_ROWS 4
#endif
#define HEAD_WIDE (TILE_PANELS > 1 ? 3 : 1)
#define HEAD_WHOLE 4 /* blocks whose scores are stored: 32 KiB for a tile of rows */
#define HEAD_GROUP 8 /* query heads at a time for a single row */
#define HEAD_FEW 32  /* and positions packed at a time */
#define HEAD_STEP 32 /* query rows whose P and dS are kept at a time in the backward pass */

_Static_assert(KERNELS_BLOCK % HEAD_STEP == 0 && HEAD_STEP % HEAD_ROWS == 0, "tiles fit steps");
_Static_assert(HEAD_ROWS <= TILE_ROWS, "tiles fit registers");

TILE_STRIP(head_full, HEAD_ROWS, HEAD_WIDE, KERNELS_F32, TILE_FULL, false)
TILE_STRIP(head_trail, HEAD_ROWS, HEAD_WIDE, KERNELS_F32, TILE_TRAIL, false)
TILE_STRIP(head_full_across, HEAD_ROWS, HEAD_WIDE, KERNELS_F32, TILE_FULL, true)
TILE_STRIP(head_lead_across, HEAD_ROWS, HEAD_WIDE, KERNELS_F32, TILE_LEAD, true)

/* Keys, values or queries as panels. [dim][16] per 16 rows when transposed, else [row][16] per 16
 * columns of dim, with room for the column of ones. */
#define HEAD_PANELS_COUNT ((KERNELS_HEAD_DIM_MAX + 16) * KERNELS_BLOCK)

/* rows x dim at x, rows `stride` apart, into panels [dim][16 rows]. */
static inline void head_pack_rows(size_t rows, size_t dim, const float *x, size_t stride,
                                  float *out)
{
    const struct kernels_matrix b = {x, 1, stride};
    products_pack(dim, rows, b, (struct kernels_range){0, (rows + 15) / 16}, out);
}

/* rows x dim at x into panels [rows][16 columns of dim]; with_ones adds column dim, all 1. */
static inline void head_pack_columns(size_t rows, size_t dim, const float *x, size_t stride,
                                     bool with_ones, float *out)
{
    const struct kernels_matrix b = {x, stride, 1};
    products_pack(rows, dim, b, (struct kernels_range){0, (dim + 15) / 16}, out);
    if (with_ones) {
        float *last = out + dim / 16 * 16 * rows;
        for (size_t r = 0; r < rows; r++) {
            if (dim % 16 == 0) {
                memset(last + r * 16, 0, 16 * sizeof *last);
            }
            last[r * 16 + dim % 16] = 1.0F;
        }
    }
}

struct head {
    const struct kernels_attention *attention;
    const struct kernels_sequence *sequence;
    size_t kv_head;
    size_t dim;
    const float *k_panels; /* head_whole: all keys, [dim][16 positions] */
    const float *v_panels; /* block by block, [position][16 columns], with ones */
};

/* Dot products of `rows` rows (HEAD_ROWS or 1) with the first `keys` rows in the panels. */
static inline void head_dots(size_t rows, const float *x, size_t stride, size_t dim, size_t keys,
                             const float *panels, float *out)
{
    struct tile tile = {
        .a = x,
        .a_stride = stride,
        .b = panels,
        .panel_stride = dim * 16,
        .k = dim,
        .c = out,
        .c_stride = KERNELS_BLOCK,
        .columns = (keys + 15) / 16 * 16,
    };
    rows == 1 ? strip_one(&tile) : head_full(&tile);
}

/* Scales a row of dot products to scores, up to the next multiple of 16, and returns their maximum. */
static inline float head_scores(size_t keys, float scale, float *s)
{
    const vf factor = v_set1(scale);
    struct lanes max = lanes_of(-INFINITY);
    FOR_LANES(keys, {
        vf a = v_mul(factor, v_load_row(s + at, left, -INFINITY));
        v_store_row(s + at, left, a);
        max.part[part] = v_max(max.part[part], a);
    })
    return lanes_max(&max);
}

static inline void head_exp(size_t keys, float max, float *s)
{
    const vf max_all = v_set1(max);
    for (size_t j = 0; j < keys; j += V_WIDTH) {
        v_store_row(s + j, keys - j, v_exp(v_sub(v_load_row(s + j, keys - j, 0.0F), max_all)));
    }
}

/* Rows at hand: of query head h, from position on. */
struct head_rows {
    const struct head *head;
    size_t h, position;
    size_t rows; /* HEAD_ROWS or 1 */
};

/* What the first of the rows sees of a block; each row sees *out_step positions more. */
static inline size_t head_keys(const struct head_rows *at, size_t block, size_t *out_step)
{
    const bool edge = at->position / KERNELS_BLOCK == block;
    *out_step = edge ? 1 : 0;
    return edge ? at->position % KERNELS_BLOCK + 1 : KERNELS_BLOCK;
}

static inline void head_raise(float found, size_t block, float *max)
{
    *max = block == 0 || !(*max > found) ? found : *max;
}

/* Scores of one block, s[row][KERNELS_BLOCK]; raises max[row]. */
static inline void head_block_scores(const struct head_rows *at, size_t block,
                                     const float *k_panels, float *s, float *max)
{
    const struct head *head = at->head;
    const struct kernels_attention *attention = head->attention;
    size_t step = 0;
    const size_t keys = head_keys(at, block, &step);
    const float *q = head->sequence->q +
                     (at->position - head->sequence->start) * attention->q_stride +
                     at->h * head->dim;
    head_dots(at->rows, q, attention->q_stride, head->dim, keys + step * (at->rows - 1), k_panels,
              s);
    for (size_t r = 0; r < at->rows; r++) {
        head_raise(head_scores(keys + step * r, attention->scale, s + r * KERNELS_BLOCK), block,
                   &max[r]);
    }
}

/* One block's part of a row's outputs and of its softmax sum. */
static inline void head_gather(size_t dim, size_t block, const float *part, float *out, float *sum)
{
    if (block == 0) {
        memcpy(out, part, dim * sizeof *out);
        *sum = part[dim];
    } else {
        rows_add(dim, out, part, out);
        *sum = *sum + part[dim];
    }
}

/* From the scores of one block, which become exponentials, its part of the outputs. */
static inline void head_block_values(const struct head_rows *at, size_t block,
                                     const float *v_panels, size_t block_rows, float *s,
                                     const float *max, float *sum)
{
    const struct head *head = at->head;
    const struct kernels_attention *attention = head->attention;
    const struct kernels_sequence *sequence = head->sequence;
    const size_t dim = head->dim;
    const size_t row = at->position - sequence->start;
    size_t step = 0;
    const size_t keys = head_keys(at, block, &step);
    _Alignas(64) float o[HEAD_ROWS * (KERNELS_HEAD_DIM_MAX + 16)];
    for (size_t r = 0; r < at->rows; r++) {
        head_exp(keys + step * r, max[r], s + r * KERNELS_BLOCK);
    }
    struct tile tile = {
        .a = s,
        .a_stride = KERNELS_BLOCK,
        .b = v_panels,
        .panel_stride = block_rows * 16,
        .k = keys,
        .c = o,
        .c_stride = KERNELS_HEAD_DIM_MAX + 16,
        .columns = (dim + 16) / 16 * 16,
    };
    at->rows == 1 ? strip_one(&tile) : step == 1 ? head_trail(&tile) : head_full(&tile);
    for (size_t r = 0; r < at->rows; r++) {
        float *out = sequence->out + (row + r) * attention->out_stride + at->h * dim;
        head_gather(dim, block, o + r * tile.c_stride, out, &sum[r]);
    }
}

/* One row's outputs once all blocks are in. */
static inline void head_finish(const struct head *head, size_t h, size_t row, float max, float sum)
{
    const struct kernels_sequence *sequence = head->sequence;
    const float inv = 1.0F / sum;
    float *out = sequence->out + row * head->attention->out_stride + h * head->dim;
    rows_scale(head->dim, inv, out, out);
    if (sequence->stats != NULL) {
        float *stats = sequence->stats + (h * sequence->row_count + row) * 2;
        stats[0] = max;
        stats[1] = inv;
    }
}

/* Floats that `rows` values take as panels, ones included. */
static inline size_t head_values_count(size_t rows, size_t dim)
{
    return rows * (dim / 16 + 1) * 16;
}

/* Rows [begin, end) of one query head, all keys and values packed. */
static inline void head_whole(const struct head *head, size_t h, size_t begin, size_t end)
{
    _Alignas(64) float s[HEAD_WHOLE][HEAD_ROWS * KERNELS_BLOCK];
    struct head_rows at = {.head = head, .h = h};
    for (at.position = begin; at.position < end; at.position += at.rows) {
        const size_t last = at.position / KERNELS_BLOCK;
        const bool tall = at.position % HEAD_ROWS == 0 && at.position + HEAD_ROWS <= end;
        float max[HEAD_ROWS];
        float sum[HEAD_ROWS];
        at.rows = tall ? HEAD_ROWS : 1;
        for (size_t block = 0; block <= last; block++) {
            head_block_scores(&at, block, head->k_panels + block * KERNELS_BLOCK * head->dim,
                              s[block], max);
        }
        for (size_t block = 0; block <= last; block++) {
            const size_t key = block * KERNELS_BLOCK;
            const size_t block_rows = end - key < KERNELS_BLOCK ? end - key : KERNELS_BLOCK;
            head_block_values(&at, block, head->v_panels + head_values_count(key, head->dim),
                              block_rows, s[block], max, sum);
        }
        for (size_t r = 0; r < at.rows; r++) {
            head_finish(head, h, at.position - head->sequence->start + r, max[r], sum[r]);
        }
    }
}

/* The same block by block, for a context of any length: maxima in a first pass. */
static inline void head_long(struct head *head, size_t begin, size_t end, float *k_panels,
                             float *v_panels)
{
    _Alignas(64) float s[HEAD_ROWS * KERNELS_BLOCK];
    float max[KERNELS_GROUP_MAX][KERNELS_BLOCK];
    float sum[KERNELS_GROUP_MAX][KERNELS_BLOCK];
    const struct kernels_attention *attention = head->attention;
    const struct kernels_sequence *sequence = head->sequence;
    const size_t group = attention->head_count / attention->kv_head_count;
    const size_t last_block = begin / KERNELS_BLOCK;
    const size_t first = last_block * KERNELS_BLOCK;
    for (int pass = 0; pass < 2; pass++) {
        for (size_t block = 0; block <= last_block; block++) {
            const size_t key = block * KERNELS_BLOCK;
            const size_t offset = key * attention->kv_stride + head->kv_head * head->dim;
            const size_t block_rows = end - key < KERNELS_BLOCK ? end - key : KERNELS_BLOCK;
            head_pack_rows(block_rows, head->dim, sequence->k + offset, attention->kv_stride,
                           k_panels);
            if (pass == 1) {
                head_pack_columns(block_rows, head->dim, sequence->v + offset, attention->kv_stride,
                                  true, v_panels);
            }
            for (size_t g = 0; g < group; g++) {
                struct head_rows at = {.head = head, .h = head->kv_head * group + g};
                for (at.position = begin; at.position < end; at.position += at.rows) {
                    const size_t row = at.position - first;
                    const bool tall =
                        at.position % HEAD_ROWS == 0 && at.position + HEAD_ROWS <= end;
                    float again[HEAD_ROWS]; /* the second pass finds a block's maxima anew */
                    at.rows = tall ? HEAD_ROWS : 1;
                    memcpy(again, &max[g][row], at.rows * sizeof *again);
                    head_block_scores(&at, block, k_panels, s, pass == 0 ? &max[g][row] : again);
                    if (pass == 1) {
                        head_block_values(&at, block, v_panels, block_rows, s, &max[g][row],
                                          &sum[g][row]);
                    }
                }
            }
        }
    }
    for (size_t g = 0; g < group; g++) {
        for (size_t position = begin; position < end; position++) {
            head_finish(head, head->kv_head * group + g, position - sequence->start,
                        max[g][position - first], sum[g][position - first]);
        }
    }
}

/* Scores of one position for `heads` heads from h on: s[head][KERNELS_BLOCK]. */
static inline void head_row_scores(const struct head *head, size_t h, size_t heads, size_t position,
                                   size_t block, float *panels, float *s)
{
    const struct kernels_attention *attention = head->attention;
    const struct kernels_sequence *sequence = head->sequence;
    const size_t key = block * KERNELS_BLOCK;
    const size_t keys = position + 1 - key < KERNELS_BLOCK ? position + 1 - key : KERNELS_BLOCK;
    for (size_t j = 0; j < keys; j += HEAD_FEW) {
        const size_t taken = keys - j < HEAD_FEW ? keys - j : HEAD_FEW;
        const size_t offset = (key + j) * attention->kv_stride + head->kv_head * head->dim;
        head_pack_rows(taken, head->dim, sequence->k + offset, attention->kv_stride, panels);
        const struct tile tile = {
            .a = sequence->q + (position - sequence->start) * attention->q_stride + h * head->dim,
            .a_stride = head->dim,
            .b = panels,
            .panel_stride = head->dim * 16,
            .k = head->dim,
            .c = s + j,
            .c_stride = KERNELS_BLOCK,
            .columns = (taken + 15) / 16 * 16,
        };
        tile_rows(heads, KERNELS_F32, tile);
    }
}

/* One position, `heads` heads from h on: the heads are the rows of the tiles. */
static inline void head_row(const struct head *head, size_t h, size_t heads, size_t position)
{
    _Alignas(64) float panels[HEAD_FEW * (KERNELS_HEAD_DIM_MAX + 16)];
    _Alignas(64) float s[HEAD_GROUP * KERNELS_BLOCK];
    _Alignas(64) float o[HEAD_GROUP * (KERNELS_HEAD_DIM_MAX + 16)];
    float max[HEAD_GROUP];
    float sum[HEAD_GROUP];
    const struct kernels_attention *attention = head->attention;
    const struct kernels_sequence *sequence = head->sequence;
    const size_t dim = head->dim;
    const size_t row = position - sequence->start;
    const size_t last = position / KERNELS_BLOCK;
    for (int pass = last == 0 ? 1 : 0; pass < 2; pass++) {
        for (size_t block = 0; block <= last; block++) {
            const size_t key = block * KERNELS_BLOCK;
            const size_t keys = block == last ? position + 1 - key : KERNELS_BLOCK;
            head_row_scores(head, h, heads, position, block, panels, s);
            for (size_t r = 0; r < heads; r++) {
                const float found = head_scores(keys, attention->scale, s + r * KERNELS_BLOCK);
                if (pass == 0 || last == 0) {
                    head_raise(found, block, &max[r]);
                }
                if (pass == 1) {
                    head_exp(keys, max[r], s + r * KERNELS_BLOCK);
                }
            }
            struct tile tile = {
                .a_stride = KERNELS_BLOCK,
                .b = panels,
                .c = o,
                .c_stride = KERNELS_HEAD_DIM_MAX + 16,
                .columns = (dim + 16) / 16 * 16,
            };
            for (size_t j = 0; j < keys && pass == 1; j += HEAD_FEW) {
                tile.k = keys - j < HEAD_FEW ? keys - j : HEAD_FEW;
                tile.a = s + j;
                tile.panel_stride = tile.k * 16;
                tile.accumulate = j > 0;
                head_pack_columns(tile.k, dim,
                                  sequence->v + (key + j) * attention->kv_stride +
                                      head->kv_head * dim,
                                  attention->kv_stride, true, panels);
                tile_rows(heads, KERNELS_F32, tile);
            }
            for (size_t r = 0; r < heads && pass == 1; r++) {
                head_gather(dim, block, o + r * tile.c_stride,
                            sequence->out + row * attention->out_stride + (h + r) * dim, &sum[r]);
            }
        }
    }
    for (size_t r = 0; r < heads; r++) {
        head_finish(head, h + r, row, max[r], sum[r]);
    }
}

/* Many rows: with memory for packed keys and values, whose pages are touched at each call. */
static __attribute__((noinline)) void head_many(struct head *head, size_t begin, size_t end)
{
    _Alignas(64) float k_panels[KERNELS_HEAD_DIM_MAX * KERNELS_BLOCK];
    _Alignas(64) float v_panels[HEAD_PANELS_COUNT];
    const struct kernels_attention *attention = head->attention;
    const struct kernels_sequence *sequence = head->sequence;
    const size_t dim = head->dim;
    const size_t group = attention->head_count / attention->kv_head_count;
    if (end > HEAD_WHOLE * KERNELS_BLOCK || (end + 15) / 16 * 16 * dim > sizeof k_panels / 4 ||
        head_values_count(end, dim) > HEAD_PANELS_COUNT) {
        head_long(head, begin, end, k_panels, v_panels);
        return;
    }
    head->k_panels = k_panels;
    head->v_panels = v_panels;
    head_pack_rows(end, dim, sequence->k + head->kv_head * dim, attention->kv_stride, k_panels);
    for (size_t key = 0; key < end; key += KERNELS_BLOCK) {
        head_pack_columns(end - key < KERNELS_BLOCK ? end - key : KERNELS_BLOCK, dim,
                          sequence->v + key * attention->kv_stride + head->kv_head * dim,
                          attention->kv_stride, true, v_panels + head_values_count(key, dim));
    }
    for (size_t g = 0; g < group; g++) {
        head_whole(head, head->kv_head * group + g, begin, end);
    }
}

static inline void head_forward(const struct kernels_attention *attention,
                                const struct kernels_sequence *sequence, uint32_t kv_head,
                                size_t last_block)
{
    const size_t group = attention->head_count / attention->kv_head_count;
    const size_t first = last_block * KERNELS_BLOCK;
    const size_t stop = sequence->start + sequence->row_count;
    const size_t begin = first > sequence->start ? first : sequence->start;
    const size_t end = first + KERNELS_BLOCK < stop ? first + KERNELS_BLOCK : stop;
    struct head head = {.attention = attention,
                        .sequence = sequence,
                        .kv_head = kv_head,
                        .dim = attention->head_dim};
    if (end - begin >= HEAD_ROWS) {
        head_many(&head, begin, end);
        return;
    }
    for (size_t position = begin; position < end; position++) {
        for (size_t g = 0; g < group; g += HEAD_GROUP) {
            head_row(&head, kv_head * group + g, group - g < HEAD_GROUP ? group - g : HEAD_GROUP,
                     position);
        }
    }
}

/* What the backward pass holds of one block of keys. */
struct head_backward {
    const struct kernels_attention *attention;
    const struct kernels_sequence *sequence;
    size_t kv_head, dim;
    size_t key;                   /* first position of the block */
    size_t keys;                  /* positions in it */
    const float *k_rows, *v_rows; /* panels [dim][16 positions] */
    const float *k_columns;       /* panels [position][16 columns] */
};

/* P and dS of one row: p holds the dot products q k, ds the dot products dout v. */
static inline void head_backward_row(const struct head_backward *head, size_t h, size_t row,
                                     size_t keys, float *p, float *ds)
{
    const struct kernels_attention *attention = head->attention;
    const struct kernels_sequence *sequence = head->sequence;
    const float *stats = sequence->stats + (h * sequence->row_count + row) * 2;
    const size_t offset = row * attention->out_stride + h * head->dim;
    float dot = 0.0F;
    for (size_t d = 0; d < head->dim; d++) {
        dot = fmaf(sequence->dout[offset + d], sequence->out[offset + d], dot);
    }
    const vf scale = v_set1(attention->scale);
    const vf max = v_set1(stats[0]);
    const vf inv = v_set1(stats[1]);
    const vf dot_all = v_set1(dot);
    FOR_VECTORS(keys, {
        vf s = v_mul(scale, v_load_row(p + at, left, 0.0F));
        vf prob = v_mul(v_exp(v_sub(s, max)), inv);
        vf d = v_sub(v_load_row(ds + at, left, 0.0F), dot_all);
        v_store_row(p + at, left, prob);
        v_store_row(ds + at, left, v_mul(v_mul(prob, d), scale));
    })
}

/* dk += dS^T q, or dv += P^T dout: weights [rows][KERNELS_BLOCK], panels [rows][16 columns] of rows
 * at positions from `position` on. Each key continues its chain in memory. */
static inline void head_backward_keys(const struct head_backward *head, size_t position,
                                      size_t rows, const float *weights, const float *panels,
                                      float *out)
{
    const size_t last = position + rows; /* keys from here on are not seen */
    for (size_t j = 0; j < head->keys && head->key + j < last;) {
        const size_t key = head->key + j;
        const bool tall = j + HEAD_ROWS <= head->keys && key + HEAD_ROWS <= last;
        const size_t skip = key > position ? key - position : 0; /* rows that do not see it */
        struct tile tile = {
            .a = weights + skip * KERNELS_BLOCK + j,
            .a_stride = KERNELS_BLOCK,
            .b = panels + skip * 16,
            .panel_stride = rows * 16,
            .k = rows - skip,
            .c = out + key * head->attention->kv_stride + head->kv_head * head->dim,
            .c_stride = head->attention->kv_stride,
            .columns = head->dim,
            .accumulate = true,
        };
        if (!tall) {
            strip_one_across(&tile);
        } else if (key >= position) {
            head_lead_across(&tile);
        } else {
            head_full_across(&tile);
        }
        j += tall ? HEAD_ROWS : 1;
    }
}

/* Query rows [position, position + rows) of head h against one block of keys. */
static inline void head_backward_step(const struct head_backward *head, size_t h, size_t position,
                                      size_t rows)
{
    const struct kernels_attention *attention = head->attention;
    const struct kernels_sequence *sequence = head->sequence;
    const size_t dim = head->dim;
    const bool edge = position / KERNELS_BLOCK * KERNELS_BLOCK == head->key;
    const float *q = sequence->q + position * attention->q_stride + h * dim;
    const float *dout = sequence->dout + position * attention->out_stride + h * dim;
    _Alignas(64) float p[HEAD_STEP * KERNELS_BLOCK];
    _Alignas(64) float ds[HEAD_STEP * KERNELS_BLOCK];
    _Alignas(64) float panels[HEAD_STEP * KERNELS_HEAD_DIM_MAX];

    for (size_t i = 0; i < rows;) {
        const size_t taken = i + HEAD_ROWS <= rows ? HEAD_ROWS : 1;
        const size_t keys = edge ? position + i - head->key + 1 : head->keys; /* of the first */
        const size_t widest = edge ? keys + taken - 1 : keys;
        float *p_rows = p + i * KERNELS_BLOCK;
        float *ds_rows = ds + i * KERNELS_BLOCK;
        head_dots(taken, q + i * attention->q_stride, attention->q_stride, dim, widest,
                  head->k_rows, p_rows);
        head_dots(taken, dout + i * attention->out_stride, attention->out_stride, dim, widest,
                  head->v_rows, ds_rows);
        for (size_t r = 0; r < taken; r++) {
            head_backward_row(head, h, position + i + r, edge ? keys + r : keys,
                              p_rows + r * KERNELS_BLOCK, ds_rows + r * KERNELS_BLOCK);
        }
        struct tile tile = {
            .a = ds_rows,
            .a_stride = KERNELS_BLOCK,
            .b = head->k_columns,
            .panel_stride = head->keys * 16,
            .k = keys,
            .c = sequence->dq + (position + i) * attention->q_stride + h * dim,
            .c_stride = attention->q_stride,
            .columns = dim,
            .accumulate = head->key > 0,
        };
        taken == 1 ? strip_one(&tile) : edge ? head_trail(&tile) : head_full(&tile);
        i += taken;
    }
    head_pack_columns(rows, dim, q, attention->q_stride, false, panels);
    head_backward_keys(head, position, rows, ds, panels, sequence->dk);
    head_pack_columns(rows, dim, dout, attention->out_stride, false, panels);
    head_backward_keys(head, position, rows, p, panels, sequence->dv);
}

static inline void head_backward_all(const struct kernels_attention *attention,
                                     const struct kernels_sequence *sequence, uint32_t kv_head)
{
    _Alignas(64) float k_rows[KERNELS_HEAD_DIM_MAX * KERNELS_BLOCK];
    _Alignas(64) float v_rows[KERNELS_HEAD_DIM_MAX * KERNELS_BLOCK];
    _Alignas(64) float k_columns[KERNELS_HEAD_DIM_MAX * KERNELS_BLOCK];
    const size_t dim = attention->head_dim;
    const size_t group = attention->head_count / attention->kv_head_count;
    const size_t count = sequence->row_count;

    for (size_t j = 0; j < count; j++) {
        memset(sequence->dk + j * attention->kv_stride + kv_head * dim, 0, dim * sizeof(float));
        memset(sequence->dv + j * attention->kv_stride + kv_head * dim, 0, dim * sizeof(float));
    }
    for (size_t key = 0; key < count; key += KERNELS_BLOCK) {
        const size_t keys = count - key < KERNELS_BLOCK ? count - key : KERNELS_BLOCK;
        const float *k = sequence->k + key * attention->kv_stride + kv_head * dim;
        const float *v = sequence->v + key * attention->kv_stride + kv_head * dim;
        head_pack_rows(keys, dim, k, attention->kv_stride, k_rows);
        head_pack_rows(keys, dim, v, attention->kv_stride, v_rows);
        head_pack_columns(keys, dim, k, attention->kv_stride, false, k_columns);
        const struct head_backward head = {attention, sequence, kv_head, dim,      key,
                                           keys,      k_rows,   v_rows,  k_columns};
        for (size_t g = 0; g < group; g++) {
            for (size_t position = key; position < count; position += HEAD_STEP) {
                const size_t left = count - position;
                head_backward_step(&head, kv_head * group + g, position,
                                   left < HEAD_STEP ? left : HEAD_STEP);
            }
        }
    }
}

/* The products and attention of a backend, for its table. */
#define PRODUCTS_TABLE                                                                             \
    .gemm = products_gemm, .pack = products_pack, .pack16 = products_pack16,                       \
    .quantize = int8_quantize, .attention = head_forward, .attention_backward = head_backward_all
#endif
