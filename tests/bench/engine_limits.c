/* engine_limits.c - what this machine can do, and how near our products come. See engine_bench.h.
 *
 * Ceilings: fused multiply-adds that stay in registers; reading a buffer as large as the weights of
 * the served model, by every thread its own part. Products, at the shapes of a 135M model: kernels_gemm
 * on plain matrices against OpenBLAS on the same; as the model runs them, weights packed at load and
 * gradients plain, against the ceiling; and what exactness costs against the fastest way we know that
 * may add in any order. For many rows that is OpenBLAS: a tile of ours has more chains side by side
 * than the units can use, and k cut in parts would only add sums. For one row, where chains are few,
 * dot products over plain rows and four chains per output over packed panels are tried. */
#if !__has_include(<openblas/cblas.h>) && !__has_include(<cblas.h>)
#error "make bench-engine needs OpenBLAS: make bench-deps"
#endif
#include <cblas.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "shared/base/check.h"
#include "tests/bench/engine_bench.h"

#define READ_FLOATS (68UL << 20) /* 285 MB: the 16-bit weights of the 135M shape */
#define FMA_ROUNDS 4000000U

#if defined(__x86_64__)
#define WIDE __attribute__((target("avx512f,fma")))
typedef float wide __attribute__((vector_size(64), aligned(4)));
enum { WIDE_FLOATS = 16 };
#else
#define WIDE
typedef float wide __attribute__((vector_size(16), aligned(4)));
enum { WIDE_FLOATS = 4 };
#endif

static bool machine_wide(void)
{
#if defined(__x86_64__)
    return __builtin_cpu_supports("avx512f");
#else
    return true;
#endif
}

/* Sixteen independent chains hide the latency of a multiply-add on every core we know. */
#define CHAINS 16
#define FMA(i) "vfmadd231ps %%zmm16, %%zmm17, %%zmm" #i "\n\t"

WIDE static float fma_loop(void)
{
#if defined(__x86_64__)
    __asm__ volatile("vpxord %%zmm16, %%zmm16, %%zmm16\n\tvpxord %%zmm17, %%zmm17, %%zmm17" ::
                         : "xmm16", "xmm17");
    for (uint32_t round = 0; round < FMA_ROUNDS; round++) {
        __asm__ volatile(FMA(0) FMA(1) FMA(2) FMA(3) FMA(4) FMA(5) FMA(6) FMA(7) FMA(8) FMA(9)
                             FMA(10) FMA(11) FMA(12) FMA(13) FMA(14) FMA(15)::
                                 : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7",
                                   "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14",
                                   "xmm15");
    }
    return 0.0F;
#else
    wide sum[CHAINS] = {0};
    const wide x = {0.5F, 0.5F, 0.5F, 0.5F};
    for (uint32_t round = 0; round < FMA_ROUNDS; round++) {
        _Pragma("GCC unroll 16") for (int i = 0; i < CHAINS; i++)
        {
            sum[i] += x * x;
        }
    }
    float total = 0.0F;
    for (int i = 0; i < CHAINS; i++) {
        total += sum[i][0];
    }
    return total;
#endif
}

static _Thread_local volatile float sink; /* keeps the loops alive */

static void fma_task(void *argument, uint32_t index)
{
    (void)argument;
    (void)index;
    sink = fma_loop();
}

struct reading {
    const struct parallel *parallel;
    const float *data;
};

/* Streams side by side, as packed panels are read: one alone does not fill the memory's queues. */
enum { STREAMS = 4 };

WIDE static float read_loop(const float *data, size_t count)
{
    wide sum[STREAMS] = {0};
    const size_t part = count / STREAMS / WIDE_FLOATS * WIDE_FLOATS;
    for (size_t i = 0; i < part; i += WIDE_FLOATS) {
        for (size_t j = 0; j < STREAMS; j++) {
            const float *at = data + j * part + i;
            __builtin_prefetch(at + 1024);
            sum[j] += *(const wide *)(const void *)at;
        }
    }
    float total = 0.0F;
    for (int j = 0; j < STREAMS; j++) {
        total += sum[j][0];
    }
    return total;
}

