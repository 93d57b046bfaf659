/* engine_training.c - optimiser steps against PyTorch: the same shapes, tokens and work. See
 * engine_bench.h and peer_torch.py. */
#include <stdio.h>
#include <stdlib.h>

#include "shared/base/buf.h"
#include "shared/base/check.h"
#include "shared/base/note.h"
#include "shared/lm/train.h"
#include "tests/bench/engine_bench.h"

enum { CONTEXT = 256, EXAMPLES_MAX = 8, RANK = 8 };

struct training {
    const char *key, *shape;
    bool full;
    uint32_t examples; /* of CONTEXT tokens in a step, as in peer_torch.py */
};

struct step {
    struct lm_trainer *trainer;
    const struct parallel *parallel;
    struct lm_example examples[EXAMPLES_MAX];
    uint32_t count;
};

static double step_rate(void *argument)
{
    struct step *step = argument;
    const double start = bench_now_s();
    struct lm_step_report report;
    struct note note = {0};
    enum err err =
        lm_trainer_step(step->trainer, step->examples, step->count, step->parallel, &report, &note);
    CHECK(err == ERR_OK);
    return CONTEXT * step->count / (bench_now_s() - start);
}

static struct lm_trainer *trainer_make(const struct bench *bench, const struct training *training,
                                       struct lm_model **out_model)
{
    struct lm_trainer *trainer = NULL;
    struct note note = {0};
    const struct lm_config config = bench_shape(training->shape);
    struct lm_train_options options =
        training->full ? lm_pretrain_defaults() : lm_finetune_defaults();
    options.step_count = 1000;
    enum err err = ERR_OK;
    if (training->full) {
        err = lm_trainer_create_full(&config, &options, bench->kernels, &trainer, &note);
    } else {
        struct lm_adapter_config adapter = {
            .rank = RANK, .alpha = 2.0F * RANK, .targets = LM_TARGETS_ALL};
        const struct lm_load how = {.kernels = bench->kernels};
        *out_model = bench_model(&config, &how);
        err = lm_trainer_create_adapter(*out_model, &adapter, &options, NULL, &trainer, &note);
    }
    if (err != ERR_OK) {
        (void)fprintf(stderr, "%s\n", note.text);
    }
    CHECK(err == ERR_OK);
    return trainer;
}

static struct bench_peer *torch_start(const struct training *training, uint32_t threads)
{
    char number[16];
    char shape[8];
    char python[] = "/usr/bin/python3"; /* Debian's: that is where python3-torch is */
    char script[] = "tests/bench/peer_torch.py";
    char lora[] = "lora";
    char full[] = "full";
    (void)snprintf(number, sizeof number, "%u", threads);
    (void)snprintf(shape, sizeof shape, "%s", training->shape);
    char *argv[] = {python, script, training->full ? full : lora, shape, number, NULL};
    return bench_peer_start(argv, threads);
}

static void training_one(struct bench *bench, const struct training *training, uint32_t threads)
{
    struct step step = {.parallel = bench->parallel[threads], .count = training->examples};
    struct lm_model *model = NULL;
    const struct lm_config config = bench_shape(training->shape);
    uint32_t *tokens = malloc((CONTEXT + 1) * sizeof *tokens * training->examples);
    CHECK(tokens != NULL);
    for (uint32_t i = 0; i < (CONTEXT + 1) * training->examples; i++) {
        tokens[i] = 3 + i * 7919U % (config.vocab - 3);
    }
    for (uint32_t i = 0; i < training->examples; i++) {
        step.examples[i] =
            (struct lm_example){.tokens = tokens + (size_t)i * (CONTEXT + 1), .count = CONTEXT + 1};
    }
    step.trainer = trainer_make(bench, training, &model);
    struct bench_row row = {.key = training->key,
                            .name = training->shape,
                            .peer = "PyTorch",
                            .unit = "tok/s",
                            .threads = threads};
    struct bench_peer *torch = torch_start(training, threads);
    struct bench_question question = {torch, "train"};
    const bool ok = bench_turns(&(struct bench_side){step_rate, &step},
                                &(struct bench_side){bench_peer_rate, &question}, &row);
    (void)snprintf(row.kernel, sizeof row.kernel, "%s", bench_peer_kernel(torch));
    if (bench_peer_stop(torch) && ok) {
        bench_report(bench, &row);
    } else {
        bench->missing++;
    }
    lm_trainer_destroy(step.trainer);
    lm_model_destroy(model);
    free(tokens);
}

void bench_training(struct bench *bench)
{
    static const struct training TRAININGS[] = {
        {"train_vs_pytorch_12m", "12m", false, 8},
        {"train_vs_pytorch_135m", "135m", false, 4},
        {"pretrain_vs_pytorch", "3m", true, 8},
        {"pretrain_vs_pytorch", "12m", true, 8},
    };
    for (size_t i = 0; i < sizeof TRAININGS / sizeof TRAININGS[0]; i++) {
        for (uint32_t threads = 1; threads <= BENCH_THREADS_MAX; threads++) {
            training_one(bench, &TRAININGS[i], threads);
        }
    }
}
