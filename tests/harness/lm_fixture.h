/* lm_fixture.h - a tiny random model, adapters and texts for tests of shared/lm. */
#pragma once

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/kernels.h"
#include "shared/base/buf.h"
#include "shared/base/note.h"
#include "shared/lm/philox.h"
#include "shared/lm/train.h"

enum { FIXTURE_CONTEXT = 300 }; /* crosses the attention block of 256 */

/* Every width is odd in some way: no multiple of a panel, heads that share keys. */
static inline struct lm_config fixture_config(bool tied)
{
    return (struct lm_config){.hidden = 40,
                              .ffn = 72,
                              .layer_count = 2,
                              .head_count = 4,
                              .kv_head_count = 2,
                              .head_dim = 10,
                              .vocab = 67,
                              .context = FIXTURE_CONTEXT,
                              .norm_epsilon = 1e-5F,
                              .rope_theta = 10000.0F,
                              .tied = tied,
                              .bos = LM_NO_TOKEN,
                              .eos = 0};
}

static inline const struct parallel *fixture_serial(void)
{
    return &parallel_serial;
}

static inline void fixture_tokens(uint64_t seed, uint32_t vocab, uint32_t count, uint32_t *out)
{
    for (uint32_t i = 0; i < count; i++) {
        out[i] = (uint32_t)philox_below(seed, PHILOX_DEMO, i, vocab);
    }
}

/* A trainer of all weights that has done a few large steps: weights are no longer tiny. */
static inline struct lm_trainer *fixture_trainer(const struct kernels *kernels, bool tied,
                                                 uint32_t steps)
{
    struct lm_config config = fixture_config(tied);
    struct lm_train_options options = lm_pretrain_defaults();
    options.seed = 7;
    options.warmup_count = 0;
    options.learning_rate = 0.02F;
    options.step_count = 100;
    struct lm_trainer *trainer = NULL;
    struct note note = {0};
    ck_assert_msg(lm_trainer_create_full(&config, &options, kernels, &trainer, &note) == ERR_OK,
                  "%s", note.text);
    for (uint32_t step = 0; step < steps; step++) {
        uint32_t tokens[40];
        fixture_tokens(step, config.vocab, 40, tokens);
        struct lm_example example = {.tokens = tokens, .count = 40};
        struct lm_step_report report;
        ck_assert_int_eq(lm_trainer_step(trainer, &example, 1, &parallel_serial, &report, &note),
                         ERR_OK);
    }
    return trainer;
}

static inline struct lm_model *fixture_model(const struct kernels *kernels)
{
    struct lm_trainer *trainer = fixture_trainer(kernels, true, 5);
    struct lm_model *model = NULL;
    ck_assert_int_eq(lm_trainer_take_model(trainer, &model, NULL), ERR_OK);
    lm_trainer_destroy(trainer);
    return model;
}

/* An adapter whose A and B are both alive. */
static inline struct lm_adapter *fixture_adapter(const struct lm_model *model, uint32_t rank,
                                                 uint32_t targets, uint64_t seed)
{
    struct lm_adapter_config config = {
        .rank = rank, .alpha = (float)rank * 2.0F, .targets = targets};
    uint64_t size = lm_adapter_size(lm_model_config(model), &config);
    float *vector = malloc(size * sizeof *vector);
    ck_assert_ptr_nonnull(vector);
    for (uint64_t i = 0; i < size; i++) {
        vector[i] = 0.1F * philox_signed(seed, PHILOX_DEMO, i);
    }
    struct lm_adapter *adapter = NULL;
    ck_assert_int_eq(lm_adapter_create_rounded(model, &config, vector, &adapter, NULL), ERR_OK);
    free(vector);
    return adapter;
}

/* A file of ../shared/data (or OPENLEDGER_TEST_DATA); false: print SKIP and pass. */
static inline bool fixture_file(const char *name, struct buf *out)
{
    const char *root = getenv("OPENLEDGER_TEST_DATA");
    char path[1024];
    (void)snprintf(path, sizeof path, "%s/%s", root == NULL ? "../shared/data" : root, name);
    buf_init(out, (size_t)64 << 20);
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        (void)printf("SKIP: no %s\n", path);
        return false;
    }
    uint8_t chunk[65536];
    for (size_t got; (got = fread(chunk, 1, sizeof chunk, file)) > 0;) {
        (void)buf_append(out, chunk, got);
    }
    (void)fclose(file);
    return buf_err(out) == ERR_OK;
}
