/* gpu_report.c - the ceilings of a device, timing, and the report of bench_gpu. See gpu_bench.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "shared/base/buf.h"
#include "shared/base/check.h"
#include "shared/json/json.h"
#include "tests/bench/gpu_bench.h"

#define CEILING_BLOCKS 4U /* of a multiprocessor: 1024 threads */

struct gpu_rates gpu_chip(const struct cuda_info *info)
{
    const double clock = 1e3 * info->clock_khz * info->multiprocessor_count;
    const double cores = info->capability == 80 ? 64.0 : 128.0;
    const double tensor = info->capability == 80   ? 4096.0
                          : info->capability == 90 ? 8192.0
                          : info->capability < 90  ? 2048.0
                                                   : 0.0;
    const double fma = 2.0 * cores * clock;
    return (struct gpu_rates){
        .of = {[GPU_MEMORY] = 2e3 * info->memory_clock_khz * (info->bus_bits / 8.0),
               [GPU_FMA] = fma,
               [GPU_INT8] = gpu_int8_ceiling(tensor * clock, fma)}};
}

double gpu_int8_ceiling(double tensor, double fma)
{
    const double chains = fma / 2.0 / 3.0 * 2.0 * KERNELS_QUANT;
    return tensor == 0.0 || chains < tensor ? chains : tensor;
}

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

/* Median seconds of one run: samples of several runs each, replayed as a graph, so that the host's
 * part of a launch does not count. */
static enum err time_runs(struct gpu_bench *bench, const struct gpu_case *what, double *out_s,
                          struct note *note)
{
    CHECK(bench->samples > 0 && bench->samples <= GPU_SAMPLES);
    double times[GPU_SAMPLES];
    struct cuda *cuda = bench->cuda;
    double start = 0.0;
    enum err err = ERR_OK;
    for (int i = 0; i < 2 && err == ERR_OK; i++) { /* the first loads the code */
        start = now_s();
        what->queue(cuda, what->argument);
        err = cuda_sync(cuda, note);
    }
    if (err != ERR_OK) {
        return err;
    }
    const double wanted = bench->sample_s / (now_s() - start);
    const uint32_t launches = wanted < 1.0                ? 1
                              : wanted > GPU_LAUNCHES_MAX ? GPU_LAUNCHES_MAX
                                                          : (uint32_t)wanted;
    cuda_record_begin(cuda);
    for (uint32_t i = 0; i < launches; i++) {
        what->queue(cuda, what->argument);
    }
    struct cuda_graph *graph = cuda_record_end(cuda);
    if (graph == NULL) {
        return cuda_sync(cuda, note);
    }
    cuda_graph_run(cuda, graph);
    err = cuda_sync(cuda, note);
    for (uint32_t i = 0; i < bench->samples && err == ERR_OK; i++) {
        start = now_s();
        cuda_graph_run(cuda, graph);
        err = cuda_sync(cuda, note);
        times[i] = (now_s() - start) / launches;
    }
    cuda_graph_destroy(graph);
    if (err == ERR_OK) {
        qsort(times, bench->samples, sizeof times[0], compare);
        *out_s = times[bench->samples / 2];
    }
    return err;
}

static double amount(const struct gpu_row *row)
{
    return row->limit == GPU_MEMORY ? row->bytes : row->flops;
}

static double share(double rate, double ceiling)
{
    return ceiling > 0.0 ? rate / ceiling : 0.0;
}

enum err gpu_measure(struct gpu_bench *bench, const struct gpu_case *what, struct note *note)
{
    CHECK(bench->row_count < GPU_ROWS_MAX);
    struct gpu_row row = {
        .name = what->name, .limit = what->limit, .flops = what->flops, .bytes = what->bytes};
    const enum err err = time_runs(bench, what, &row.seconds, note);
    if (err != ERR_OK) {
        return note_wrap(note, err, "%s", what->name);
    }
    const double rate = amount(&row) / row.seconds;
    row.share_chip = share(rate, bench->chip.of[row.limit]);
    row.share_measured = share(rate, bench->measured.of[row.limit]);
    bench->rows[bench->row_count++] = row;
    return ERR_OK;
}

/* ---- ceilings ----------------------------------------------------------------------------------- */

struct plain {
    size_t count;
    unsigned blocks, rounds;
    float *from, *to;
    float *out; /* a number of each thread */
};

static void copy_run(struct cuda *cuda, void *argument)
{
    const struct plain *plain = argument;
    gpu_copy_queue(cuda, plain->count, plain->from, plain->to);
}

static void fma_run(struct cuda *cuda, void *argument)
{
    const struct plain *plain = argument;
    gpu_fma_queue(cuda, plain->blocks, plain->rounds, plain->out);
}

static void mma_run(struct cuda *cuda, void *argument)
{
    const struct plain *plain = argument;
    gpu_mma_queue(cuda, plain->blocks, plain->rounds, (int32_t *)plain->out);
}

