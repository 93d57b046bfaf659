/* products.c - matrix products of kernels.h: checks shapes, splits outputs into tasks. */
#include <string.h>

#include "kernels/backend.h"
#include "kernels/split.h"
#include "shared/base/check.h"

#define GEMM_GRAIN 262144 /* least multiply-adds of a product per task */
#define GEMM_PLAIN 256 /* least rows per task that packs B, as far as each worker still has one */
#define GEMM_ROWS 12   /* fewer rows cost as many: reading the weights is what takes the time */

/* How a product of m x n outputs is cut: by columns, each task with weights of its own, or by rows, which
 * reads less of A. A task packs all of what it does not have a part of: B, if it is not packed yet, and an A
 * whose columns are contiguous, which costs about twice as much for each number. */
static bool gemm_by_columns(const struct parallel *parallel, size_t m, size_t n, bool plain,
                            bool across)
{
    const size_t workers = parallel->worker_count;
    const bool less = across ? !plain || n < 2 * m : !plain && m >= 512 * workers; /* by rows */
    return m < GEMM_ROWS || (n >= 96 * workers && (!less || m < 96 * workers));
}

static size_t gemm_columns_least(size_t m, size_t k)
{
    return GEMM_GRAIN / k / (m > GEMM_ROWS ? m : GEMM_ROWS);
}

struct gemm_job {
    const struct kernels *kernels;
    const struct kernels_gemm *gemm;
    struct split split;
    bool by_columns;
};

static void gemm_task(void *argument, uint32_t index)
{
    const struct gemm_job *job = argument;
    struct kernels_range part = split_range(&job->split, index);
    struct kernels_range all = {0, job->by_columns ? job->gemm->m : job->gemm->n};
    if (job->by_columns) {
        job->kernels->gemm(job->gemm, all, part);
    } else {
        job->kernels->gemm(job->gemm, part, all);
    }
}

static bool matrix_ok(const struct kernels_matrix *matrix)
{
    return matrix->data != NULL && (matrix->row_stride == 1 || matrix->column_stride == 1);
}

/* k = 0: chains without a term. */
static void gemm_nothing(float *c, size_t m, size_t n, size_t stride, bool accumulate)
{
    for (size_t i = 0; i < m && !accumulate; i++) {
        memset(c + i * stride, 0, n * sizeof *c);
    }
}

void kernels_gemm(const struct kernels *kernels, const struct parallel *parallel,
                  const struct kernels_gemm *gemm)
{
    if (gemm->m == 0 || gemm->n == 0) {
        return;
    }
    CHECK(gemm->c != NULL);
    CHECK(gemm->c_stride >= gemm->n);
    if (gemm->k == 0) {
        gemm_nothing(gemm->c, gemm->m, gemm->n, gemm->c_stride, gemm->accumulate);
        return;
    }
    CHECK(matrix_ok(&gemm->a));
    CHECK(gemm->packed != NULL || matrix_ok(&gemm->b));
    CHECK(gemm->packed != NULL || gemm->type == KERNELS_F32);
    struct gemm_job job = {.kernels = kernels, .gemm = gemm};
    job.by_columns = gemm_by_columns(parallel, gemm->m, gemm->n, gemm->packed == NULL,
                                     gemm->a.column_stride != 1);
    if (job.by_columns) {
        const size_t panels = gemm->m < GEMM_ROWS ? 1 : 3;
        job.split = split_make(parallel, gemm->n, gemm_columns_least(gemm->m, gemm->k),
                               panels * KERNELS_PANEL);
    } else {
        const size_t share = gemm->m / parallel->worker_count;
        const size_t packed = gemm->packed != NULL ? 0 : share < GEMM_PLAIN ? share : GEMM_PLAIN;
        const size_t least = GEMM_GRAIN / gemm->k / gemm->n;
        job.split = split_make(parallel, gemm->m, least > packed ? least : packed, 24);
    }
    split_run(parallel, &job.split, gemm_task, &job);
}

size_t kernels_packed_count(size_t k, size_t n)
{
    return ceil_div(n, KERNELS_PANEL) * KERNELS_PANEL * k;
}

struct pack_job {
    const struct kernels *kernels;
    size_t k, n;
    struct kernels_matrix b;
    float *packed;
    struct split split;
};

static void pack_task(void *argument, uint32_t index)
{
    const struct pack_job *job = argument;
    job->kernels->pack(job->k, job->n, job->b, split_range(&job->split, index), job->packed);
}

void kernels_pack(const struct kernels *kernels, const struct parallel *parallel, size_t k,
                  size_t n, struct kernels_matrix b, float *out_packed)
{
    struct pack_job job = {.kernels = kernels, .k = k, .n = n, .b = b, .packed = out_packed};
    if (k == 0 || n == 0) {
        return;
    }
    CHECK(matrix_ok(&b));
    job.split = split_make(parallel, ceil_div(n, KERNELS_PANEL), rows_grain(k * KERNELS_PANEL), 1);
    split_run(parallel, &job.split, pack_task, &job);
}

struct pack16_job {
    const struct kernels *kernels;
    size_t k, n;
    struct kernels_matrix16 b;
    uint16_t *packed;
    struct split split;
};

static void pack16_task(void *argument, uint32_t index)
{
    const struct pack16_job *job = argument;
    job->kernels->pack16(job->k, job->n, job->b, split_range(&job->split, index), job->packed);
}