static void read_task(void *argument, uint32_t index)
{
    const struct reading *reading = argument;
    const size_t part = READ_FLOATS / reading->parallel->worker_count;
    sink = read_loop(reading->data + index * part, part);
}

static void read_all(void *argument)
{
    struct reading *reading = argument;
    reading->parallel->run(reading->parallel->context, reading->parallel->worker_count, read_task,
                           reading);
}

static void fma_all(void *argument)
{
    const struct reading *reading = argument;
    reading->parallel->run(reading->parallel->context, reading->parallel->worker_count, fma_task,
                           NULL);
}

static double ceiling_work(uint32_t threads)
{
    return 2e-9 * FMA_ROUNDS * CHAINS * WIDE_FLOATS * threads;
}

double bench_read_gb_s(void *argument)
{
    const struct bench_reader *reader = argument;
    struct reading reading = {.parallel = reader->bench->parallel[reader->threads],
                              .data = reader->bench->read};
    const double start = bench_now_s();
    read_all(&reading);
    return 1e-9 * (double)(READ_FLOATS * sizeof(float)) / (bench_now_s() - start);
}

void bench_limits(struct bench *bench)
{
    if (!machine_wide()) {
        (void)printf("  ceilings not measured: no AVX-512\n");
        return;
    }
    float *data = aligned_alloc(64, READ_FLOATS * sizeof *data);
    CHECK(data != NULL);
    for (size_t i = 0; i < READ_FLOATS; i++) {
        data[i] = (float)(i % 7);
    }
    bench->read = data;
    for (uint32_t threads = 1; threads <= BENCH_THREADS_MAX; threads++) {
        struct reading reading = {.parallel = bench->parallel[threads], .data = data};
        const double fma_s = bench_time_s(9, fma_all, &reading);
        const double read_s = bench_time_s(9, read_all, &reading);
        bench_report(bench, &(struct bench_row){.name = "multiply-add ceiling",
                                                .unit = "GFLOP/s",
                                                .threads = threads,
                                                .ours = ceiling_work(threads) / fma_s});
        bench_report(bench, &(struct bench_row){
                                .name = "read ceiling",
                                .unit = "GB/s",
                                .threads = threads,
                                .ours = 1e-9 * (double)(READ_FLOATS * sizeof *data) / read_s});
    }
}

/* ---- products ---- */

struct job {
    const struct bench *bench;
    uint32_t threads;
    size_t m, n, k;
    enum { PLAIN, PACKED, ACROSS } form; /* ACROSS: a weight gradient, A transposed, accumulated */
    const float *a, *b, *packed;
    float *c;
};

static void ours(void *argument)
{
    const struct job *job = argument;
    const bool across = job->form == ACROSS;
    const struct kernels_gemm gemm = {
        .m = job->m,
        .n = job->n,
        .k = job->k,
        .a = {job->a, across ? 1 : job->k, across ? job->m : 1},
        .b = {job->b, across ? job->n : 1, across ? 1 : job->k},
        .packed = job->form == PACKED ? job->packed : NULL,
        .c = job->c,
        .c_stride = job->n,
        .accumulate = across,
    };
    kernels_gemm(job->bench->kernels, job->bench->parallel[job->threads], &gemm);
}

static void openblas(void *argument)
{
    const struct job *job = argument;
    const int m = (int)job->m;
    const int n = (int)job->n;
    const int k = (int)job->k;
    if (m == 1) {
        cblas_sgemv(CblasRowMajor, CblasNoTrans, n, k, 1.0F, job->b, k, job->a, 1, 0.0F, job->c, 1);
        return;
    }
    const bool across = job->form == ACROSS;
    cblas_sgemm(CblasRowMajor, across ? CblasTrans : CblasNoTrans,
                across ? CblasNoTrans : CblasTrans, m, n, k, 1.0F, job->a, across ? m : k, job->b,
                across ? n : k, across ? 1.0F : 0.0F, job->c, n);
}

