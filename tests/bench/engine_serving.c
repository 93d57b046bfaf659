/* engine_serving.c - prefill and decode of the 135M shape against llama.cpp with the same weights.
 * See engine_bench.h and peer_llama.mjs. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shared/base/buf.h"
#include "shared/base/check.h"
#include "shared/base/note.h"
#include "shared/lm/model.h"
#include "shared/lm/session.h"
#include "tests/bench/engine_bench.h"

enum { PROMPT = 512, AHEAD = 64, STEPS = 64 };

struct lm_model *bench_model(const struct lm_config *config, const struct lm_load *how)
{
    float *weights = bench_weights(config);
    struct buf json;
    struct buf file;
    struct note note = {0};
    struct lm_model *model = NULL;
    buf_init(&json, LM_CONFIG_SIZE_MAX);
    buf_init(&file, lm_config_weights(config) * 2 + (1UL << 20));
    bool ok = lm_config_write(config, &json) == ERR_OK &&
              bench_safetensors(config, weights, &file) &&
              lm_model_load(buf_bytes(&json), buf_bytes(&file), how, &model, &note) == ERR_OK;
    if (!ok) {
        (void)fprintf(stderr, "bench_engine: %s\n", note.text);
    }
    CHECK(ok);
    buf_deinit(&file);
    buf_deinit(&json);
    free(weights);
    return model;
}

struct serving {
    const struct parallel *parallel;
    struct lm_batch *batch;
    struct lm_session *session;
    uint32_t tokens[PROMPT];
    float *logits;
};

static void run(struct serving *serving, const uint32_t *tokens, uint32_t count)
{
    struct lm_step step = {.session = serving->session,
                           .tokens = tokens,
                           .token_count = count,
                           .out_logits = serving->logits};
    struct note note = {0};
    enum err err = lm_batch_step(serving->batch, &step, 1, serving->parallel, &note);
    CHECK(err == ERR_OK);
}

static void prefill(void *argument)
{
    struct serving *serving = argument;
    lm_session_truncate(serving->session, 0);
    run(serving, serving->tokens, PROMPT);
}

static double decode_rate(struct serving *serving)
{
    lm_session_truncate(serving->session, 0);
    run(serving, serving->tokens, AHEAD);
    const double start = bench_now_s();
    for (uint32_t i = 0; i < STEPS; i++) {
        run(serving, serving->tokens + AHEAD + i, 1);
    }
    return STEPS / (bench_now_s() - start);
}

/* One precision of ours, and llama.cpp's file of the same kind. Keys are NULL for orientation. */
struct precision {
    const char *prefill_name, *decode_name;
    const char *prefill_key, *decode_key, *bandwidth_key, *scaling_key;
    const char *gguf, *peer; /* NULL: no peer of this kind */
    enum bench_gguf type;
    enum lm_precision precision;
    uint32_t weight_bytes_32; /* bytes that 32 weights of a matrix take */
};

struct rates {
    double prefill[BENCH_THREADS_MAX + 1], decode[BENCH_THREADS_MAX + 1];
};

static struct rates ours_measure(const struct bench *bench, const struct lm_model *model)
{
    const struct lm_config *config = lm_model_config(model);
    struct rates rates = {0};
    struct serving serving = {.logits = malloc(config->vocab * sizeof(float))};
    enum err err = lm_batch_create(model, PROMPT, &serving.batch);
    if (err == ERR_OK) {
        err = lm_session_create(model, PROMPT + AHEAD + STEPS, &serving.session);
    }
    CHECK(err == ERR_OK && serving.logits != NULL);
    for (uint32_t i = 0; i < PROMPT; i++) {
        serving.tokens[i] = 3 + i * 7919U % 49000U;
    }
    for (uint32_t threads = 1; threads <= BENCH_THREADS_MAX; threads++) {
        serving.parallel = bench->parallel[threads];
        rates.prefill[threads] = PROMPT / bench_time_s(BENCH_REPEATS, prefill, &serving);
        struct bench_samples decode = {0};
        (void)decode_rate(&serving);
        for (uint32_t i = 0; i < BENCH_REPEATS; i++) {
            bench_add(&decode, decode_rate(&serving));
        }
        rates.decode[threads] = bench_median(&decode);
    }
    lm_session_destroy(serving.session);
    lm_batch_destroy(serving.batch);
    free(serving.logits);
    return rates;
}