/* Rows of their own too: the first three of the report. */
static enum err ceilings(struct gpu_bench *bench, struct note *note)
{
    const struct gpu_shape *shape = bench->shape;
    const size_t mark = cuda_mark(bench->cuda);
    struct plain plain = {.count = shape->copy_count,
                          .blocks = bench->info.multiprocessor_count * CEILING_BLOCKS,
                          .rounds = shape->rounds,
                          .from = cuda_take(bench->cuda, shape->copy_count * sizeof(float)),
                          .to = cuda_take(bench->cuda, shape->copy_count * sizeof(float))};
    plain.out = cuda_take(bench->cuda, (size_t)plain.blocks * GPU_THREADS * sizeof(float));
    const double work = (double)plain.blocks * plain.rounds;
    const struct gpu_case cases[] = {
        {"copy (ceiling)", GPU_MEMORY, 0.0, 2.0 * sizeof(float) * (double)plain.count, copy_run,
         &plain},
        {"multiply-add (ceiling)", GPU_FMA, GPU_FMA_BLOCK_FLOPS * work, 0.0, fma_run, &plain},
        {"tensor cores int8 (ceiling)", GPU_INT8, GPU_MMA_BLOCK_OPS * work, 0.0, mma_run, &plain}};
    enum err err = ERR_OK;
    double rates[GPU_LIMIT_COUNT] = {0.0};
    for (size_t i = 0; i < GPU_LIMIT_COUNT && err == ERR_OK; i++) {
        err = gpu_measure(bench, &cases[i], note);
        if (err == ERR_OK) {
            const struct gpu_row *row = &bench->rows[bench->row_count - 1];
            rates[row->limit] = amount(row) / row->seconds;
        }
    }
    if (err == ERR_OK) {
        bench->measured.of[GPU_MEMORY] = rates[GPU_MEMORY];
        bench->measured.of[GPU_FMA] = rates[GPU_FMA];
        bench->measured.of[GPU_INT8] = gpu_int8_ceiling(rates[GPU_INT8], rates[GPU_FMA]);
    }
    cuda_release(bench->cuda, mark);
    return err;
}

enum err gpu_bench_run(struct gpu_bench *bench, struct note *note)
{
    cuda_info(bench->cuda, &bench->info);
    bench->chip = gpu_chip(&bench->info);
    enum err err = ceilings(bench, note);
    err = err == ERR_OK ? gpu_cases_products(bench, note) : err;
    return err == ERR_OK ? gpu_cases_rows(bench, note) : err;
}

/* ---- report ------------------------------------------------------------------------------------- */

static const char *const LIMITS[GPU_LIMIT_COUNT] = {"memory", "fma", "int8"};

void gpu_report_print(const struct gpu_bench *bench)
{
    const struct cuda_info *info = &bench->info;
    (void)printf("%s, capability %u.%u, %u multiprocessors\n", info->name, info->capability / 10,
                 info->capability % 10, info->multiprocessor_count);
    for (size_t i = 0; i < GPU_LIMIT_COUNT; i++) {
        (void)printf("  ceiling %-7s chip %10.1f, measured %10.1f %s\n", LIMITS[i],
                     1e-9 * bench->chip.of[i], 1e-9 * bench->measured.of[i],
                     i == GPU_MEMORY ? "GB/s" : "Gop/s");
    }
    (void)printf("  %-34s %10s %10s %10s  %-7s %6s %9s\n", "kernel", "us", "Gop/s", "GB/s", "bound",
                 "chip", "measured");
    for (uint32_t i = 0; i < bench->row_count; i++) {
        const struct gpu_row *row = &bench->rows[i];
        (void)printf("  %-34s %10.1f %10.1f %10.1f  %-7s %5.1f%% %8.1f%%\n", row->name,
                     1e6 * row->seconds, 1e-9 * row->flops / row->seconds,
                     1e-9 * row->bytes / row->seconds, LIMITS[row->limit], 100.0 * row->share_chip,
                     100.0 * row->share_measured);
    }
}

static void rates_write(struct json_writer *writer, const char *key, const struct gpu_rates *rates)
{
    json_write_key(writer, key);
    json_begin_object(writer);
    json_put_double(writer, "memory_gb_s", 1e-9 * rates->of[GPU_MEMORY]);
    json_put_double(writer, "fma_gflop_s", 1e-9 * rates->of[GPU_FMA]);
    json_put_double(writer, "int8_gop_s", 1e-9 * rates->of[GPU_INT8]);
    json_end_object(writer);
}

void gpu_report_write(const struct gpu_bench *bench, struct buf *out)
{
    struct json_writer writer;
    json_writer_init(&writer, out, true);
    json_begin_object(&writer);
    json_put_text(&writer, "device", bench->info.name);
    json_put_u64(&writer, "capability", bench->info.capability);
    json_put_u64(&writer, "multiprocessors", bench->info.multiprocessor_count);
    rates_write(&writer, "chip", &bench->chip);
    rates_write(&writer, "measured", &bench->measured);
    json_write_key(&writer, "rows");
    json_begin_array(&writer);
    for (uint32_t i = 0; i < bench->row_count; i++) {
        const struct gpu_row *row = &bench->rows[i];
        json_begin_object(&writer);
        json_put_text(&writer, "kernel", row->name);
        json_put_text(&writer, "bound", LIMITS[row->limit]);
        json_put_double(&writer, "us", 1e6 * row->seconds);
        json_put_double(&writer, "gop_s", 1e-9 * row->flops / row->seconds);
        json_put_double(&writer, "gb_s", 1e-9 * row->bytes / row->seconds);
        json_put_double(&writer, "share_chip", row->share_chip);
        json_put_double(&writer, "share_measured", row->share_measured);
        json_end_object(&writer);
    }
    json_end_array(&writer);
    json_end_object(&writer);
}
