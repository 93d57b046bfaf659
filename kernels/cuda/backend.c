/* backend.c - `cuda` in the table of backends: products and attention. Each function copies operands
 * in, runs cuda.h's call, copies results out (stage.h); the rest is in backend_rows.c. */
#include <string.h>

#include "kernels/cuda/stage.h"
#include "shared/base/check.h"

static size_t ceil_div(size_t a, size_t b)
{
    return (a + b - 1) / b;
}

/* ---- products --------------------------------------------------------------------------------- */

/* An r x c part of a matrix of numbers of `size` bytes, whose strides become those on the device. */
static const void *put_matrix(struct cuda *cuda, const void *data, size_t r, size_t c, size_t size,
                              size_t strides[2])
{
    if (strides[1] == 1 && (r == 1 || strides[0] >= c)) {
        const void *device = stage_put(cuda, data, r, c * size, strides[0] * size);
        strides[0] = c;
        return device;
    }
    const void *device = stage_put(cuda, data, c, r * size, strides[1] * size);
    strides[0] = 1;
    strides[1] = r;
    return device;
}

static struct kernels_matrix put_floats(struct cuda *cuda, struct kernels_matrix m, size_t r,
                                        size_t c)
{
    size_t strides[2] = {m.row_stride, m.column_stride};
    const float *data = put_matrix(cuda, m.data, r, c, sizeof(float), strides);
    return (struct kernels_matrix){data, strides[0], strides[1]};
}

static void backend_gemm(const struct kernels_gemm *gemm, struct kernels_range rows,
                         struct kernels_range columns)
{
    struct kernels_gemm part = *gemm;
    part.m = rows.end - rows.begin;
    part.n = columns.end - columns.begin;
    if (part.m == 0 || part.n == 0) {
        return;
    }
    const size_t k = gemm->k;
    const size_t number = gemm->type == KERNELS_F32 ? sizeof(float) : sizeof(uint16_t);
    const size_t padded = ceil_div(part.n, KERNELS_PANEL) * KERNELS_PANEL;
    const char *weights =
        gemm->packed == NULL ? NULL : (const char *)gemm->packed + columns.begin * k * number;
    const void *kept = weights == NULL ? NULL : stage_kept(weights, padded * k * number);
    struct cuda *cuda = stage_begin(
        (part.m * k + (kept == NULL ? padded * k : 0) + part.m * part.n) * sizeof(float));
    part.a.data += rows.begin * part.a.row_stride;
    part.a = put_floats(cuda, part.a, part.m, k);
    if (weights != NULL) {
        part.packed = kept != NULL ? kept : stage_put_flat(cuda, weights, padded * k * number);
    } else {
        part.b.data += columns.begin * part.b.column_stride;
        part.b = put_floats(cuda, part.b, k, part.n);
    }
    float *c = gemm->c + rows.begin * gemm->c_stride + columns.begin;
    const size_t width = part.n * sizeof(float);
    const size_t stride = gemm->c_stride * sizeof(float);
    part.c_stride = part.n;
    part.c = gemm->accumulate ? stage_put(cuda, c, part.m, width, stride)
                              : stage_take(cuda, part.m * width);
    cuda_gemm(cuda, &part);
    stage_fetch(cuda, part.c, c, part.m, width, stride);
    stage_end(cuda);
}

/* Packs the columns of B that the panels hold. */
static void backend_pack(size_t k, size_t n, struct kernels_matrix b, struct kernels_range panels,
                         float *packed)
{
    const size_t first = panels.begin * KERNELS_PANEL;
    const size_t last = panels.end * KERNELS_PANEL;
    const size_t columns = (n < last ? n : last) - first;
    const size_t size = (last - first) * k * sizeof(float);
    struct cuda *cuda = stage_begin(2 * size);
    b.data += first * b.column_stride;
    const struct kernels_matrix part = put_floats(cuda, b, k, columns);
    float *out = stage_take(cuda, size);
    cuda_pack(cuda, k, columns, part, out);
    stage_fetch_flat(cuda, out, packed + first * k, size);
    stage_end(cuda);
}

static void backend_pack16(size_t k, size_t n, struct kernels_matrix16 b,
                           struct kernels_range panels, uint16_t *packed)
{
    const size_t first = panels.begin * KERNELS_PANEL;
    const size_t last = panels.end * KERNELS_PANEL;
    const size_t columns = (n < last ? n : last) - first;
    const size_t size = (last - first) * k * sizeof(uint16_t);
    struct cuda *cuda = stage_begin(2 * size);
    size_t strides[2] = {b.row_stride, b.column_stride};
    const uint16_t *data =
        put_matrix(cuda, b.data + first * b.column_stride, k, columns, sizeof(uint16_t), strides);
    uint16_t *out = stage_take(cuda, size);
    cuda_pack16(cuda, k, columns, (struct kernels_matrix16){data, strides[0], strides[1]}, out);
    stage_fetch_flat(cuda, out, packed + first * k, size);
    stage_end(cuda);
}

