/* kernels.c - the calls of kernels.h: checks shapes, splits outputs into tasks, runs the backend.
 *
 * Products are in products.c. */
#include "kernels/kernels.h"

#include <math.h>
#include <string.h>

#include "kernels/backend.h"
#include "kernels/split.h"
#include "shared/base/check.h"

const char *kernels_name(const struct kernels *kernels)
{
    return kernels->name;
}

enum err kernels_keep(const struct kernels *kernels, const void *data, size_t size,
                      struct note *note)
{
    return kernels->keep == NULL || size == 0 ? ERR_OK : kernels->keep(data, size, note);
}

void kernels_forget(const struct kernels *kernels, const void *data)
{
    if (kernels->forget != NULL && data != NULL) {
        kernels->forget(data);
    }
}

/* ---- attention ---------------------------------------------------------------------------- */

struct attention_job {
    const struct kernels *kernels;
    const struct kernels_attention *attention;
    size_t blocks; /* of the longest sequence */
};

static void attention_check(const struct kernels_attention *attention)
{
    CHECK(attention->kv_head_count > 0);
    CHECK(attention->head_count % attention->kv_head_count == 0);
    CHECK(attention->head_count / attention->kv_head_count <= KERNELS_GROUP_MAX);
    CHECK(attention->head_dim > 0);
    CHECK(attention->head_dim <= KERNELS_HEAD_DIM_MAX);
    CHECK(attention->q_stride >= (size_t)attention->head_count * attention->head_dim);
    CHECK(attention->out_stride >= (size_t)attention->head_count * attention->head_dim);
    CHECK(attention->kv_stride >= (size_t)attention->kv_head_count * attention->head_dim);
}

static void attention_task(void *argument, uint32_t index)
{
    const struct attention_job *job = argument;
    const uint32_t kv_heads = job->attention->kv_head_count;
    const size_t item = index / kv_heads;
    const struct kernels_sequence *sequence = &job->attention->sequences[item / job->blocks];
    const size_t block = job->blocks - 1 - item % job->blocks; /* the longest first */
    const size_t end = sequence->start + sequence->row_count;
    if (sequence->row_count > 0 && block >= sequence->start / KERNELS_BLOCK &&
        block * KERNELS_BLOCK < end) {
        job->kernels->attention(job->attention, sequence, index % kv_heads, block);
    }
}

void kernels_attention(const struct kernels *kernels, const struct parallel *parallel,
                       const struct kernels_attention *attention)
{
    struct attention_job job = {.kernels = kernels, .attention = attention};
    attention_check(attention);
    for (size_t i = 0; i < attention->sequence_count; i++) {
        const struct kernels_sequence *sequence = &attention->sequences[i];
        size_t blocks = ceil_div(sequence->start + sequence->row_count, KERNELS_BLOCK);
        job.blocks = blocks > job.blocks ? blocks : job.blocks;
    }
    struct split split = {attention->sequence_count * job.blocks * attention->kv_head_count, 1};
    split_run(parallel, &split, attention_task, &job);
}

static void attention_backward_task(void *argument, uint32_t index)
{
    const struct attention_job *job = argument;
    const uint32_t kv_heads = job->attention->kv_head_count;
    job->kernels->attention_backward(job->attention, &job->attention->sequences[index / kv_heads],
                                     index % kv_heads);
}

void kernels_attention_backward(const struct kernels *kernels, const struct parallel *parallel,
                                const struct kernels_attention *attention)
{
    struct attention_job job = {.kernels = kernels, .attention = attention};
    attention_check(attention);
    for (size_t i = 0; i < attention->sequence_count; i++) {
        CHECK(attention->sequences[i].start == 0);
        CHECK(attention->sequences[i].stats != NULL);
    }
    struct split split = {attention->sequence_count * attention->kv_head_count, 1};
    split_run(parallel, &split, attention_backward_task, &job);
}

/* ---- rows ----------------------------------------------------------------------------------- */