/* Nothing but multiply-adds, on as many threads. */
static void ceiling(void *argument)
{
    const struct job *job = argument;
    fma_all(&(struct reading){.parallel = job->bench->parallel[job->threads]});
}

/* Who takes part in a comparison, and how long each turn took. */
struct turns {
    void (*call)(void *argument);
    struct job job;
    struct bench_samples times;
};

#define TURNS 15
/* OpenBLAS's helpers spin for 2^28 ticks after a product; a helper of ours would be put on the caller's core
 * meanwhile, and both get half of it. */
#define REST_NS 200000000L

/* Round after round everyone's turn, the second of two calls: what the machine is worth changes over a second,
 * but rarely within a round. */
static void turns_run(struct turns *turns, size_t count)
{
    for (uint32_t round = 0; round < TURNS; round++) {
        for (size_t i = 0; i < count; i++) {
            turns[i].call(&turns[i].job);
            const double start = bench_now_s();
            turns[i].call(&turns[i].job);
            bench_add(&turns[i].times, bench_now_s() - start);
            if (turns[i].call == openblas && turns[i].job.threads > 1) {
                (void)nanosleep(&(struct timespec){.tv_nsec = REST_NS}, NULL);
            }
        }
    }
}

/* How many times longer b takes than a: the median over the rounds. */
static double turns_ratio(const struct turns *a, const struct turns *b)
{
    struct bench_samples ratios = {0};
    for (uint32_t i = 0; i < a->times.count; i++) {
        bench_add(&ratios, b->times.values[i] / a->times.values[i]);
    }
    return bench_median(&ratios);
}

/* One row, any order: each output a dot product with four vectors of partial sums. */
WIDE static void dots_run(const struct job *job, size_t begin, size_t end)
{
    for (size_t j = begin; j < end; j++) {
        const float *w = job->b + j * job->k;
        wide sum[4] = {0};
        size_t p = 0;
        for (; p + 4UL * WIDE_FLOATS <= job->k; p += 4UL * WIDE_FLOATS) {
            for (size_t i = 0; i < 4; i++) {
                const size_t at = p + i * WIDE_FLOATS;
                sum[i] += *(const wide *)(const void *)(job->a + at) *
                          *(const wide *)(const void *)(w + at);
            }
        }
        sum[0] += sum[1] + (sum[2] + sum[3]);
        float total = 0.0F;
        for (int i = 0; i < WIDE_FLOATS; i++) {
            total += sum[0][i];
        }
        for (; p < job->k; p++) {
            total += job->a[p] * w[p];
        }
        job->c[j] = total;
    }
}

/* One row, any order, over packed panels: each output four chains, k modulo 4, so that one panel after
 * the other is read from end to end. */
WIDE static void panels_run(const struct job *job, size_t begin, size_t end)
{
    const size_t panel = KERNELS_PANEL;
    for (size_t j = begin; j < end; j += panel) {
        const float *w = job->packed + j * job->k;
        wide sum[4][KERNELS_PANEL / WIDE_FLOATS] = {0};
        for (size_t p = 0; p < job->k; p++) {
            __builtin_prefetch(w + (p + 64) * panel);
            for (size_t i = 0; i < panel / WIDE_FLOATS; i++) {
                sum[p % 4][i] +=
                    job->a[p] * *(const wide *)(const void *)(w + p * panel + i * WIDE_FLOATS);
            }
        }
        for (size_t i = 0; i < panel / WIDE_FLOATS; i++) {
            const wide total = (sum[0][i] + sum[1][i]) + (sum[2][i] + sum[3][i]);
            memcpy(job->c + j + i * WIDE_FLOATS, &total, sizeof total);
        }
    }
}

