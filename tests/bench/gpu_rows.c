/* gpu_rows.c - bench_gpu's attention, norms, rotary positions, losses, optimiser; and the shapes. */
#include <stdlib.h>

#include "kernels/backend.h"
#include "tests/bench/gpu_bench.h"

const struct gpu_shape gpu_shape_large = {.hidden = 4096,
                                          .ffn = 14336,
                                          .vocab = 32768,
                                          .head_count = 32,
                                          .kv_head_count = 8,
                                          .head_dim = 128,
                                          .prompt_rows = 2048,
                                          .sequences = 16,
                                          .positions = 4096,
                                          .page_size = 16,
                                          .rank_max = 64,
                                          .parameters = (size_t)1 << 26,
                                          .copy_count = (size_t)1 << 27,
                                          .rounds = 4096,
                                          .arena_size = (size_t)3 << 30,
                                          .scratch_size = (size_t)256 << 20};

const struct gpu_shape gpu_shape_tiny = {.hidden = 72,
                                         .ffn = 104,
                                         .vocab = 90,
                                         .head_count = 4,
                                         .kv_head_count = 2,
                                         .head_dim = 12,
                                         .prompt_rows = 11,
                                         .sequences = 2,
                                         .positions = 40,
                                         .page_size = 16,
                                         .rank_max = 8,
                                         .parameters = 300,
                                         .copy_count = 1024,
                                         .rounds = 1,
                                         .arena_size = (size_t)1 << 20,
                                         .scratch_size = (size_t)1 << 20};

static float *take(struct gpu_bench *bench, size_t count)
{
    return cuda_take(bench->cuda, count * sizeof(float));
}

/* data must stay as it is until the next sync. */
static void *put(struct gpu_bench *bench, const void *data, size_t size)
{
    void *there = cuda_take(bench->cuda, size);
    if (there != NULL) {
        cuda_put(bench->cuda, &(struct cuda_rows){1, size, size, size}, data, there);
    }
    return there;
}

static enum err bytes_measure(struct gpu_bench *bench, const char *name, size_t floats,
                              void (*queue)(struct cuda *cuda, void *argument), void *argument,
                              struct note *note)
{
    const struct gpu_case what = {.name = name,
                                  .limit = GPU_MEMORY,
                                  .bytes = sizeof(float) * (double)floats,
                                  .queue = queue,
                                  .argument = argument};
    return gpu_measure(bench, &what, note);
}

/* ---- attention ----------------------------------------------------------------------------------- */

static void attention_run(struct cuda *cuda, void *argument)
{
    cuda_attention(cuda, argument);
}

static void backward_run(struct cuda *cuda, void *argument)
{
    cuda_attention_backward(cuda, argument);
}

static struct cuda_attention attention_of(const struct gpu_shape *shape)
{
    const size_t q = (size_t)shape->head_count * shape->head_dim;
    return (struct cuda_attention){
        .shape = {.head_count = shape->head_count,
                  .kv_head_count = shape->kv_head_count,
                  .head_dim = shape->head_dim,
                  .scale = 0.125F,
                  .q_stride = q,
                  .kv_stride = (size_t)shape->kv_head_count * shape->head_dim,
                  .out_stride = q,
                  .sequence_count = 1},
        .page_size = 1};
}

/* One row each of several contexts in pages: the keys and values are what has to be read. */
static enum err decode_measure(struct gpu_bench *bench, struct note *note)
{
    const struct gpu_shape *shape = bench->shape;
    const size_t mark = cuda_mark(bench->cuda);
    struct cuda_attention attention = attention_of(shape);
    const size_t pages = (shape->positions + shape->page_size - 1) / shape->page_size;
    const size_t kv = shape->sequences * pages * shape->page_size * attention.shape.kv_stride;
    uint32_t *table = calloc(shape->sequences * pages, sizeof *table);
    struct cuda_sequence *sequences = calloc(shape->sequences, sizeof *sequences);
    enum err err = ERR_NO_MEMORY;
    if (table != NULL && sequences != NULL) {
        for (size_t i = 0; i < shape->sequences * pages; i++) { /* pages of all take turns */
            table[i] = (uint32_t)(i % pages * shape->sequences + i / pages);
        }
        const float *k = take(bench, kv);
        const float *v = take(bench, kv);
        const uint32_t *there = put(bench, table, shape->sequences * pages * sizeof *table);
        for (size_t i = 0; i < shape->sequences; i++) {
            sequences[i].pages = there + i * pages;
            sequences[i].rows =
                (struct kernels_sequence){.row_count = 1,
                                          .start = shape->positions - 1,
                                          .q = take(bench, attention.shape.q_stride),
                                          .k = k,
                                          .v = v,
                                          .out = take(bench, attention.shape.out_stride)};
        }
        attention.sequences = put(bench, sequences, shape->sequences * sizeof *sequences);
        attention.shape.sequence_count = shape->sequences;
        attention.row_max = 1;
        attention.position_max = shape->positions;
        attention.page_size = shape->page_size;
        err = bytes_measure(bench, "attention, decode, paged",
                            2 * shape->sequences * shape->positions * attention.shape.kv_stride,
                            attention_run, &attention, note);
    }
    free(table);
    free(sequences);
    cuda_release(bench->cuda, mark);
    return err;
}

