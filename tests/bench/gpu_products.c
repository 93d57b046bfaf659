/* gpu_products.c - bench_gpu's matrix products: prefill and training, decode, int8, adapters. */
#include "shared/base/check.h"
#include "tests/bench/gpu_bench.h"

#define DECODE_ROWS CUDA_ROW_TILE

static void *take(struct gpu_bench *bench, size_t count, size_t size)
{
    return cuda_take(bench->cuda, count * size);
}

static void gemm_run(struct cuda *cuda, void *argument)
{
    cuda_gemm(cuda, argument);
}

static size_t number_size(const struct kernels_gemm *gemm)
{
    return gemm->packed == NULL || gemm->type == KERNELS_F32 ? sizeof(float) : sizeof(uint16_t);
}

/* Fills in the operands that a product of m x n x k lacks, and measures it. */
static enum err gemm_measure(struct gpu_bench *bench, const char *name, struct kernels_gemm *gemm,
                             struct note *note)
{
    const size_t products = gemm->m * gemm->n * gemm->k;
    gemm->c = take(bench, gemm->m * gemm->n, sizeof(float));
    gemm->c_stride = gemm->n;
    const size_t bytes = gemm->m * gemm->k * sizeof(float) + gemm->n * gemm->k * number_size(gemm) +
                         gemm->m * gemm->n * sizeof(float);
    const struct gpu_case what = {.name = name,
                                  .limit = gemm->m <= DECODE_ROWS ? GPU_MEMORY : GPU_FMA,
                                  .flops = 2.0 * (double)products,
                                  .bytes = (double)bytes,
                                  .queue = gemm_run,
                                  .argument = gemm};
    return gpu_measure(bench, &what, note);
}

/* Products with packed weights: rows x in times in x out. */
static enum err packed(struct gpu_bench *bench, const char *const names[3], size_t rows,
                       struct note *note)
{
    const struct gpu_shape *shape = bench->shape;
    const enum kernels_type types[] = {KERNELS_F32, KERNELS_BF16, KERNELS_F16};
    enum err err = ERR_OK;
    for (size_t i = 0; i < 3 && err == ERR_OK; i++) {
        const size_t mark = cuda_mark(bench->cuda);
        struct kernels_gemm gemm = {.m = rows, .n = shape->ffn, .k = shape->hidden};
        gemm.a = (struct kernels_matrix){take(bench, rows * gemm.k, sizeof(float)), gemm.k, 1};
        gemm.type = types[i];
        gemm.packed = take(bench, kernels_packed_count(gemm.k, gemm.n),
                           types[i] == KERNELS_F32 ? sizeof(float) : sizeof(uint16_t));
        err = gemm_measure(bench, names[i], &gemm, note);
        cuda_release(bench->cuda, mark);
    }
    return err;
}

/* Training's three products, unpacked: kernels.h, "The uses". */
static enum err training(struct gpu_bench *bench, struct note *note)
{
    const size_t rows = bench->shape->prompt_rows;
    const size_t in = bench->shape->hidden;
    const size_t out = bench->shape->ffn;
    const size_t mark = cuda_mark(bench->cuda);
    const float *x = take(bench, rows * in, sizeof *x);
    const float *w = take(bench, out * in, sizeof *w);
    const float *dy = take(bench, rows * out, sizeof *dy);
    struct kernels_gemm forward = {.m = rows, .n = out, .k = in, .a = {x, in, 1}, .b = {w, 1, in}};
    struct kernels_gemm input = {.m = rows, .n = in, .k = out, .a = {dy, out, 1}, .b = {w, in, 1}};
    struct kernels_gemm weight = {
        .m = out, .n = in, .k = rows, .a = {dy, 1, out}, .b = {x, in, 1}, .accumulate = true};
    enum err err = gemm_measure(bench, "gemm forward", &forward, note);
    err = err == ERR_OK ? gemm_measure(bench, "gemm input gradient", &input, note) : err;
    err = err == ERR_OK ? gemm_measure(bench, "gemm weight gradient", &weight, note) : err;
    cuda_release(bench->cuda, mark);
    return err;
}

/* ---- int8 ---------------------------------------------------------------------------------------- */

static void int8_run(struct cuda *cuda, void *argument)
{
    cuda_gemm_int8(cuda, argument);
}

static enum err int8_measure(struct gpu_bench *bench, const char *name, size_t rows,
                             struct note *note)
{
    const size_t mark = cuda_mark(bench->cuda);
    struct kernels_gemm_int8 gemm = {.m = rows,
                                     .n = bench->shape->ffn,
                                     .k = bench->shape->hidden,
                                     .c_stride = bench->shape->ffn};
    const size_t blocks = kernels_quant_blocks(gemm.k);
    const size_t codes = kernels_int8_code_count(gemm.k, gemm.n);
    const size_t scales = kernels_int8_scale_count(gemm.k, gemm.n);
    gemm.x_codes = take(bench, rows * blocks, KERNELS_QUANT);
    gemm.x_scales = take(bench, rows * blocks, sizeof(float));
    gemm.w_codes = take(bench, codes, 1);
    gemm.w_scales = take(bench, scales, sizeof(uint16_t));
    gemm.c = take(bench, rows * gemm.n, sizeof(float));
    const size_t bytes = rows * blocks * (KERNELS_QUANT + sizeof(float)) + codes +
                         scales * sizeof(uint16_t) + rows * gemm.n * sizeof(float);
    const struct gpu_case what = {.name = name,
                                  .limit = rows <= DECODE_ROWS ? GPU_MEMORY : GPU_INT8,
                                  .flops = 2.0 * (double)rows * (double)gemm.n * (double)gemm.k,
                                  .bytes = (double)bytes,
                                  .queue = int8_run,
                                  .argument = &gemm};
    const enum err err = gpu_measure(bench, &what, note);
    cuda_release(bench->cuda, mark);
    return err;
}

