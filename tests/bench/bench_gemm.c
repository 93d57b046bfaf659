/* bench_gemm.c - products alone, at the shapes of a 135M model (576 wide, 1536 in the feed-forward
 * network, 49152 words), against OpenBLAS and against what the machine can do.
 *
 * Usage: bench_gemm [fp32|f16|bf16|int8|decode]...; nothing named: all. Medians of REPEATS.
 * Writes build/bench/gemm.json. Needs libopenblas-dev. */
#include <cblas.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/kernels.h"
#include "shared/platform/pool.h"
#include "tests/bench/ceiling.h"
#include "tests/bench/openblas.h"

#define REPEATS 7
#define FLOATS (64UL * 1024UL * 1024UL)
#define LAYERS 30
#define SHAPES 12

struct shape {
    size_t m, n, k;
    int way; /* 0: X W^T, packed weights; 1: X W^T; 2: dY W; 3: dW += dY^T X */
};

static const struct shape shapes[SHAPES] = {
    {512, 576, 576, 0},   {512, 192, 576, 0},   {512, 1536, 576, 0},  {512, 576, 1536, 0},
    {128, 49152, 576, 0}, {8, 1536, 576, 0},    {2048, 576, 576, 1},  {2048, 1536, 576, 1},
    {2048, 576, 1536, 2}, {2048, 1536, 576, 2}, {576, 1536, 2048, 3}, {1536, 576, 2048, 3},
};

struct bench {
    const struct kernels *kernels;
    const struct parallel *parallel;
    const struct shape *shape;
    enum kernels_type type;
    bool int8;
    float *x, *w, *c;
    uint16_t *narrow;
    int8_t *x_codes;
    const int8_t *w_codes;
    float *x_scales;
    const uint16_t *w_scales;
    int8_t *codes;
    uint16_t *scales;
    uint8_t *stored;
    void *packed;
};

static int compare(const void *left, const void *right)
{
    const double a = *(const double *)left;
    const double b = *(const double *)right;
    return (a > b) - (a < b);
}

static double median_s(void (*call)(struct bench *bench), struct bench *bench)
{
    double times[REPEATS];
    call(bench);
    for (int i = 0; i < REPEATS; i++) {
        const double start = ceiling_now_s();
        call(bench);
        times[i] = ceiling_now_s() - start;
    }
    qsort(times, REPEATS, sizeof times[0], compare);
    return times[REPEATS / 2];
}

static void call_gemm(struct bench *bench)
{
    const struct shape *s = bench->shape;
    const bool across = s->way == 3;
    const struct kernels_gemm gemm = {
        .m = s->m,
        .n = s->n,
        .k = s->k,
        .a = {bench->x, across ? 1 : s->k, across ? s->m : 1},
        .b = {bench->w, s->way >= 2 ? s->n : 1, s->way >= 2 ? 1 : s->k},
        .packed = s->way == 0 ? bench->packed : NULL,
        .type = bench->type,
        .c = bench->c,
        .c_stride = s->n,
        .accumulate = across,
    };
    kernels_gemm(bench->kernels, bench->parallel, &gemm);
}

static void call_openblas(struct bench *bench)
{
    const struct shape *s = bench->shape;
    const int m = (int)s->m;
    const int n = (int)s->n;
    const int k = (int)s->k;
    const bool across = s->way == 3;
    cblas_sgemm(CblasRowMajor, across ? CblasTrans : CblasNoTrans,
                s->way >= 2 ? CblasNoTrans : CblasTrans, m, n, k, 1.0F, bench->x, across ? m : k,
                bench->w, s->way >= 2 ? n : k, across ? 1.0F : 0.0F, bench->c, n);
}

/* Quantising the activations is part of the work. */
static void call_int8(struct bench *bench)
{
    const struct shape *s = bench->shape;
    kernels_quantize(bench->kernels, bench->parallel, s->m, s->k, bench->x, s->k, bench->x_codes,
                     bench->x_scales);
    const struct kernels_gemm_int8 gemm = {
        .m = s->m,
        .n = s->n,
        .k = s->k,
        .x_codes = bench->x_codes,
        .x_scales = bench->x_scales,
        .w_codes = bench->w_codes,
        .w_scales = bench->w_scales,
        .c = bench->c,
        .c_stride = s->n,
    };
    kernels_gemm_int8(bench->kernels, bench->parallel, &gemm);
}

