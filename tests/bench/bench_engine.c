/* bench_engine.c - how fast the kernels are, as ratios of what this machine can do.
 *
 * Figures (medians of REPEATS): products of a training step against OpenBLAS on one thread and
 * against the measured ceiling of fused multiply-adds; the same with two to all cores; attention and
 * the row kernels as a share of the product beside them. Writes build/bench/engine.json.
 * Needs libopenblas-dev. */
#if !__has_include(<openblas/cblas.h>) && !__has_include(<cblas.h>)
#error "make bench-engine needs OpenBLAS: apt-get install libopenblas-dev"
#endif
#include <cblas.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "kernels/kernels.h"
#include "shared/platform/pool.h"

#define REPEATS 9
#define FLOATS (4096UL * 4096UL)

void openblas_set_num_threads(int count); /* absent from Debian's generic cblas.h */

static float *a, *b, *c;

static double now_s(void)
{
    struct timespec at;
    (void)clock_gettime(CLOCK_MONOTONIC, &at);
    return (double)at.tv_sec + 1e-9 * (double)at.tv_nsec;
}

static int compare(const void *left, const void *right)
{
    const double x = *(const double *)left;
    const double y = *(const double *)right;
    return (x > y) - (x < y);
}

/* What to time: one of the calls below, on one shape. */
struct job {
    const struct kernels *kernels;
    const struct parallel *parallel;
    size_t m, n, k;
    bool across; /* a weight gradient: A transposed, B as it lies, accumulated */
};

static double median_s(void (*call)(const struct job *job), const struct job *job)
{
    double times[REPEATS];
    call(job); /* warms caches and pages */
    for (int i = 0; i < REPEATS; i++) {
        const double start = now_s();
        call(job);
        times[i] = now_s() - start;
    }
    qsort(times, REPEATS, sizeof times[0], compare);
    return times[REPEATS / 2];
}

static void call_gemm(const struct job *job)
{
    const struct kernels_gemm gemm = {
        .m = job->m,
        .n = job->n,
        .k = job->k,
        .a = {a, job->across ? 1 : job->k, job->across ? job->m : 1},
        .b = {b, job->across ? job->n : 1, job->across ? 1 : job->k},
        .c = c,
        .c_stride = job->n,
        .accumulate = job->across,
    };
    kernels_gemm(job->kernels, job->parallel, &gemm);
}

static void call_openblas(const struct job *job)
{
    const int m = (int)job->m;
    const int n = (int)job->n;
    const int k = (int)job->k;
    cblas_sgemm(CblasRowMajor, job->across ? CblasTrans : CblasNoTrans,
                job->across ? CblasNoTrans : CblasTrans, m, n, k, 1.0F, a, job->across ? m : k, b,
                job->across ? n : k, job->across ? 1.0F : 0.0F, c, n);
}

/* A product whose operands stay in the first cache: as near to the ceiling as code gets. */
static void call_ceiling(const struct job *job)
{
    const struct kernels_gemm gemm = {.m = 24,
                                      .n = 48,
                                      .k = 64,
                                      .a = {a, 64, 1},
                                      .packed = b,
                                      .c = c,
                                      .c_stride = 48,
                                      .accumulate = true};
    for (size_t i = 0; i < job->m; i++) {
        kernels_gemm(job->kernels, job->parallel, &gemm);
    }
}

/* 16 sequences of 256 positions, 6 heads over 2, of 32: the base model's. */
static void call_attention(const struct job *job)
{
    enum { SEQUENCES = 16, T = 256, Q = 192, KV = 64 };
    struct kernels_sequence sequences[SEQUENCES];
    struct kernels_attention args = {.head_count = 6,
                                     .kv_head_count = 2,
                                     .head_dim = 32,
                                     .scale = 0.17F,
                                     .q_stride = Q,
                                     .kv_stride = KV,
                                     .out_stride = Q,
                                     .sequences = sequences,
                                     .sequence_count = SEQUENCES};
    for (size_t i = 0; i < SEQUENCES; i++) {
        float *spare = c + i * 400000;
        sequences[i] = (struct kernels_sequence){.row_count = T,
                                                 .q = a + i * T * Q,
                                                 .k = b + i * T * KV,
                                                 .v = b + i * T * KV + 4000000,
                                                 .out = spare,
                                                 .stats = spare + 50000,
                                                 .dout = a + i * T * Q,
                                                 .dq = spare + 100000,
                                                 .dk = spare + 200000,
                                                 .dv = spare + 300000};
    }
    kernels_attention(job->kernels, job->parallel, &args);
    if (job->across) {
        kernels_attention_backward(job->kernels, job->parallel, &args);
    }
}

static void call_swiglu(const struct job *job)
{
    kernels_swiglu(job->kernels, job->parallel, job->m * job->n, a, b, c);
}

static void call_norm(const struct job *job)
{
    kernels_rmsnorm(job->kernels, job->parallel, job->m, job->n, 1e-5F, a, b, c, NULL);
}