/* One shape fits all row and elementwise calls: what to run on a range, and its arguments. */
struct row_job {
    const struct kernels *kernels;
    struct split split;
    size_t width;
    float number;
    const float *in[3];
    float *out[2];
    const uint32_t *ids;
    const void *args;
};

static void rmsnorm_task(void *argument, uint32_t index)
{
    const struct row_job *job = argument;
    job->kernels->rmsnorm(split_range(&job->split, index), job->width, job->number, job->in[0],
                          job->in[1], job->out[0], job->out[1]);
}

void kernels_rmsnorm(const struct kernels *kernels, const struct parallel *parallel, size_t rows,
                     size_t width, float eps, const float *x, const float *weight, float *out_y,
                     float *out_inv)
{
    struct row_job job = {.kernels = kernels,
                          .split = split_make(parallel, rows, rows_grain(width), 1),
                          .width = width,
                          .number = eps,
                          .in = {x, weight},
                          .out = {out_y, out_inv}};
    split_run(parallel, &job.split, rmsnorm_task, &job);
}

static void rmsnorm_dx_task(void *argument, uint32_t index)
{
    const struct row_job *job = argument;
    job->kernels->rmsnorm_dx(job->args, split_range(&job->split, index));
}

static void rmsnorm_dweight_task(void *argument, uint32_t index)
{
    const struct row_job *job = argument;
    job->kernels->rmsnorm_dweight(job->args, split_range(&job->split, index));
}

void kernels_rmsnorm_backward(const struct kernels *kernels, const struct parallel *parallel,
                              const struct kernels_rmsnorm_backward *args)
{
    struct row_job job = {.kernels = kernels, .args = args};
    if (args->dweight != NULL) {
        job.split = split_make(parallel, args->width, rows_grain(args->rows), KERNELS_PANEL);
        split_run(parallel, &job.split, rmsnorm_dweight_task, &job);
    }
    if (args->dx != NULL) {
        job.split = split_make(parallel, args->rows, rows_grain(args->width), 1);
        split_run(parallel, &job.split, rmsnorm_dx_task, &job);
    }
}

static void rope_task(void *argument, uint32_t index)
{
    const struct row_job *job = argument;
    job->kernels->rope(job->args, split_range(&job->split, index));
}

void kernels_rope(const struct kernels *kernels, const struct parallel *parallel,
                  const struct kernels_rope *args)
{
    CHECK(args->head_dim % 2 == 0);
    CHECK(args->stride >= (size_t)args->head_count * args->head_dim);
    struct row_job job = {.kernels = kernels, .args = args};
    job.split = split_make(parallel, args->rows, rows_grain(args->stride), 1);
    split_run(parallel, &job.split, rope_task, &job);
}

static void cross_entropy_task(void *argument, uint32_t index)
{
    const struct row_job *job = argument;
    job->kernels->cross_entropy(job->args, split_range(&job->split, index));
}

void kernels_cross_entropy(const struct kernels *kernels, const struct parallel *parallel,
                           const struct kernels_cross_entropy *args)
{
    CHECK(args->stride >= args->vocab);
    for (size_t r = 0; r < args->rows; r++) {
        CHECK(args->targets[r] < 0 || (size_t)args->targets[r] < args->vocab);
    }
    struct row_job job = {.kernels = kernels, .args = args};
    job.split = split_make(parallel, args->rows, rows_grain(args->vocab), 1);
    split_run(parallel, &job.split, cross_entropy_task, &job);
}

static void embed_task(void *argument, uint32_t index)
{
    const struct row_job *job = argument;
    struct kernels_range rows = split_range(&job->split, index);
    for (size_t r = rows.begin; r < rows.end; r++) {
        memcpy(job->out[0] + r * job->width, job->in[0] + job->ids[r] * job->width,
               job->width * sizeof(float));
    }
}