/* A prompt, and its gradients. Operations: a causal half of 4 per pair and column forward; scores, dP,
 * dq, dk, dv and dP, scores anew, 14 backward. */
static enum err prompt_measure(struct gpu_bench *bench, struct note *note)
{
    const size_t rows = bench->shape->prompt_rows;
    const size_t mark = cuda_mark(bench->cuda);
    struct cuda_attention attention = attention_of(bench->shape);
    const size_t q = rows * attention.shape.q_stride;
    const size_t kv = rows * attention.shape.kv_stride;
    struct cuda_sequence sequence = {
        .rows = {.row_count = rows,
                 .q = take(bench, q),
                 .k = take(bench, kv),
                 .v = take(bench, kv),
                 .out = take(bench, q),
                 .stats = take(bench, rows * bench->shape->head_count * 2),
                 .dout = take(bench, q),
                 .dq = take(bench, q),
                 .dk = take(bench, kv),
                 .dv = take(bench, kv)}};
    attention.sequences = put(bench, &sequence, sizeof sequence);
    attention.row_max = attention.position_max = rows;
    const double pairs = 0.5 * (double)rows * (double)(rows + 1) * bench->shape->head_count;
    struct gpu_case what = {.name = "attention, prefill",
                            .limit = GPU_FMA,
                            .flops = 4.0 * pairs * bench->shape->head_dim,
                            .bytes = sizeof(float) * (double)(2 * q + 2 * kv),
                            .queue = attention_run,
                            .argument = &attention};
    enum err err = gpu_measure(bench, &what, note);
    what.name = "attention, backward";
    what.flops = 14.0 * pairs * bench->shape->head_dim;
    what.bytes = sizeof(float) * (double)(4 * q + 4 * kv);
    what.queue = backward_run;
    err = err == ERR_OK ? gpu_measure(bench, &what, note) : err;
    cuda_release(bench->cuda, mark);
    return err;
}

/* ---- rows ---------------------------------------------------------------------------------------- */

static void norm_run(struct cuda *cuda, void *argument)
{
    cuda_rmsnorm(cuda, argument);
}

static void rope_run(struct cuda *cuda, void *argument)
{
    cuda_rope(cuda, argument);
}

static void loss_run(struct cuda *cuda, void *argument)
{
    cuda_cross_entropy(cuda, argument);
}

static void swiglu_run(struct cuda *cuda, void *argument)
{
    cuda_map(cuda, CUDA_SWIGLU, argument);
}

/* The residual's sum goes back to x. */
static enum err norm_measure(struct gpu_bench *bench, const char *name, size_t rows,
                             struct note *note)
{
    const size_t mark = cuda_mark(bench->cuda);
    const size_t width = bench->shape->hidden;
    float *x = take(bench, rows * width);
    struct cuda_rmsnorm norm = {.rows = rows,
                                .width = width,
                                .eps = 1e-5F,
                                .x = x,
                                .add = take(bench, rows * width),
                                .sum = x,
                                .weight = take(bench, width),
                                .y = take(bench, rows * width)};
    const enum err err =
        bytes_measure(bench, name, 4 * rows * width + width, norm_run, &norm, note);
    cuda_release(bench->cuda, mark);
    return err;
}

