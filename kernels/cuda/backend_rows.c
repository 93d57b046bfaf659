/* backend_rows.c - the `cuda` backend's norms, losses, elementwise maps, optimiser and checks. */
#include "kernels/cuda/stage.h"

#define NUMBER sizeof(float)

void stage_rmsnorm(struct kernels_range rows, size_t width, float eps, const float *x,
                   const float *weight, float *y, float *inv)
{
    const size_t count = rows.end - rows.begin;
    const size_t size = count * width * NUMBER;
    struct cuda *cuda = stage_begin(2 * size + (width + count) * NUMBER);
    const struct cuda_rmsnorm args = {
        .rows = count,
        .width = width,
        .eps = eps,
        .x = stage_put_flat(cuda, x + rows.begin * width, size),
        .weight = stage_put_flat(cuda, weight, width * NUMBER),
        .y = stage_take(cuda, size),
        .inv = stage_take(cuda, count * NUMBER),
    };
    cuda_rmsnorm(cuda, &args);
    stage_fetch_flat(cuda, args.y, y + rows.begin * width, size);
    if (inv != NULL) {
        stage_fetch_flat(cuda, args.inv, inv + rows.begin, count * NUMBER);
    }
    stage_end(cuda);
}

void stage_rmsnorm_dx(const struct kernels_rmsnorm_backward *args, struct kernels_range rows)
{
    struct kernels_rmsnorm_backward part = *args;
    part.rows = rows.end - rows.begin;
    const size_t at = rows.begin * args->width;
    const size_t size = part.rows * args->width * NUMBER;
    struct cuda *cuda = stage_begin(3 * size + (args->width + part.rows) * NUMBER);
    part.x = stage_put_flat(cuda, args->x + at, size);
    part.weight = stage_put_flat(cuda, args->weight, args->width * NUMBER);
    part.inv = stage_put_flat(cuda, args->inv + rows.begin, part.rows * NUMBER);
    part.dy = stage_put_flat(cuda, args->dy + at, size);
    part.dx = args->accumulate ? stage_put_flat(cuda, args->dx + at, size) : stage_take(cuda, size);
    cuda_rmsnorm_dx(cuda, &part);
    stage_fetch_flat(cuda, part.dx, args->dx + at, size);
    stage_end(cuda);
}

void stage_rmsnorm_dweight(const struct kernels_rmsnorm_backward *args,
                           struct kernels_range columns)
{
    struct kernels_rmsnorm_backward part = *args;
    part.width = columns.end - columns.begin;
    const size_t width = part.width * NUMBER;
    const size_t stride = args->width * NUMBER;
    struct cuda *cuda = stage_begin((2 * args->rows + 1) * width + args->rows * NUMBER);
    part.x = stage_put(cuda, args->x + columns.begin, args->rows, width, stride);
    part.dy = stage_put(cuda, args->dy + columns.begin, args->rows, width, stride);
    part.inv = stage_put_flat(cuda, args->inv, args->rows * NUMBER);
    part.dweight = stage_put_flat(cuda, args->dweight + columns.begin, width);
    cuda_rmsnorm_dweight(cuda, &part);
    stage_fetch_flat(cuda, part.dweight, args->dweight + columns.begin, width);
    stage_end(cuda);
}

void stage_rope(const struct kernels_rope *args, struct kernels_range rows)
{
    struct kernels_rope part = *args;
    part.rows = rows.end - rows.begin;
    part.stride = (size_t)args->head_count * args->head_dim;
    size_t positions = 0;
    for (size_t r = rows.begin; r < rows.end; r++) {
        positions = args->positions[r] >= positions ? args->positions[r] + 1 : positions;
    }
    const size_t width = part.stride * NUMBER;
    const size_t table = positions * (args->head_dim / 2) * NUMBER;
    struct cuda *cuda = stage_begin(part.rows * (width + sizeof(uint32_t)) + 2 * table);
    float *x = args->x + rows.begin * args->stride;
    part.x = stage_put(cuda, x, part.rows, width, args->stride * NUMBER);
    part.positions =
        stage_put_flat(cuda, args->positions + rows.begin, part.rows * sizeof(uint32_t));
    part.cos = stage_put_flat(cuda, args->cos, table);
    part.sin = stage_put_flat(cuda, args->sin, table);
    cuda_rope(cuda, &part);
    stage_fetch(cuda, part.x, x, part.rows, width, args->stride * NUMBER);
    stage_end(cuda);
}

void stage_cross_entropy(const struct kernels_cross_entropy *args, struct kernels_range rows)
{
    struct kernels_cross_entropy part = *args;
    part.rows = rows.end - rows.begin;
    part.stride = args->vocab;
    const size_t width = args->vocab * NUMBER;
    const size_t at = rows.begin * args->stride;
    struct cuda *cuda = stage_begin(part.rows * (width + 3 * NUMBER));
    float *logits = stage_put(cuda, args->logits + at, part.rows, width, args->stride * NUMBER);
    part.logits = logits;
    part.targets = stage_put_flat(cuda, args->targets + rows.begin, part.rows * sizeof(int32_t));
    if (args->weights != NULL) {
        part.weights = stage_put_flat(cuda, args->weights + rows.begin, part.rows * NUMBER);
    }
    part.out_loss = stage_take(cuda, part.rows * NUMBER);
    part.out_dlogits = args->out_dlogits == NULL ? NULL : logits; /* in place there */
    cuda_cross_entropy(cuda, &part);
    stage_fetch_flat(cuda, part.out_loss, args->out_loss + rows.begin, part.rows * NUMBER);
    if (args->out_dlogits != NULL) {
        stage_fetch(cuda, logits, args->out_dlogits + at, part.rows, width, args->stride * NUMBER);
    }
    stage_end(cuda);
}