static void parts_run(const struct job *job, uint32_t index,
                      void (*run)(const struct job *job, size_t begin, size_t end))
{
    const size_t part = job->n / job->threads / KERNELS_PANEL * KERNELS_PANEL;
    run(job, index * part, index + 1 == job->threads ? job->n : (index + 1) * part);
}

static void dots_task(void *argument, uint32_t index)
{
    parts_run(argument, index, dots_run);
}

static void panels_task(void *argument, uint32_t index)
{
    parts_run(argument, index, panels_run);
}

static void dots(void *argument)
{
    const struct job *job = argument;
    const struct parallel *parallel = job->bench->parallel[job->threads];
    parallel->run(parallel->context, job->threads, dots_task, argument);
}

static void panels(void *argument)
{
    const struct job *job = argument;
    const struct parallel *parallel = job->bench->parallel[job->threads];
    parallel->run(parallel->context, job->threads, panels_task, argument);
}

struct shape {
    const char *name;
    size_t m, n, k;
    int form;
    double uses; /* how often exact_overhead counts it */
};

static const struct shape SHAPES[] = {
    {"q, o 512x576x576", 512, 576, 576, PLAIN, 60},
    {"k, v 512x192x576", 512, 192, 576, PLAIN, 60},
    {"gate, up 512x1536x576", 512, 1536, 576, PLAIN, 60},
    {"down 512x576x1536", 512, 576, 1536, PLAIN, 30},
    {"head 128x49152x576", 128, 49152, 576, PLAIN, 0},
    {"dW q 576x576x1024", 576, 576, 1024, ACROSS, 0},
    {"dW gate 1536x576x1024", 1536, 576, 1024, ACROSS, 0},
};
/* One token's weights, 4.75 times the head's, come from memory and not from a cache. */
static const struct shape ROW = {"head 1x49152x576", 1, 49152, 576, PACKED, 4.75};

#define OPERAND_FLOATS (32UL << 20)

struct operands {
    float *a, *b, *c, *packed;
};

static struct job job_make(const struct bench *bench, const struct shape *shape, uint32_t threads,
                           const struct operands *operands)
{
    struct job job = {.bench = bench,
                      .threads = threads,
                      .m = shape->m,
                      .n = shape->n,
                      .k = shape->k,
                      .form = shape->form,
                      .a = operands->a,
                      .b = operands->b,
                      .packed = operands->packed,
                      .c = operands->c};
    CHECK(kernels_packed_count(job.k, job.n) <= OPERAND_FLOATS);
    CHECK(job.m * job.n <= OPERAND_FLOATS);
    if (job.form != ACROSS) {
        kernels_pack(bench->kernels, bench->parallel[1], job.k, job.n,
                     (struct kernels_matrix){job.b, 1, job.k}, operands->packed);
    }
    return job;
}

/* Over all shapes on so many threads. */
struct sums {
    double logs; /* of the ratios to OpenBLAS */
    double work, time,
        least; /* GFLOP, as used; seconds; seconds at the ceiling measured in between */
    double exact_s, free_s; /* exact_overhead's two sides */
};

static void product_one(struct bench *bench, const struct shape *shape, uint32_t threads,
                        const struct operands *operands, struct sums *sums)
{
    const struct job job = job_make(bench, shape, threads, operands);
    const double work = 2e-9 * (double)(job.m * job.n * job.k);
    const bool served = job.form == PLAIN; /* then weights are packed at load */
    struct turns turns[] = {{.call = ours, .job = job},
                            {.call = openblas, .job = job},
                            {.call = ceiling, .job = job},
                            {.call = ours, .job = job}};
    turns[3].job.form = PACKED;
    turns_run(turns, served ? 4 : 3);
    const double mine = bench_median(&turns[0].times);
    const double ratio = turns_ratio(&turns[0], &turns[1]);
    const double used = served ? bench_median(&turns[3].times) : mine;
    bench_report(bench, &(struct bench_row){.name = shape->name,
                                            .peer = "OpenBLAS",
                                            .unit = "GFLOP/s",
                                            .threads = threads,
                                            .ours = work / mine,
                                            .theirs = work / bench_median(&turns[1].times),
                                            .ratio = ratio});
    if (served) {
        sums->exact_s += used * shape->uses;
        sums->free_s += used * fmin(1.0, turns_ratio(&turns[3], &turns[1])) * shape->uses;
    }
    sums->logs += log(ratio);
    sums->work += work;
    sums->time += used;
    sums->least += work / (ceiling_work(threads) / bench_median(&turns[2].times));
}