static enum err rope_measure(struct gpu_bench *bench, struct note *note)
{
    const struct gpu_shape *shape = bench->shape;
    const size_t mark = cuda_mark(bench->cuda);
    const size_t width = (size_t)shape->head_count * shape->head_dim;
    const size_t half = shape->head_dim / 2;
    uint32_t *positions = calloc(shape->prompt_rows, sizeof *positions);
    enum err err = ERR_NO_MEMORY;
    if (positions != NULL) {
        for (size_t i = 0; i < shape->prompt_rows; i++) {
            positions[i] = (uint32_t)i;
        }
        struct kernels_rope rope = {
            .rows = shape->prompt_rows,
            .head_count = shape->head_count,
            .head_dim = shape->head_dim,
            .x = take(bench, shape->prompt_rows * width),
            .stride = width,
            .positions = put(bench, positions, shape->prompt_rows * sizeof *positions),
            .cos = take(bench, shape->prompt_rows * half),
            .sin = take(bench, shape->prompt_rows * half)};
        err = bytes_measure(bench, "rope", 2 * shape->prompt_rows * (width + half), rope_run, &rope,
                            note);
    }
    free(positions);
    cuda_release(bench->cuda, mark);
    return err;
}

static enum err swiglu_measure(struct gpu_bench *bench, struct note *note)
{
    const size_t mark = cuda_mark(bench->cuda);
    const size_t count = bench->shape->prompt_rows * bench->shape->ffn;
    float *gate = take(bench, count);
    struct cuda_map_args args = {.count = count, .in = {gate, take(bench, count)}, .out = {gate}};
    const enum err err = bytes_measure(bench, "swiglu", 3 * count, swiglu_run, &args, note);
    cuda_release(bench->cuda, mark);
    return err;
}

/* Bytes: logits in, gradients out. */
static enum err loss_measure(struct gpu_bench *bench, struct note *note)
{
    const struct gpu_shape *shape = bench->shape;
    const size_t mark = cuda_mark(bench->cuda);
    const size_t count = shape->prompt_rows * shape->vocab;
    int32_t *targets = calloc(shape->prompt_rows, sizeof *targets);
    enum err err = ERR_NO_MEMORY;
    if (targets != NULL) {
        float *logits = take(bench, count);
        struct kernels_cross_entropy loss = {
            .rows = shape->prompt_rows,
            .vocab = shape->vocab,
            .logits = logits,
            .stride = shape->vocab,
            .targets = put(bench, targets, shape->prompt_rows * sizeof *targets),
            .out_loss = take(bench, shape->prompt_rows),
            .out_dlogits = logits};
        err = bytes_measure(bench, "cross entropy", 2 * count, loss_run, &loss, note);
    }
    free(targets);
    cuda_release(bench->cuda, mark);
    return err;
}

struct step {
    struct kernels_adamw adamw;
    struct kernels_adamw_factors factors;
};

static void step_run(struct cuda *cuda, void *argument)
{
    const struct step *step = argument;
    cuda_adamw(cuda, &step->adamw, &step->factors);
}

static enum err adamw_measure(struct gpu_bench *bench, struct note *note)
{
    const size_t mark = cuda_mark(bench->cuda);
    const size_t count = bench->shape->parameters;
    struct step step = {.adamw = {.count = count,
                                  .weight = take(bench, count),
                                  .grad = take(bench, count),
                                  .m = take(bench, count),
                                  .v = take(bench, count),
                                  .step = 1,
                                  .rate = 1e-3F,
                                  .beta1 = 0.9F,
                                  .beta2 = 0.99F,
                                  .eps = 1e-8F,
                                  .grad_scale = 1.0F},
                        .factors = {1.0F, -0.01F, 0.1F, 0.1F, 0.01F}};
    const enum err err = bytes_measure(bench, "adamw", 7 * count, step_run, &step, note);
    cuda_release(bench->cuda, mark);
    return err;
}

enum err gpu_cases_rows(struct gpu_bench *bench, struct note *note)
{
    enum err err = prompt_measure(bench, note);
    err = err == ERR_OK ? decode_measure(bench, note) : err;
    err = err == ERR_OK ? norm_measure(bench, "residual and norm", bench->shape->prompt_rows, note)
                        : err;
    err = err == ERR_OK ? norm_measure(bench, "residual and norm, 1 row", 1, note) : err;
    err = err == ERR_OK ? rope_measure(bench, note) : err;
    err = err == ERR_OK ? swiglu_measure(bench, note) : err;
    err = err == ERR_OK ? loss_measure(bench, note) : err;
    return err == ERR_OK ? adamw_measure(bench, note) : err;
}