static void pack(struct bench *bench)
{
    const struct shape *s = bench->shape;
    if (bench->int8) {
        const size_t row = kernels_quant_blocks(s->k) * KERNELS_Q8_SIZE;
        for (size_t j = 0; j < s->n; j++) {
            kernels_quantize_q8(s->k, bench->w + j * s->k, bench->stored + j * row);
        }
        kernels_pack_int8(&parallel_serial, s->k, s->n, bench->stored, bench->codes, bench->scales);
        bench->w_codes = bench->codes;
        bench->w_scales = bench->scales;
    } else if (bench->type == KERNELS_F32) {
        kernels_pack(bench->kernels, &parallel_serial, s->k, s->n,
                     (struct kernels_matrix){bench->w, 1, s->k}, bench->packed);
    } else {
        bench->type == KERNELS_F16 ? kernels_to_f16(s->n * s->k, bench->w, bench->narrow)
                                   : kernels_to_bf16(s->n * s->k, bench->w, bench->narrow);
        kernels_pack16(bench->kernels, &parallel_serial, s->k, s->n,
                       (struct kernels_matrix16){bench->narrow, 1, s->k}, bench->packed);
    }
}

static void products(struct bench *bench, FILE *out, const char *name, const struct pool *pool)
{
    const double one = ceiling_gflops(&parallel_serial);
    const double all = ceiling_gflops(pool_parallel(pool));
    double ratio = 1.0;
    double share = 1.0;
    int counted = 0;
    const bool fp32 = !bench->int8 && bench->type == KERNELS_F32;
    (void)printf("%s: ceiling of fp32 multiply-adds %.0f GFLOP/s, %u threads %.0f\n", name, one,
                 pool_parallel(pool)->worker_count, all);
    for (int i = 0; i < SHAPES; i++) {
        bench->shape = &shapes[i];
        const struct shape *s = bench->shape;
        if (!fp32 && s->way != 0) {
            continue;
        }
        pack(bench);
        bench->parallel = &parallel_serial;
        const double work = 2e-9 * (double)(s->m * s->n * s->k);
        const double ours = median_s(bench->int8 ? call_int8 : call_gemm, bench);
        const double theirs = median_s(call_openblas, bench);
        bench->parallel = pool_parallel(pool);
        const double both = median_s(bench->int8 ? call_int8 : call_gemm, bench);
        (void)printf("  %5zu x %5zu x %4zu way %d: %6.1f GFLOP/s, %.2f of the ceiling, %.2f of "
                     "OpenBLAS, all threads x%.2f, %.2f of the ceiling\n",
                     s->m, s->n, s->k, s->way, work / ours, work / ours / one, theirs / ours,
                     ours / both, work / both / all);
        ratio *= theirs / ours;
        share *= work / ours / one;
        counted++;
    }
    ratio = pow(ratio, 1.0 / counted);
    share = pow(share, 1.0 / counted);
    (void)printf("  geometric mean: %.3f of OpenBLAS, %.3f of the ceiling\n", ratio, share);
    (void)fprintf(out, "  \"%s_vs_openblas\": %.3f,\n  \"%s_peak_share\": %.3f,\n", name, ratio,
                  name, share);
}

/* The weights of the model, one matrix after the other: out x in. */
#define MATRICES (LAYERS * 7 + 1)
static void matrix_shape(int i, size_t *n, size_t *k)
{
    static const size_t widths[7][2] = {{576, 576},  {192, 576},  {192, 576}, {576, 576},
                                        {1536, 576}, {1536, 576}, {576, 1536}};
    *n = i == LAYERS * 7 ? 49152 : widths[i % 7][0];
    *k = i == LAYERS * 7 ? 576 : widths[i % 7][1];
}

static size_t matrix_bytes(const struct bench *bench, int i)
{
    size_t n;
    size_t k;
    matrix_shape(i, &n, &k);
    return bench->int8                  ? n * k + n * k / KERNELS_QUANT * 2
           : bench->type == KERNELS_F32 ? n * k * 4
                                        : n * k * 2;
}

/* One token through all weights. */
static void decode_token(struct bench *bench)
{
    const char *at = bench->packed;
    for (int i = 0; i < MATRICES; i++) {
        struct shape shape = {.m = 1};
        matrix_shape(i, &shape.n, &shape.k);
        bench->shape = &shape;
        if (bench->int8) {
            bench->w_codes = (const int8_t *)at;
            bench->w_scales = (const uint16_t *)(at + shape.n * shape.k);
            call_int8(bench);
        } else {
            void *all = bench->packed;
            bench->packed = (void *)(uintptr_t)at;
            call_gemm(bench);
            bench->packed = all;
        }
        bench->shape = NULL;
        at += matrix_bytes(bench, i);
    }
}