void kernels_embed(const struct kernels *kernels, const struct parallel *parallel, size_t rows,
                   size_t width, const float *table, const uint32_t *ids, float *out)
{
    struct row_job job = {.kernels = kernels,
                          .split = split_make(parallel, rows, rows_grain(width), 1),
                          .width = width,
                          .in = {table},
                          .out = {out},
                          .ids = ids};
    split_run(parallel, &job.split, embed_task, &job);
}

struct embed_backward_job {
    struct row_job row;
    size_t rows;
};

static void embed_backward_task(void *argument, uint32_t index)
{
    const struct embed_backward_job *job = argument;
    struct kernels_range columns = split_range(&job->row.split, index);
    const size_t width = job->row.width;
    for (size_t r = 0; r < job->rows; r++) {
        float *sum = job->row.out[0] + job->row.ids[r] * width + columns.begin;
        job->row.kernels->add(columns.end - columns.begin, sum,
                              job->row.in[0] + r * width + columns.begin, sum);
    }
}

void kernels_embed_backward(const struct kernels *kernels, const struct parallel *parallel,
                            size_t rows, size_t width, const uint32_t *ids, const float *dy,
                            float *dtable)
{
    struct embed_backward_job job = {
        .row = {.kernels = kernels,
                .split = split_make(parallel, width, rows_grain(rows), KERNELS_PANEL),
                .width = width,
                .in = {dy},
                .out = {dtable},
                .ids = ids},
        .rows = rows};
    split_run(parallel, &job.row.split, embed_backward_task, &job);
}

/* ---- elementwise ------------------------------------------------------------------------------ */

static void map_run(const struct parallel *parallel, size_t count,
                    void (*task)(void *argument, uint32_t index), struct row_job job)
{
    job.split = split_make(parallel, count, GRAIN, KERNELS_PANEL);
    split_run(parallel, &job.split, task, &job);
}

static void swiglu_task(void *argument, uint32_t index)
{
    const struct row_job *job = argument;
    struct kernels_range part = split_range(&job->split, index);
    job->kernels->swiglu(part.end - part.begin, job->in[0] + part.begin, job->in[1] + part.begin,
                         job->out[0] + part.begin);
}

void kernels_swiglu(const struct kernels *kernels, const struct parallel *parallel, size_t count,
                    const float *gate, const float *up, float *out)
{
    map_run(parallel, count, swiglu_task,
            (struct row_job){.kernels = kernels, .in = {gate, up}, .out = {out}});
}

static void swiglu_backward_task(void *argument, uint32_t index)
{
    const struct row_job *job = argument;
    struct kernels_range part = split_range(&job->split, index);
    const size_t at = part.begin;
    job->kernels->swiglu_backward(part.end - at, job->in[0] + at, job->in[1] + at, job->in[2] + at,
                                  job->out[0] + at, job->out[1] + at);
}

void kernels_swiglu_backward(const struct kernels *kernels, const struct parallel *parallel,
                             size_t count, const float *gate, const float *up, const float *dy,
                             float *out_dgate, float *out_dup)
{
    map_run(
        parallel, count, swiglu_backward_task,
        (struct row_job){.kernels = kernels, .in = {gate, up, dy}, .out = {out_dgate, out_dup}});
}

static void add_task(void *argument, uint32_t index)
{
    const struct row_job *job = argument;
    struct kernels_range part = split_range(&job->split, index);
    job->kernels->add(part.end - part.begin, job->in[0] + part.begin, job->in[1] + part.begin,
                      job->out[0] + part.begin);
}

void kernels_add(const struct kernels *kernels, const struct parallel *parallel, size_t count,
                 const float *a, const float *b, float *out)
{
    map_run(parallel, count, add_task,
            (struct row_job){.kernels = kernels, .in = {a, b}, .out = {out}});
}

static void scale_task(void *argument, uint32_t index)
{
    const struct row_job *job = argument;
    struct kernels_range part = split_range(&job->split, index);
    job->kernels->scale(part.end - part.begin, job->number, job->in[0] + part.begin,
                        job->out[0] + part.begin);
}

