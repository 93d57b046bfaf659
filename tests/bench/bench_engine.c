/* bench_engine.c - how fast the engine is beside what people would use instead, on this machine.
 *
 * bench_engine [--only PART[,PART...]]: parts are limits (always), products, serving, training,
 * memory, tokenize; adapters, which serving holds too, needs no peer.
 * Writes build/bench/engine.json: one number per figure of the table of bars, the worst of one and
 * two threads, with all rows under "rows". Peers: OpenBLAS (linked), llama.cpp (peer_llama.mjs),
 * PyTorch (peer_torch.py); `make bench-deps` installs them. A figure whose peer could not run is
 * left out and said so. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "shared/base/buf.h"
#include "shared/base/check.h"
#include "shared/base/note.h"
#include "shared/json/json.h"
#include "shared/platform/pool.h"
#include "tests/bench/engine_bench.h"
#include "tests/bench/openblas.h"

#define OUT_FOLDER "build/bench"
#define REPORT_SIZE_MAX (1UL << 20)

struct bar {
    const char *key;
    double bar;
    bool at_most; /* the figure may not exceed the bar; else it may not fall below */
};
static const struct bar BARS[] = {
    {"gemm_vs_openblas", 0.95, false},
    {"prefill_vs_llamacpp_f16", 1.3, false},
    {"prefill_vs_llamacpp_q8", 1.5, false},
    {"decode_vs_llamacpp_f16", 1.2, false},
    {"decode_vs_llamacpp_q8", 1.3, false},
    {"decode_bandwidth_share", 0.85, false},
    {"peak_share", 0.75, false},
    {"train_vs_pytorch_12m", 1.5, false},
    {"train_vs_pytorch_135m", 1.15, false},
    {"pretrain_vs_pytorch", 1.3, false},
    {"thread_scaling", 1.8, false},
    {"exact_overhead", 1.1, true},
    {"adapters_overhead", 1.15, true},
    {"tokenize_mb_s", 5.0, false},
};

/* The worst of the rows with this key; false when none has a peer. */
static bool figure(const struct bench *bench, const struct bar *bar, double *out)
{
    bool found = false;
    for (uint32_t i = 0; i < bench->row_count; i++) {
        const struct bench_row *row = &bench->rows[i];
        if (row->key == NULL || row->peer == NULL || strcmp(row->key, bar->key) != 0) {
            continue;
        }
        if (!found || (bar->at_most ? row->ratio > *out : row->ratio < *out)) {
            *out = row->ratio;
        }
        found = true;
    }
    return found;
}

static void row_write(struct json_writer *writer, const struct bench_row *row)
{
    json_begin_object(writer);
    json_put_text(writer, "key", row->key);
    json_put_text(writer, "what", row->name);
    json_put_u64(writer, "threads", row->threads);
    json_put_text(writer, "unit", row->unit);
    json_put_double(writer, "ours", row->ours);
    if (row->kernel[0] != '\0') {
        json_put_text(writer, "peer_kernel", row->kernel);
    }
    if (row->peer != NULL) {
        json_put_text(writer, "peer", row->peer);
        json_put_double(writer, "theirs", row->theirs);
        json_put_double(writer, "ratio", row->ratio);
    }
    json_end_object(writer);
}