void kernels_pack16(const struct kernels *kernels, const struct parallel *parallel, size_t k,
                    size_t n, struct kernels_matrix16 b, uint16_t *out_packed)
{
    struct pack16_job job = {.kernels = kernels, .k = k, .n = n, .b = b, .packed = out_packed};
    if (k == 0 || n == 0) {
        return;
    }
    CHECK(b.data != NULL && (b.row_stride == 1 || b.column_stride == 1));
    job.split = split_make(parallel, ceil_div(n, KERNELS_PANEL), rows_grain(k * KERNELS_PANEL), 1);
    split_run(parallel, &job.split, pack16_task, &job);
}

/* ---- int8 ------------------------------------------------------------------------------------- */

struct quantize_job {
    const struct kernels *kernels;
    size_t k;
    const float *x;
    size_t stride;
    int8_t *codes;
    float *scales;
    struct split split;
};

static void quantize_task(void *argument, uint32_t index)
{
    const struct quantize_job *job = argument;
    const struct kernels_range rows = split_range(&job->split, index);
    const size_t blocks = kernels_quant_blocks(job->k);
    for (size_t r = rows.begin; r < rows.end; r++) {
        job->kernels->quantize(job->k, job->x + r * job->stride,
                               job->codes + r * blocks * KERNELS_QUANT, job->scales + r * blocks);
    }
}

void kernels_quantize(const struct kernels *kernels, const struct parallel *parallel, size_t rows,
                      size_t k, const float *x, size_t stride, int8_t *out_codes, float *out_scales)
{
    CHECK(stride >= k);
    struct quantize_job job = {.kernels = kernels,
                               .k = k,
                               .x = x,
                               .stride = stride,
                               .codes = out_codes,
                               .scales = out_scales,
                               .split = split_make(parallel, rows, rows_grain(k), 1)};
    split_run(parallel, &job.split, quantize_task, &job);
}

struct pack_int8_job {
    size_t k, n;
    const uint8_t *rows;
    int8_t *codes;
    uint16_t *scales;
    struct split split;
};

static void pack_int8_task(void *argument, uint32_t index)
{
    const struct pack_int8_job *job = argument;
    const struct kernels_range panels = split_range(&job->split, index);
    const size_t blocks = kernels_quant_blocks(job->k);
    for (size_t at = panels.begin * blocks; at < panels.end * blocks; at++) {
        int8_t *codes = job->codes + at * KERNELS_QUANT * KERNELS_PANEL;
        uint16_t *scales = job->scales + at * KERNELS_PANEL;
        for (size_t i = 0; i < KERNELS_PANEL; i++) {
            const size_t row = at / blocks * KERNELS_PANEL + i;
            const uint8_t *block = job->rows + (row * blocks + at % blocks) * KERNELS_Q8_SIZE;
            scales[i] = row < job->n ? (uint16_t)(block[0] | block[1] << 8) : 0;
            for (size_t t = 0; t < KERNELS_QUANT; t++) {
                const uint8_t code = row < job->n ? block[2 + t] : 0;
                memcpy(&codes[t / 4 * 64 + i * 4 + t % 4], &code, 1);
            }
        }
    }
}

size_t kernels_int8_code_count(size_t k, size_t n)
{
    return ceil_div(n, KERNELS_PANEL) * kernels_quant_blocks(k) * KERNELS_PANEL * KERNELS_QUANT;
}

size_t kernels_int8_scale_count(size_t k, size_t n)
{
    return ceil_div(n, KERNELS_PANEL) * kernels_quant_blocks(k) * KERNELS_PANEL;
}

void kernels_pack_int8(const struct parallel *parallel, size_t k, size_t n, const uint8_t *rows,
                       int8_t *out_codes, uint16_t *out_scales)
{
    struct pack_int8_job job = {
        .k = k, .n = n, .rows = rows, .codes = out_codes, .scales = out_scales};
    if (k > 0) {
        job.split =
            split_make(parallel, ceil_div(n, KERNELS_PANEL), rows_grain(k * KERNELS_PANEL), 1);
        split_run(parallel, &job.split, pack_int8_task, &job);
    }
}

struct gemm_int8_job {
    const struct kernels *kernels;
    const struct kernels_gemm_int8 *gemm;
    struct split split;
    bool by_columns;
};

static void gemm_int8_task(void *argument, uint32_t index)
{
    const struct gemm_int8_job *job = argument;
    const struct kernels_range part = split_range(&job->split, index);
    const struct kernels_range all = {0, job->by_columns ? job->gemm->m : job->gemm->n};
    job->kernels->gemm_int8(job->gemm, job->by_columns ? all : part, job->by_columns ? part : all);
}

void kernels_gemm_int8(const struct kernels *kernels, const struct parallel *parallel,
                       const struct kernels_gemm_int8 *gemm)
{
    if (gemm->m == 0 || gemm->n == 0) {
        return;
    }
    CHECK(gemm->c != NULL);
    CHECK(gemm->c_stride >= gemm->n);
    if (gemm->k == 0) {
        gemm_nothing(gemm->c, gemm->m, gemm->n, gemm->c_stride, gemm->accumulate);
        return;
    }
    CHECK(gemm->x_codes != NULL && gemm->x_scales != NULL);
    CHECK(gemm->w_codes != NULL && gemm->w_scales != NULL);
    struct gemm_int8_job job = {.kernels = kernels, .gemm = gemm};
    job.by_columns = gemm_by_columns(parallel, gemm->m, gemm->n, false, false);
    if (job.by_columns) {
        job.split =
            split_make(parallel, gemm->n, gemm_columns_least(gemm->m, gemm->k), KERNELS_PANEL);
    } else {
        job.split = split_make(parallel, gemm->m, GEMM_GRAIN / gemm->k / gemm->n, 32);
    }
    split_run(parallel, &job.split, gemm_int8_task, &job);
}