/* ---- elementwise ------------------------------------------------------------------------------ */

void stage_swiglu(size_t count, const float *gate, const float *up, float *out)
{
    struct cuda *cuda = stage_begin(2 * count * NUMBER);
    float *first = stage_put_flat(cuda, gate, count * NUMBER);
    const float *second = stage_put_flat(cuda, up, count * NUMBER);
    cuda_map(cuda, CUDA_SWIGLU,
             &(struct cuda_map_args){.count = count, .in = {first, second}, .out = {first}});
    stage_fetch_flat(cuda, first, out, count * NUMBER);
    stage_end(cuda);
}

void stage_swiglu_backward(size_t count, const float *gate, const float *up, const float *dy,
                           float *dgate, float *dup)
{
    struct cuda *cuda = stage_begin(3 * count * NUMBER);
    float *first = stage_put_flat(cuda, gate, count * NUMBER);
    float *second = stage_put_flat(cuda, up, count * NUMBER);
    const float *third = stage_put_flat(cuda, dy, count * NUMBER);
    cuda_map(cuda, CUDA_SWIGLU_BACKWARD,
             &(struct cuda_map_args){
                 .count = count, .in = {first, second, third}, .out = {first, second}});
    stage_fetch_flat(cuda, first, dgate, count * NUMBER);
    stage_fetch_flat(cuda, second, dup, count * NUMBER);
    stage_end(cuda);
}

void stage_add(size_t count, const float *a, const float *b, float *out)
{
    struct cuda *cuda = stage_begin(2 * count * NUMBER);
    float *first = stage_put_flat(cuda, a, count * NUMBER);
    const float *second = stage_put_flat(cuda, b, count * NUMBER);
    cuda_map(cuda, CUDA_ADD,
             &(struct cuda_map_args){.count = count, .in = {first, second}, .out = {first}});
    stage_fetch_flat(cuda, first, out, count * NUMBER);
    stage_end(cuda);
}

void stage_scale(size_t count, float scale, const float *x, float *out)
{
    struct cuda *cuda = stage_begin(count * NUMBER);
    float *first = stage_put_flat(cuda, x, count * NUMBER);
    cuda_map(
        cuda, CUDA_SCALE,
        &(struct cuda_map_args){.count = count, .scale = scale, .in = {first}, .out = {first}});
    stage_fetch_flat(cuda, first, out, count * NUMBER);
    stage_end(cuda);
}

void stage_axpy(size_t count, float scale, const float *x, float *y)
{
    struct cuda *cuda = stage_begin(2 * count * NUMBER);
    const float *first = stage_put_flat(cuda, x, count * NUMBER);
    float *second = stage_put_flat(cuda, y, count * NUMBER);
    cuda_map(
        cuda, CUDA_AXPY,
        &(struct cuda_map_args){.count = count, .scale = scale, .in = {first}, .out = {second}});
    stage_fetch_flat(cuda, second, y, count * NUMBER);
    stage_end(cuda);
}

void stage_exp(size_t count, const float *x, float *out)
{
    struct cuda *cuda = stage_begin(count * NUMBER);
    float *first = stage_put_flat(cuda, x, count * NUMBER);
    cuda_map(cuda, CUDA_EXP,
             &(struct cuda_map_args){.count = count, .in = {first}, .out = {first}});
    stage_fetch_flat(cuda, first, out, count * NUMBER);
    stage_end(cuda);
}

/* ---- optimiser and checks ------------------------------------------------------------------------ */

void stage_adamw(const struct kernels_adamw *args, const struct kernels_adamw_factors *factors,
                 struct kernels_range range)
{
    struct kernels_adamw part = *args;
    part.count = range.end - range.begin;
    const size_t size = part.count * NUMBER;
    struct cuda *cuda = stage_begin(4 * size);
    part.weight = stage_put_flat(cuda, args->weight + range.begin, size);
    part.grad = stage_put_flat(cuda, args->grad + range.begin, size);
    part.m = stage_put_flat(cuda, args->m + range.begin, size);
    part.v = stage_put_flat(cuda, args->v + range.begin, size);
    cuda_adamw(cuda, &part, factors);
    stage_fetch_flat(cuda, part.weight, args->weight + range.begin, size);
    stage_fetch_flat(cuda, part.m, args->m + range.begin, size);
    stage_fetch_flat(cuda, part.v, args->v + range.begin, size);
    stage_end(cuda);
}

static float reduce(enum cuda_reduction what, size_t count, const float *x)
{
    struct cuda *cuda = stage_begin((count + 1) * NUMBER);
    const float *device = stage_put_flat(cuda, x, count * NUMBER);
    float *out = stage_take(cuda, NUMBER);
    float result = 0.0F;
    cuda_lanes(cuda, what, count, count > 0 ? count : 1, device, out);
    stage_fetch_flat(cuda, out, &result, NUMBER);
    stage_end(cuda);
    return result;
}

float stage_sum(size_t count, const float *x)
{
    return reduce(CUDA_SUM, count, x);
}

float stage_sum_squares(size_t count, const float *x)
{
    return reduce(CUDA_SUM_SQUARES, count, x);
}

float stage_max(size_t count, const float *x)
{
    return reduce(CUDA_MAX, count, x);
}

bool stage_all_finite(size_t count, const float *x)
{
    struct cuda *cuda = stage_begin((count + 1) * NUMBER);
    const float *device = stage_put_flat(cuda, x, count * NUMBER);
    uint32_t *out = stage_take(cuda, sizeof *out);
    uint32_t result = 0;
    cuda_all_finite(cuda, count, device, out);
    stage_fetch_flat(cuda, out, &result, sizeof result);
    stage_end(cuda);
    return result != 0;
}