static bool report_write(const struct bench *bench)
{
    struct buf out;
    struct json_writer writer;
    buf_init(&out, REPORT_SIZE_MAX);
    json_writer_init(&writer, &out, true);
    json_begin_object(&writer);
    json_put_text(&writer, "backend", kernels_name(bench->kernels));
    json_put_text(&writer, "openblas", bench->openblas);
    json_put_u64(&writer, "cores", pool_cores());
    (void)printf("\n  %-26s %10s %10s\n", "figure (worst of 1, 2 threads)", "measured", "bar");
    for (size_t i = 0; i < sizeof BARS / sizeof BARS[0]; i++) {
        double value = 0.0;
        if (figure(bench, &BARS[i], &value)) {
            json_put_double(&writer, BARS[i].key, value);
            bool met = BARS[i].at_most ? value <= BARS[i].bar : value >= BARS[i].bar;
            (void)printf("  %-30s %10.3f %s %7.2f  %s\n", BARS[i].key, value,
                         BARS[i].at_most ? "<=" : ">=", BARS[i].bar, met ? "met" : "MISSED");
        } else {
            (void)printf("  %-30s %10s %s %7.2f\n", BARS[i].key, "-",
                         BARS[i].at_most ? "<=" : ">=", BARS[i].bar);
        }
    }
    json_write_key(&writer, "rows");
    json_begin_array(&writer);
    for (uint32_t i = 0; i < bench->row_count; i++) {
        row_write(&writer, &bench->rows[i]);
    }
    json_end_array(&writer);
    json_end_object(&writer);
    FILE *file = fopen(OUT_FOLDER "/engine.json", "w");
    bool ok = file != NULL && buf_err(&out) == ERR_OK &&
              fwrite(buf_bytes(&out).data, 1, buf_bytes(&out).size, file) == buf_bytes(&out).size;
    ok = file != NULL && fclose(file) == 0 && ok;
    buf_deinit(&out);
    return ok;
}

static bool wanted(const char *only, const char *part)
{
    return only == NULL || strstr(only, part) != NULL;
}

int main(int argc, char **argv)
{
    if (argc == 4 && strcmp(argv[1], "--memory") == 0) {
        return bench_memory_child(argv[2], argv[3]);
    }
    const char *only = argc == 3 && strcmp(argv[1], "--only") == 0 ? argv[2] : NULL;
    if (argc != 1 && only == NULL) {
        (void)fprintf(
            stderr,
            "usage: bench_engine [--only products,serving,adapters,training,memory,tokenize]\n");
        return 2;
    }
    struct note note = {0};
    struct bench bench = {.openblas = openblas_start(argv),
                          .kernels = kernels_get(NULL, &note),
                          .folder = OUT_FOLDER};
    struct pool *pools[BENCH_THREADS_MAX + 1] = {0};
    bench.parallel[1] = &parallel_serial;
    for (uint32_t threads = 2; threads <= BENCH_THREADS_MAX; threads++) {
        pools[threads] = pool_create(threads);
        CHECK(pools[threads] != NULL);
        bench.parallel[threads] = pool_parallel(pools[threads]);
    }
    (void)mkdir("build", 0755);
    (void)mkdir(OUT_FOLDER, 0755);
    if (bench.kernels == NULL || bench.openblas == NULL) {
        (void)fprintf(stderr, "bench_engine: %s\n",
                      bench.kernels == NULL ? note.text : "no OpenBLAS to compare with");
        return 1;
    }
    (void)printf("  ours: %s; OpenBLAS: %s\n", kernels_name(bench.kernels), bench.openblas);
    bench_limits(&bench);
    if (wanted(only, "products")) {
        bench_products(&bench);
    }
    if (wanted(only, "serving")) {
        bench_serving(&bench);
    }
    if (wanted(only, "serving") || wanted(only, "adapters")) {
        bench_adapters(&bench);
    }
    if (wanted(only, "training")) {
        bench_training(&bench);
    }
    if (wanted(only, "memory")) {
        bench_memory(&bench);
    }
    if (wanted(only, "tokenize")) {
        bench_tokenize(&bench);
    }
    bool ok = report_write(&bench);
    free(bench.read);
    for (uint32_t threads = 2; threads <= BENCH_THREADS_MAX; threads++) {
        pool_destroy(pools[threads]);
    }
    if (bench.missing > 0) {
        (void)fprintf(stderr, "bench_engine: %u comparisons without their peer\n", bench.missing);
    }
    return ok ? 0 : 1;
}