static bool llama_measure(const char *path, uint32_t threads, double *out_prefill,
                          double *out_decode)
{
    char number[16];
    char repeats[16];
    char file[256];
    (void)snprintf(number, sizeof number, "%u", threads);
    (void)snprintf(repeats, sizeof repeats, "%d", BENCH_REPEATS);
    (void)snprintf(file, sizeof file, "%s", path);
    char node[] = "node";
    char script[] = "tests/bench/peer_llama.mjs";
    char *argv[] = {node, script, file, number, repeats, NULL};
    struct bench_series series[] = {{.name = "prefill"}, {.name = "decode"}};
    if (!bench_peer(argv, threads, series, 2)) {
        return false;
    }
    *out_prefill = bench_median(&series[0].samples);
    *out_decode = bench_median(&series[1].samples);
    return true;
}

static void compare(struct bench *bench, const struct precision *precision,
                    const struct rates *rates, uint64_t bytes)
{
    char path[256];
    (void)snprintf(path, sizeof path, "%s/%s", bench->folder, precision->gguf);
    for (uint32_t threads = 1; threads <= BENCH_THREADS_MAX; threads++) {
        struct bench_row prefill_row = {.key = precision->prefill_key,
                                        .name = precision->prefill_name,
                                        .unit = "tok/s",
                                        .threads = threads,
                                        .ours = rates->prefill[threads]};
        struct bench_row decode_row = {.key = precision->decode_key,
                                       .name = precision->decode_name,
                                       .unit = "tok/s",
                                       .threads = threads,
                                       .ours = rates->decode[threads]};
        if (precision->gguf != NULL &&
            llama_measure(path, threads, &prefill_row.theirs, &decode_row.theirs)) {
            prefill_row.peer = precision->peer;
            decode_row.peer = precision->peer;
            prefill_row.ratio = prefill_row.ours / prefill_row.theirs;
            decode_row.ratio = decode_row.ours / decode_row.theirs;
        } else if (precision->gguf != NULL) {
            bench->missing++;
        }
        bench_report(bench, &prefill_row);
        bench_report(bench, &decode_row);
        const double gb_s = 1e-9 * (double)bytes * rates->decode[threads];
        bench_report(bench, &(struct bench_row){.key = precision->bandwidth_key,
                                                .name = precision->decode_name,
                                                .peer = "read ceiling",
                                                .unit = "GB/s",
                                                .threads = threads,
                                                .ours = gb_s,
                                                .theirs = bench->read_gb_s[threads],
                                                .ratio = gb_s / bench->read_gb_s[threads]});
    }
}

void bench_serving(struct bench *bench)
{
    static const struct precision PRECISIONS[] = {
        {.prefill_name = "prefill 512, f16",
         .decode_name = "decode 64 after 64, f16",
         .prefill_key = "prefill_vs_llamacpp_f16",
         .decode_key = "decode_vs_llamacpp_f16",
         .bandwidth_key = "decode_bandwidth_share",
         .scaling_key = "thread_scaling",
         .gguf = "random-135m-f16.gguf",
         .peer = "llama.cpp F16",
         .type = BENCH_GGUF_F16,
         .precision = LM_F16,
         .weight_bytes_32 = 64},
        {.prefill_name = "prefill 512, int8",
         .decode_name = "decode 64 after 64, int8",
         .prefill_key = "prefill_vs_llamacpp_q8",
         .decode_key = "decode_vs_llamacpp_q8",
         .gguf = "random-135m-q8_0.gguf",
         .peer = "llama.cpp Q8_0",
         .type = BENCH_GGUF_Q8_0,
         .precision = LM_INT8,
         .weight_bytes_32 = KERNELS_Q8_SIZE},
    };
    const struct lm_config config = bench_shape("135m");
    float *weights = bench_weights(&config);
    for (size_t i = 0; i < sizeof PRECISIONS / sizeof PRECISIONS[0]; i++) {
        const struct precision *precision = &PRECISIONS[i];
        char path[256];
        (void)snprintf(path, sizeof path, "%s/%s", bench->folder, precision->gguf);
        bool written = bench_gguf_write(&config, weights, precision->type, path);
        CHECK(written);
        const struct lm_load how = {
            .kernels = bench->kernels, .precision = precision->precision, .serve_only = true};
        struct lm_model *model = bench_model(&config, &how);
        const struct rates rates = ours_measure(bench, model);
        lm_model_destroy(model);
        compare(bench, precision, &rates,
                lm_config_weights(&config) / 32 * precision->weight_bytes_32);
        if (precision->scaling_key != NULL) {
            bench_report(bench, &(struct bench_row){.key = precision->scaling_key,
                                                    .name = precision->prefill_name,
                                                    .peer = "one thread",
                                                    .unit = "tok/s",
                                                    .threads = BENCH_THREADS_MAX,
                                                    .ours = rates.prefill[BENCH_THREADS_MAX],
                                                    .theirs = rates.prefill[1],
                                                    .ratio = rates.prefill[BENCH_THREADS_MAX] /
                                                             rates.prefill[1]});
        }
        (void)remove(path);
    }
    free(weights);
}