struct quantize {
    size_t rows, k;
    const float *x;
    int8_t *codes;
    float *scales;
};

static void quantize_run(struct cuda *cuda, void *argument)
{
    const struct quantize *args = argument;
    cuda_quantize(cuda, args->rows, args->k, args->x, args->k, args->codes, args->scales);
}

static enum err quantize_measure(struct gpu_bench *bench, struct note *note)
{
    const size_t mark = cuda_mark(bench->cuda);
    struct quantize args = {.rows = bench->shape->prompt_rows, .k = bench->shape->hidden};
    const size_t blocks = args.rows * kernels_quant_blocks(args.k);
    args.x = take(bench, args.rows * args.k, sizeof(float));
    args.codes = take(bench, blocks, KERNELS_QUANT);
    args.scales = take(bench, blocks, sizeof(float));
    const size_t bytes =
        args.rows * args.k * sizeof(float) + blocks * (KERNELS_QUANT + sizeof(float));
    const struct gpu_case what = {.name = "quantize",
                                  .limit = GPU_MEMORY,
                                  .bytes = (double)bytes,
                                  .queue = quantize_run,
                                  .argument = &args};
    const enum err err = gpu_measure(bench, &what, note);
    cuda_release(bench->cuda, mark);
    return err;
}

/* ---- adapters ------------------------------------------------------------------------------------ */

#define ADAPTERS 16

static void lora_run(struct cuda *cuda, void *argument)
{
    cuda_lora(cuda, argument);
}

/* A decode step of as many rows as adapters, no two of one rank next to each other. */
static enum err lora_measure(struct gpu_bench *bench, struct note *note)
{
    const size_t mark = cuda_mark(bench->cuda);
    const size_t in = bench->shape->hidden;
    const size_t out = bench->shape->ffn;
    const uint32_t rank_max = bench->shape->rank_max;
    struct cuda_lora_segment segments[ADAPTERS];
    size_t ranks = 0;
    for (uint32_t i = 0; i < ADAPTERS; i++) {
        const uint32_t rank = rank_max >> i % 4;
        segments[i] = (struct cuda_lora_segment){.row = i,
                                                 .row_count = 1,
                                                 .rank = rank,
                                                 .scale = 1.0F,
                                                 .a = take(bench, rank * in, sizeof(float)),
                                                 .b = take(bench, rank * out, sizeof(float))};
        ranks += rank;
    }
    void *there = take(bench, 1, sizeof segments);
    cuda_put(bench->cuda, &(struct cuda_rows){1, sizeof segments, sizeof segments, sizeof segments},
             segments, there);
    struct cuda_lora lora = {.in = in,
                             .out = out,
                             .row_count = ADAPTERS,
                             .rank_max = rank_max,
                             .segments = there,
                             .segment_count = ADAPTERS,
                             .x = take(bench, ADAPTERS * in, sizeof(float)),
                             .ax = take(bench, (size_t)ADAPTERS * rank_max, sizeof(float)),
                             .y = take(bench, ADAPTERS * out, sizeof(float))};
    const size_t numbers = ranks * (in + out) + ADAPTERS * (in + 2 * out);
    const struct gpu_case what = {.name = "adapters, 16 of 4 ranks",
                                  .limit = GPU_MEMORY,
                                  .flops = 2.0 * (double)ranks * (double)(in + out),
                                  .bytes = sizeof(float) * (double)numbers,
                                  .queue = lora_run,
                                  .argument = &lora};
    const enum err err = gpu_measure(bench, &what, note);
    cuda_release(bench->cuda, mark);
    return err;
}

enum err gpu_cases_products(struct gpu_bench *bench, struct note *note)
{
    static const char *const prefill[] = {"gemm packed", "gemm bf16", "gemm f16"};
    static const char *const one[] = {"decode, 1 row", "decode bf16, 1 row", "decode f16, 1 row"};
    static const char *const eight[] = {"decode, 8 rows", "decode bf16, 8 rows",
                                        "decode f16, 8 rows"};
    const size_t rows = bench->shape->prompt_rows;
    CHECK(rows > DECODE_ROWS);
    enum err err = training(bench, note);
    err = err == ERR_OK ? packed(bench, prefill, rows, note) : err;
    err = err == ERR_OK ? packed(bench, one, 1, note) : err;
    err = err == ERR_OK ? packed(bench, eight, DECODE_ROWS, note) : err;
    err = err == ERR_OK ? int8_measure(bench, "gemm int8", rows, note) : err;
    err = err == ERR_OK ? int8_measure(bench, "decode int8, 1 row", 1, note) : err;
    err = err == ERR_OK ? int8_measure(bench, "decode int8, 8 rows", DECODE_ROWS, note) : err;
    err = err == ERR_OK ? quantize_measure(bench, note) : err;
    return err == ERR_OK ? lora_measure(bench, note) : err;
}