static void backend_quantize(size_t k, const float *x, int8_t *codes, float *scales)
{
    const size_t blocks = kernels_quant_blocks(k);
    if (blocks == 0) {
        return;
    }
    struct cuda *cuda = stage_begin(k * sizeof *x + blocks * (KERNELS_QUANT + sizeof *scales));
    const float *x_device = stage_put_flat(cuda, x, k * sizeof *x);
    int8_t *codes_device = stage_take(cuda, blocks * KERNELS_QUANT);
    float *scales_device = stage_take(cuda, blocks * sizeof *scales);
    cuda_quantize(cuda, 1, k, x_device, k, codes_device, scales_device);
    stage_fetch_flat(cuda, codes_device, codes, blocks * KERNELS_QUANT);
    stage_fetch_flat(cuda, scales_device, scales, blocks * sizeof *scales);
    stage_end(cuda);
}

static void backend_gemm_int8(const struct kernels_gemm_int8 *gemm, struct kernels_range rows,
                              struct kernels_range columns)
{
    struct kernels_gemm_int8 part = *gemm;
    part.m = rows.end - rows.begin;
    part.n = columns.end - columns.begin;
    if (part.m == 0 || part.n == 0) {
        return;
    }
    const size_t blocks = kernels_quant_blocks(gemm->k);
    const size_t x_size = part.m * blocks * KERNELS_QUANT;
    const size_t w_size = kernels_int8_code_count(gemm->k, part.n);
    const size_t w_scales_size = kernels_int8_scale_count(gemm->k, part.n) * sizeof(uint16_t);
    const size_t width = part.n * sizeof(float);
    const int8_t *w = gemm->w_codes + columns.begin * blocks * KERNELS_QUANT;
    const uint16_t *w_scales = gemm->w_scales + columns.begin * blocks;
    const int8_t *w_kept = stage_kept(w, w_size);
    const uint16_t *w_scales_kept = stage_kept(w_scales, w_scales_size);
    struct cuda *cuda = stage_begin(x_size + x_size / KERNELS_QUANT * sizeof(float) +
                                    (w_kept == NULL ? w_size : 0) + w_scales_size + part.m * width);
    part.x_codes =
        stage_put_flat(cuda, gemm->x_codes + rows.begin * blocks * KERNELS_QUANT, x_size);
    part.x_scales =
        stage_put_flat(cuda, gemm->x_scales + rows.begin * blocks, part.m * blocks * sizeof(float));
    part.w_codes = w_kept != NULL ? w_kept : stage_put_flat(cuda, w, w_size);
    part.w_scales =
        w_scales_kept != NULL ? w_scales_kept : stage_put_flat(cuda, w_scales, w_scales_size);
    float *c = gemm->c + rows.begin * gemm->c_stride + columns.begin;
    const size_t stride = gemm->c_stride * sizeof(float);
    part.c_stride = part.n;
    part.c = gemm->accumulate ? stage_put(cuda, c, part.m, width, stride)
                              : stage_take(cuda, part.m * width);
    cuda_gemm_int8(cuda, &part);
    stage_fetch(cuda, part.c, c, part.m, width, stride);
    stage_end(cuda);
}

/* ---- attention --------------------------------------------------------------------------------- */

/* One key-value head of one sequence, cut out of its surroundings. */
struct head {
    size_t dim, group;
    size_t first, rows; /* of the sequence */
    size_t positions;
    size_t q_at, out_at, kv_at; /* floats from the sequence's begin */
};

static struct head head_of(const struct kernels_attention *attention,
                           const struct kernels_sequence *sequence, uint32_t kv_head, size_t first,
                           size_t rows)
{
    const size_t dim = attention->head_dim;
    const size_t group = attention->head_count / attention->kv_head_count;
    const size_t at = kv_head * group * dim;
    return (struct head){.dim = dim,
                         .group = group,
                         .first = first,
                         .rows = rows,
                         .positions = sequence->start + first + rows,
                         .q_at = first * attention->q_stride + at,
                         .out_at = first * attention->out_stride + at,
                         .kv_at = kv_head * dim};
}

/* The shape of the cut-out on the device. */
static struct cuda_attention head_shape(const struct kernels_attention *attention,
                                        const struct head *head)
{
    return (struct cuda_attention){
        .shape = {.head_count = (uint32_t)head->group,
                  .kv_head_count = 1,
                  .head_dim = (uint32_t)head->dim,
                  .scale = attention->scale,
                  .q_stride = head->group * head->dim,
                  .kv_stride = head->dim,
                  .out_stride = head->group * head->dim,
                  .sequence_count = 1},
        .row_max = head->rows,
        .position_max = head->positions,
        .page_size = 1,
    };
}

static size_t head_size(const struct head *head)
{
    const size_t rows = head->rows * head->group * (2 * head->dim + 2);
    return (2 * rows + 4 * head->positions * head->dim) * sizeof(float) +
           sizeof(struct cuda_sequence);
}