static void products_one(struct bench *bench, uint32_t threads, const struct operands *operands)
{
    const size_t count = sizeof SHAPES / sizeof SHAPES[0];
    struct sums sums = {0};
    for (size_t i = 0; i < count; i++) {
        product_one(bench, &SHAPES[i], threads, operands, &sums);
    }
    const double mean = exp(sums.logs / (double)count);
    bench_report(bench, &(struct bench_row){.key = "gemm_vs_openblas",
                                            .name = "geometric mean",
                                            .peer = "OpenBLAS",
                                            .unit = "ratio",
                                            .threads = threads,
                                            .ours = mean,
                                            .theirs = 1.0,
                                            .ratio = mean});
    bench_report(bench, &(struct bench_row){.key = "peak_share",
                                            .name = "all of these, as used",
                                            .peer = "multiply-add ceiling",
                                            .unit = "GFLOP/s",
                                            .threads = threads,
                                            .ours = sums.work / sums.time,
                                            .theirs = sums.work / sums.least,
                                            .ratio = sums.least / sums.time});
    const struct job row = job_make(bench, &ROW, threads, operands);
    struct turns turns[] = {{.call = ours, .job = row},
                            {.call = dots, .job = row},
                            {.call = panels, .job = row},
                            {.call = openblas, .job = row}};
    turns_run(turns, sizeof turns / sizeof turns[0]);
    const double mine = bench_median(&turns[0].times);
    double theirs = mine * turns_ratio(&turns[0], &turns[1]);
    theirs = fmin(theirs, mine * turns_ratio(&turns[0], &turns[2]));
    theirs = fmin(theirs, mine * turns_ratio(&turns[0], &turns[3]));
    sums.exact_s += mine * ROW.uses;
    sums.free_s += fmin(mine, theirs) * ROW.uses;
    bench_report(bench, &(struct bench_row){.name = ROW.name,
                                            .peer = "any order",
                                            .unit = "us",
                                            .threads = threads,
                                            .ours = 1e6 * mine,
                                            .theirs = 1e6 * theirs,
                                            .ratio = theirs / mine});
    bench_report(bench, &(struct bench_row){.key = "exact_overhead",
                                            .name = "512 tokens' and one token's products",
                                            .peer = "fastest in any order",
                                            .unit = "ms",
                                            .threads = threads,
                                            .ours = 1e3 * sums.exact_s,
                                            .theirs = 1e3 * sums.free_s,
                                            .ratio = sums.exact_s / sums.free_s});
}

void bench_products(struct bench *bench)
{
    if (!machine_wide()) {
        (void)printf("  products not measured: no AVX-512\n");
        return;
    }
    struct operands operands = {0};
    float **all[] = {&operands.a, &operands.b, &operands.c, &operands.packed};
    for (size_t i = 0; i < 4; i++) {
        *all[i] = aligned_alloc(64, OPERAND_FLOATS * sizeof(float));
        CHECK(*all[i] != NULL);
        for (size_t j = 0; j < OPERAND_FLOATS; j++) {
            (*all[i])[j] = (float)(j % (97 - i)) * 0.01F - 0.45F;
        }
    }
    for (uint32_t threads = 1; threads <= BENCH_THREADS_MAX; threads++) {
        openblas_set_num_threads((int)threads);
        products_one(bench, threads, &operands);
    }
    openblas_set_num_threads(1);
    for (size_t i = 0; i < 4; i++) {
        free(*all[i]);
    }
}