static void products(FILE *out, const struct kernels *kernels, const struct pool *pool,
                     double ceiling)
{
    static const struct job shapes[] = {
        {.m = 4096, .n = 192, .k = 192},
        {.m = 4096, .n = 512, .k = 192},
        {.m = 4096, .n = 192, .k = 512},
        {.m = 2048, .n = 4096, .k = 192},
        {.m = 192, .n = 192, .k = 4096, .across = true},
        {.m = 512, .n = 192, .k = 4096, .across = true},
        {.m = 1024, .n = 1024, .k = 1024},
    };
    double product = 1.0;
    const size_t count = sizeof shapes / sizeof shapes[0];
    (void)fprintf(out, "  \"gemm\": [\n");
    for (size_t i = 0; i < count; i++) {
        struct job job = shapes[i];
        job.kernels = kernels;
        job.parallel = &parallel_serial;
        const double work = 2e-9 * (double)(job.m * job.n * job.k);
        const double ours = median_s(call_gemm, &job);
        const double theirs = median_s(call_openblas, &job);
        job.parallel = pool_parallel(pool);
        const double threads = median_s(call_gemm, &job);
        product *= theirs / ours;
        (void)fprintf(out,
                      "    {\"m\": %zu, \"n\": %zu, \"k\": %zu, \"transposed_a\": %s, \"gflops\": "
                      "%.1f, \"of_openblas\": %.3f, \"of_ceiling\": %.3f, \"thread_speedup\": "
                      "%.2f}%s\n",
                      job.m, job.n, job.k, job.across ? "true" : "false", work / ours,
                      theirs / ours, work / ours / ceiling, ours / threads,
                      i + 1 < count ? "," : "");
        (void)printf("  gemm %zu x %zu x %zu%s: %.1f GFLOP/s, %.2f of OpenBLAS, %u threads x%.2f\n",
                     job.m, job.n, job.k, job.across ? " (A^T)" : "", work / ours, theirs / ours,
                     pool_cores(), ours / threads);
    }
    (void)fprintf(out, "  ],\n  \"of_openblas_mean\": %.3f,\n", pow(product, 1.0 / (double)count));
}

int main(void)
{
    struct note note;
    const struct kernels *kernels = kernels_get(NULL, &note);
    struct pool *pool = pool_create(0);
    FILE *out = fopen("build/bench/engine.json", "w");
    a = aligned_alloc(64, FLOATS * sizeof *a);
    b = aligned_alloc(64, FLOATS * sizeof *b);
    c = aligned_alloc(64, FLOATS * sizeof *c);
    if (kernels == NULL || pool == NULL || out == NULL || a == NULL || b == NULL || c == NULL) {
        (void)fprintf(stderr, "bench_engine: could not start\n");
        return 1;
    }
    for (size_t i = 0; i < FLOATS; i++) {
        a[i] = (float)(i % 97) * 0.01F - 0.5F;
        b[i] = (float)(i % 89) * 0.01F - 0.4F;
        c[i] = 0.0F;
    }
    openblas_set_num_threads(1);
    struct job job = {
        .kernels = kernels, .parallel = &parallel_serial, .m = 2000, .n = 512, .k = 192};
    const double ceiling =
        2e-9 * (double)(job.m * 24UL * 48UL * 64UL) / median_s(call_ceiling, &job);
    (void)fprintf(out, "{\n  \"backend\": \"%s\",\n  \"cores\": %u,\n  \"ceiling_gflops\": %.1f,\n",
                  kernels_name(kernels), pool_cores(), ceiling);
    products(out, kernels, pool, ceiling);
    job.m = 4096;
    const double beside = median_s(call_gemm, &job);
    const double forward = median_s(call_attention, &job);
    const double swiglu = median_s(call_swiglu, &job);
    job.n = 192;
    const double norm = median_s(call_norm, &job);
    job.across = true;
    const double both = median_s(call_attention, &job);
    (void)fprintf(out,
                  "  \"milliseconds_4096_rows\": {\"gemm_512x192\": %.3f, \"attention\": %.3f, "
                  "\"attention_backward\": %.3f, \"swiglu\": %.3f, \"rmsnorm\": %.3f}\n}\n",
                  1e3 * beside, 1e3 * forward, 1e3 * (both - forward), 1e3 * swiglu, 1e3 * norm);
    (void)printf("  %s, ceiling %.0f GFLOP/s; 4096 rows: gemm 512x192 %.2f ms, attention %.2f ms, "
                 "backward %.2f ms, swiglu %.2f ms, rmsnorm %.2f ms\n",
                 kernels_name(kernels), ceiling, 1e3 * beside, 1e3 * forward,
                 1e3 * (both - forward), 1e3 * swiglu, 1e3 * norm);
    pool_destroy(pool);
    return fclose(out) == 0 ? 0 : 1;
}