static void stats_copy(struct cuda *cuda, const struct kernels_sequence *sequence,
                       const struct head *head, uint32_t kv_head, float *device, bool to_device)
{
    float *host = sequence->stats + (kv_head * head->group * sequence->row_count + head->first) * 2;
    const struct cuda_rows rows = stage_rows(head->group, head->rows * 2 * sizeof(float),
                                             sequence->row_count * 2 * sizeof(float));
    if (to_device) {
        cuda_put(cuda, &rows, host, device);
    } else {
        cuda_fetch(cuda, &rows, device, host);
    }
}

static void backend_attention(const struct kernels_attention *attention,
                              const struct kernels_sequence *sequence, uint32_t kv_head,
                              size_t block)
{
    const size_t begins = block * KERNELS_BLOCK;
    const size_t ends = sequence->start + sequence->row_count;
    const size_t first = begins > sequence->start ? begins - sequence->start : 0;
    const size_t last =
        (ends < begins + KERNELS_BLOCK ? ends : begins + KERNELS_BLOCK) - sequence->start;
    const struct head head = head_of(attention, sequence, kv_head, first, last - first);
    struct cuda *cuda = stage_begin(head_size(&head));
    const size_t row = head.group * head.dim * sizeof(float);
    const size_t key = head.dim * sizeof(float);
    const size_t kv_stride = attention->kv_stride * sizeof(float);
    const struct cuda_sequence part = {
        .rows = {.row_count = head.rows,
                 .start = sequence->start + first,
                 .q = stage_put(cuda, sequence->q + head.q_at, head.rows, row,
                                attention->q_stride * sizeof(float)),
                 .k = stage_put(cuda, sequence->k + head.kv_at, head.positions, key, kv_stride),
                 .v = stage_put(cuda, sequence->v + head.kv_at, head.positions, key, kv_stride),
                 .out = stage_take(cuda, head.rows * row),
                 .stats = stage_take(cuda, head.rows * head.group * 2 * sizeof(float))}};
    struct cuda_attention shape = head_shape(attention, &head);
    shape.sequences = stage_put_flat(cuda, &part, sizeof part);
    cuda_attention(cuda, &shape);
    stage_fetch(cuda, part.rows.out, sequence->out + head.out_at, head.rows, row,
                attention->out_stride * sizeof(float));
    if (sequence->stats != NULL) {
        stats_copy(cuda, sequence, &head, kv_head, part.rows.stats, false);
    }
    stage_end(cuda);
}

static void backend_attention_backward(const struct kernels_attention *attention,
                                       const struct kernels_sequence *sequence, uint32_t kv_head)
{
    const struct head head = head_of(attention, sequence, kv_head, 0, sequence->row_count);
    if (head.rows == 0) {
        return;
    }
    struct cuda *cuda = stage_begin(head_size(&head));
    const size_t row = head.group * head.dim * sizeof(float);
    const size_t key = head.dim * sizeof(float);
    const size_t q_stride = attention->q_stride * sizeof(float);
    const size_t kv_stride = attention->kv_stride * sizeof(float);
    const size_t out_stride = attention->out_stride * sizeof(float);
    const struct cuda_sequence part = {
        .rows = {.row_count = head.rows,
                 .q = stage_put(cuda, sequence->q + head.q_at, head.rows, row, q_stride),
                 .k = stage_put(cuda, sequence->k + head.kv_at, head.rows, key, kv_stride),
                 .v = stage_put(cuda, sequence->v + head.kv_at, head.rows, key, kv_stride),
                 .out = stage_put(cuda, sequence->out + head.out_at, head.rows, row, out_stride),
                 .dout = stage_put(cuda, sequence->dout + head.out_at, head.rows, row, out_stride),
                 .stats = stage_take(cuda, head.rows * head.group * 2 * sizeof(float)),
                 .dq = stage_take(cuda, head.rows * row),
                 .dk = stage_take(cuda, head.rows * key),
                 .dv = stage_take(cuda, head.rows * key)}};
    stats_copy(cuda, sequence, &head, kv_head, part.rows.stats, true);
    struct cuda_attention shape = head_shape(attention, &head);
    shape.sequences = stage_put_flat(cuda, &part, sizeof part);
    cuda_attention_backward(cuda, &shape);
    stage_fetch(cuda, part.rows.dq, sequence->dq + head.q_at, head.rows, row, q_stride);
    stage_fetch(cuda, part.rows.dk, sequence->dk + head.kv_at, head.rows, key, kv_stride);
    stage_fetch(cuda, part.rows.dv, sequence->dv + head.kv_at, head.rows, key, kv_stride);
    stage_end(cuda);
}

static bool supported(void)
{
    return cuda_available(NULL);
}

static void explain(struct note *note)
{
    const bool available = cuda_available(note);
    (void)available; /* just found to be false */
}

const struct kernels kernels_cuda = {.name = "cuda",
                                     .supported = supported,
                                     .explain = explain,
                                     .keep = stage_keep,
                                     .forget = stage_forget,
                                     .gemm = backend_gemm,
                                     .pack = backend_pack,
                                     .pack16 = backend_pack16,
                                     .quantize = backend_quantize,
                                     .gemm_int8 = backend_gemm_int8,
                                     .attention = backend_attention,
                                     .attention_backward = backend_attention_backward,
                                     STAGE_ROWS_TABLE};