/* How fast the weights are read for one token after the other. */
static void decode(struct bench *bench, FILE *out, const char *name, const struct pool *pool)
{
    const struct parallel *const parallels[2] = {&parallel_serial, pool_parallel(pool)};
    const struct bench saved = *bench;
    const float ones[2] = {1.03F, -0.97F}; /* numbers near 1 whatever type reads them */
    size_t bytes = 0;
    for (int i = 0; i < MATRICES; i++) {
        bytes += matrix_bytes(bench, i);
    }
    char *weights = aligned_alloc(64, bytes);
    if (weights == NULL) {
        return;
    }
    for (size_t i = 0; i < bytes; i += sizeof ones) {
        memcpy(weights + i, ones, sizeof ones);
    }
    bench->packed = weights;
    for (int p = 0; p < 2; p++) {
        bench->parallel = parallels[p];
        const double ceiling = ceiling_gbytes(parallels[p], weights, bytes);
        const double seconds = median_s(decode_token, bench);
        const double rate = 1e-9 * (double)bytes / seconds;
        (void)printf("  decode %s, %u thread(s): %.1f ms, %.2f GB/s of %.2f: %.2f\n", name,
                     parallels[p]->worker_count, 1e3 * seconds, rate, ceiling, rate / ceiling);
        (void)fprintf(out, "  \"%s_decode_bandwidth_share_%u\": %.3f,\n", name,
                      parallels[p]->worker_count, rate / ceiling);
    }
    free(weights);
    *bench = saved;
}

static bool wanted(int argc, char **argv, const char *name)
{
    bool found = argc == 1;
    for (int i = 1; i < argc; i++) {
        found = found || strcmp(argv[i], name) == 0;
    }
    return found;
}

int main(int argc, char **argv)
{
    static const char *const names[] = {"fp32", "bf16", "f16", "int8"};
    struct note note;
    const char *peer = openblas_start(argv);
    static struct bench bench; /* its memory lives as long as the program */
    bench.kernels = kernels_get(NULL, &note);
    struct pool *pool = pool_create(0);
    FILE *out = fopen("build/bench/gemm.json", "w");
    bench.x = aligned_alloc(64, FLOATS * 4);
    bench.w = aligned_alloc(64, FLOATS * 4);
    bench.c = aligned_alloc(64, FLOATS * 4);
    bench.packed = aligned_alloc(64, FLOATS * 4);
    bench.narrow = aligned_alloc(64, FLOATS * 2);
    bench.x_codes = aligned_alloc(64, FLOATS);
    bench.codes = aligned_alloc(64, FLOATS);
    bench.x_scales = aligned_alloc(64, FLOATS);
    bench.scales = aligned_alloc(64, FLOATS);
    bench.stored = aligned_alloc(64, FLOATS * 2);
    if (peer == NULL || bench.kernels == NULL || pool == NULL || out == NULL || bench.x == NULL ||
        bench.w == NULL || bench.c == NULL || bench.packed == NULL || bench.narrow == NULL ||
        bench.x_codes == NULL || bench.codes == NULL || bench.x_scales == NULL ||
        bench.scales == NULL || bench.stored == NULL) {
        (void)fprintf(stderr, "bench_gemm: could not start\n");
        return 1;
    }
    for (size_t i = 0; i < FLOATS; i++) {
        bench.x[i] = (float)(i % 97) * 0.01F - 0.5F;
        bench.w[i] = (float)(i % 89) * 0.01F - 0.4F;
        bench.c[i] = 0.0F;
    }
    openblas_set_num_threads(1);
    (void)printf("ours: %s; OpenBLAS: %s\n", kernels_name(bench.kernels), peer);
    (void)fprintf(out, "{\n  \"openblas\": \"%s\",\n", peer);
    for (int i = 0; i < 4; i++) {
        bench.int8 = i == 3;
        bench.type = i == 1 ? KERNELS_BF16 : i == 2 ? KERNELS_F16 : KERNELS_F32;
        if (wanted(argc, argv, names[i])) {
            products(&bench, out, names[i], pool);
        }
        if (wanted(argc, argv, "decode")) {
            decode(&bench, out, names[i], pool);
        }
    }
    (void)fprintf(out, "  \"backend\": \"%s\"\n}\n", kernels_name(bench.kernels));
    pool_destroy(pool);
    return fclose(out) == 0 ? 0 : 1;
}