void kernels_scale(const struct kernels *kernels, const struct parallel *parallel, size_t count,
                   float scale, const float *x, float *out)
{
    map_run(parallel, count, scale_task,
            (struct row_job){.kernels = kernels, .number = scale, .in = {x}, .out = {out}});
}

static void axpy_task(void *argument, uint32_t index)
{
    const struct row_job *job = argument;
    struct kernels_range part = split_range(&job->split, index);
    job->kernels->axpy(part.end - part.begin, job->number, job->in[0] + part.begin,
                       job->out[0] + part.begin);
}

void kernels_axpy(const struct kernels *kernels, const struct parallel *parallel, size_t count,
                  float scale, const float *x, float *y)
{
    map_run(parallel, count, axpy_task,
            (struct row_job){.kernels = kernels, .number = scale, .in = {x}, .out = {y}});
}

static void exp_task(void *argument, uint32_t index)
{
    const struct row_job *job = argument;
    struct kernels_range part = split_range(&job->split, index);
    job->kernels->exp(part.end - part.begin, job->in[0] + part.begin, job->out[0] + part.begin);
}

void kernels_exp(const struct kernels *kernels, const struct parallel *parallel, size_t count,
                 const float *x, float *out)
{
    map_run(parallel, count, exp_task,
            (struct row_job){.kernels = kernels, .in = {x}, .out = {out}});
}

/* ---- optimiser and checks ------------------------------------------------------------------ */

/* base^exponent by squaring: a fixed sequence of double products. */
static double power(double base, uint64_t exponent)
{
    double result = 1.0;
    for (; exponent > 0; exponent >>= 1) {
        if (exponent & 1) {
            result *= base;
        }
        base *= base;
    }
    return result;
}

struct adamw_job {
    const struct kernels *kernels;
    const struct kernels_adamw *args;
    struct kernels_adamw_factors factors;
    struct split split;
};

static void adamw_task(void *argument, uint32_t index)
{
    const struct adamw_job *job = argument;
    job->kernels->adamw(job->args, &job->factors, split_range(&job->split, index));
}

void kernels_adamw(const struct kernels *kernels, const struct parallel *parallel,
                   const struct kernels_adamw *args)
{
    CHECK(args->step > 0);
    const double c1 = 1.0 - power((double)args->beta1, args->step);
    const double c2 = 1.0 - power((double)args->beta2, args->step);
    struct adamw_job job = {
        .kernels = kernels,
        .args = args,
        .factors = {.decay = 1.0F - args->rate * args->weight_decay,
                    .rate = (float)-((double)args->rate / c1),
                    .root = (float)sqrt(c2),
                    .gain1 = 1.0F - args->beta1,
                    .gain2 = 1.0F - args->beta2},
        .split = split_make(parallel, args->count, GRAIN, KERNELS_PANEL),
    };
    split_run(parallel, &job.split, adamw_task, &job);
}

double kernels_sum_squares(const struct kernels *kernels, size_t count, const float *x)
{
    double sum = 0.0;
    for (size_t at = 0; at < count; at += KERNELS_SUM_BLOCK) {
        size_t left = count - at;
        sum += (double)kernels->sum_squares(left < KERNELS_SUM_BLOCK ? left : KERNELS_SUM_BLOCK,
                                            x + at);
    }
    return sum;
}

float kernels_clip_scale(double sum_squares, double limit)
{
    double norm = sqrt(sum_squares);
    return norm > limit ? (float)(limit / norm) : 1.0F;
}

float kernels_sum(const struct kernels *kernels, size_t count, const float *x)
{
    return kernels->sum(count, x);
}

float kernels_max(const struct kernels *kernels, size_t count, const float *x)
{
    return kernels->max(count, x);
}

bool kernels_all_finite(const struct kernels *kernels, size_t count, const float *x)
{
    return kernels->all_finite(count, x);
}
