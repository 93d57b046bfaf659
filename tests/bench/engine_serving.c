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

static double prefill_rate(void *argument)
{
    struct serving *serving = argument;
    lm_session_truncate(serving->session, 0);
    const double start = bench_now_s();
    run(serving, serving->tokens, PROMPT);
    return PROMPT / (bench_now_s() - start);
}

static double decode_rate(void *argument)
{
    struct serving *serving = argument;
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
    const char *gguf, *peer;
    enum bench_gguf type;
    enum lm_precision precision;
    uint32_t weight_bytes_32; /* bytes that 32 weights of a matrix take */
};

static void serving_make(struct serving *serving, const struct lm_model *model)
{
    const struct lm_config *config = lm_model_config(model);
    *serving = (struct serving){.logits = malloc(config->vocab * sizeof(float))};
    enum err err = lm_batch_create(model, PROMPT, &serving->batch);
    if (err == ERR_OK) {
        err = lm_session_create(model, PROMPT + AHEAD + STEPS, &serving->session);
    }
    CHECK(err == ERR_OK && serving->logits != NULL);
    for (uint32_t i = 0; i < PROMPT; i++) {
        serving->tokens[i] = 3 + i * 7919U % 49000U;
    }
}

static void serving_free(struct serving *serving)
{
    lm_session_destroy(serving->session);
    lm_batch_destroy(serving->batch);
    free(serving->logits);
}

static struct bench_peer *llama_start(const char *path, uint32_t threads)
{
    char number[16];
    char file[256];
    (void)snprintf(number, sizeof number, "%u", threads);
    (void)snprintf(file, sizeof file, "%s", path);
    char node[] = "node";
    char script[] = "tests/bench/peer_llama.mjs";
    char *argv[] = {node, script, file, number, NULL};
    return bench_peer_start(argv, threads);
}

/* Against llama.cpp, and decoding against the read ceiling. bytes: of the weights that a token reads. */
static void compare(struct bench *bench, const struct precision *precision, struct serving *serving,
                    uint32_t threads, double bytes)
{
    char path[256];
    struct bench_row prefill = {.key = precision->prefill_key,
                                .name = precision->prefill_name,
                                .peer = precision->peer,
                                .unit = "tok/s",
                                .threads = threads};
    struct bench_row decode = prefill;
    decode.key = precision->decode_key;
    decode.name = precision->decode_name;
    (void)snprintf(path, sizeof path, "%s/%s", bench->folder, precision->gguf);
    serving->parallel = bench->parallel[threads];
    struct bench_peer *llama = llama_start(path, threads);
    struct bench_question prompt = {llama, "prefill"};
    struct bench_question answer = {llama, "decode"};
    bool ok = bench_turns(&(struct bench_side){prefill_rate, serving},
                          &(struct bench_side){bench_peer_rate, &prompt}, &prefill) &&
              bench_turns(&(struct bench_side){decode_rate, serving},
                          &(struct bench_side){bench_peer_rate, &answer}, &decode);
    if (bench_peer_stop(llama) && ok) {
        bench_report(bench, &prefill);
        bench_report(bench, &decode);
    } else {
        bench->missing++;
    }
    if (bench->read != NULL) {
        struct bench_reader reader = {bench, threads};
        struct bench_row share = {.key = precision->bandwidth_key,
                                  .name = precision->decode_name,
                                  .peer = "read ceiling",
                                  .unit = "GB/s",
                                  .threads = threads};
        (void)bench_turns(&(struct bench_side){decode_rate, serving},
                          &(struct bench_side){bench_read_gb_s, &reader}, &share);
        share.ours *= 1e-9 * bytes;
        share.ratio *= 1e-9 * bytes;
        bench_report(bench, &share);
    }
}

static void compare_threads(struct bench *bench, const struct precision *precision,
                            struct serving *serving)
{
    struct serving alone = *serving; /* the same session, in turns */
    struct bench_row row = {.key = precision->scaling_key,
                            .name = precision->prefill_name,
                            .peer = "one thread",
                            .unit = "tok/s",
                            .threads = BENCH_THREADS_MAX};
    alone.parallel = bench->parallel[1];
    serving->parallel = bench->parallel[BENCH_THREADS_MAX];
    (void)bench_turns(&(struct bench_side){prefill_rate, serving},
                      &(struct bench_side){prefill_rate, &alone}, &row);
    bench_report(bench, &row);
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
        struct serving serving;
        serving_make(&serving, model);
        for (uint32_t threads = 1; threads <= BENCH_THREADS_MAX; threads++) {
            const uint64_t bytes = lm_config_weights(&config) / 32 * precision->weight_bytes_32;
            compare(bench, precision, &serving, threads, (double)bytes);
        }
        compare_threads(bench, precision, &serving);
        serving_free(&serving);
        lm_model_destroy(model);
        (void)remove(path);
    }
    free(weights);
}
