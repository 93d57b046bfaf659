/* engine_adapters.c - decoding of many sequences at once on one base: each with an adapter of its own,
 * all with one adapter, and without any. See engine_bench.h.
 *
 * The three are taken in turns. The one adapter has the rank nearest to the mean of the others', so that the
 * adapters' multiply-adds are about as many: what is left between the two is what different adapters
 * cost, above all their reading. */
#include <stdio.h>
#include <stdlib.h>

#include "shared/base/check.h"
#include "shared/base/note.h"
#include "shared/lm/adapter.h"
#include "shared/lm/session.h"
#include "tests/bench/engine_bench.h"

enum { SEQUENCES = 32, AHEAD = 16, STEPS = 4, ONE_RANK = 16, ARRANGEMENTS = 3 };
static const uint32_t RANKS[] = {4, 8, 16, 32}; /* in turn: no two neighbours alike */

struct company {
    const struct lm_model *model;
    const struct parallel *parallel;
    struct lm_batch *batch;
    struct lm_session *sessions[SEQUENCES];
    struct lm_adapter *own[SEQUENCES], *one;
    float *logits; /* [SEQUENCES * vocab] */
};

/* Both matrices alive: B of a fresh adapter would be zero. */
static struct lm_adapter *adapter_make(const struct lm_model *model, uint32_t rank, uint64_t seed)
{
    const struct lm_adapter_config config = {
        .rank = rank, .alpha = 2.0F * (float)rank, .targets = LM_TARGETS_ALL};
    const uint64_t size = lm_adapter_size(lm_model_config(model), &config);
    float *vector = malloc(size * sizeof *vector);
    struct lm_adapter *adapter = NULL;
    struct note note = {0};
    CHECK(vector != NULL);
    for (uint64_t i = 0; i < size; i++) {
        const uint64_t bits = (seed * size + i) * UINT64_C(0x9E3779B97F4A7C15);
        vector[i] = (float)(int32_t)(bits >> 40) * 0x1p-29F - 0x1p-6F;
    }
    const enum err err = lm_adapter_create_rounded(model, &config, vector, &adapter, &note);
    CHECK(err == ERR_OK);
    free(vector);
    return adapter;
}

static void company_make(struct company *company, const struct lm_model *model)
{
    *company = (struct company){.model = model};
    company->logits = malloc((size_t)SEQUENCES * lm_model_config(model)->vocab * sizeof(float));
    enum err err = company->logits == NULL
                       ? ERR_NO_MEMORY
                       : lm_batch_create(model, SEQUENCES * AHEAD, &company->batch);
    for (uint32_t i = 0; i < SEQUENCES && err == ERR_OK; i++) {
        err = lm_session_create(model, AHEAD + STEPS, &company->sessions[i]);
        company->own[i] = adapter_make(model, RANKS[i % (sizeof RANKS / sizeof RANKS[0])], i);
    }
    company->one = adapter_make(model, ONE_RANK, SEQUENCES);
    CHECK(err == ERR_OK);
}

static void company_free(struct company *company)
{
    for (uint32_t i = 0; i < SEQUENCES; i++) {
        lm_session_destroy(company->sessions[i]);
        lm_adapter_destroy(company->own[i]);
    }
    lm_adapter_destroy(company->one);
    lm_batch_destroy(company->batch);
    free(company->logits);
}

/* Which adapter sequence i has: none, the one, its own. */
static const struct lm_adapter *adapter_of(const struct company *company, uint32_t arrangement,
                                           uint32_t i)
{
    return arrangement == 0 ? NULL : arrangement == 1 ? company->one : company->own[i];
}

static void step(struct company *company, uint32_t arrangement, uint32_t token_count, uint32_t seed)
{
    struct lm_step steps[SEQUENCES];
    uint32_t tokens[SEQUENCES][AHEAD];
    const uint32_t vocab = lm_model_config(company->model)->vocab;
    for (uint32_t i = 0; i < SEQUENCES; i++) {
        for (uint32_t t = 0; t < token_count; t++) {
            tokens[i][t] = 3 + (seed + i * AHEAD + t) * 7919U % (vocab - 3);
        }
        steps[i] = (struct lm_step){.session = company->sessions[i],
                                    .adapter = adapter_of(company, arrangement, i),
                                    .tokens = tokens[i],
                                    .token_count = token_count,
                                    .out_logits = company->logits + (size_t)i * vocab};
    }
    struct note note = {0};
    const enum err err = lm_batch_step(company->batch, steps, SEQUENCES, company->parallel, &note);
    CHECK(err == ERR_OK);
}

/* Tokens a second of STEPS steps behind a prompt that is not counted. */
static double decode_rate(struct company *company, uint32_t arrangement)
{
    for (uint32_t i = 0; i < SEQUENCES; i++) {
        lm_session_truncate(company->sessions[i], 0);
    }
    step(company, arrangement, AHEAD, 0);
    const double start = bench_now_s();
    for (uint32_t i = 0; i < STEPS; i++) {
        step(company, arrangement, 1, 1000 + i);
    }
    return SEQUENCES * STEPS / (bench_now_s() - start);
}

void bench_adapters(struct bench *bench)
{
    const struct lm_config config = bench_shape("135m");
    const struct lm_load how = {.kernels = bench->kernels, .precision = LM_F16, .serve_only = true};
    struct lm_model *model = bench_model(&config, &how);
    struct company company;
    company_make(&company, model);
    for (uint32_t threads = 1; threads <= BENCH_THREADS_MAX; threads++) {
        struct bench_samples samples[ARRANGEMENTS] = {0};
        company.parallel = bench->parallel[threads];
        (void)decode_rate(&company, 0);
        for (uint32_t i = 0; i < BENCH_REPEATS * ARRANGEMENTS; i++) {
            bench_add(&samples[i % ARRANGEMENTS], decode_rate(&company, i % ARRANGEMENTS));
        }
        const double own = bench_median(&samples[2]);
        static const char *const KEYS[] = {"adapters_cost", "adapters_overhead"};
        static const char *const PEERS[] = {"no adapter", "one adapter, rank 16"};
        for (uint32_t i = 0; i < 2; i++) {
            const double other = bench_median(&samples[i]);
            bench_report(bench, &(struct bench_row){.key = KEYS[i],
                                                    .name = "decode 32, an adapter each, f16",
                                                    .peer = PEERS[i],
                                                    .unit = "tok/s",
                                                    .threads = threads,
                                                    .ours = own,
                                                    .theirs = other,
                                                    .ratio = other / own});
        }
    }
    company_free(&company);
    lm_model_destroy(model);
}
