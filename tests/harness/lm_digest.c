/* lm_digest.c - see lm_digest.h. */
#include "tests/harness/lm_digest.h"

#include <stdlib.h>
#include <string.h>

#include "shared/base/buf.h"
#include "shared/base/check.h"
#include "shared/crypto/sha256.h"
#include "shared/lm/philox.h"
#include "shared/lm/session.h"
#include "shared/lm/trainer.h"
#include "shared/lm/weights.h"

enum { EXAMPLES = 8, LONGEST = 270, CONTEXT = 280, VOCAB = 91, RANK = 3, COMPANY_MAX = 128 };

/* No width is a multiple of a panel; two query heads share a key-value head. */
static const struct lm_config CONFIG = {.hidden = 40,
                                        .ffn = 56,
                                        .layer_count = 2,
                                        .head_count = 4,
                                        .kv_head_count = 2,
                                        .head_dim = 10,
                                        .vocab = VOCAB,
                                        .context = CONTEXT,
                                        .norm_epsilon = 1e-5F,
                                        .rope_theta = 10000.0F,
                                        .tied = true,
                                        .bos = LM_NO_TOKEN,
                                        .eos = 0};
static const struct lm_adapter_config ADAPTER = {
    .rank = RANK, .alpha = 2.0F * RANK, .targets = LM_TARGETS_ALL};

/* ---- training ---- */

/* Eight texts of different lengths, 6 to 18 tokens, at every tenth seed one of LONGEST; the first half
 * of every third is masked. */
struct texts {
    uint32_t tokens[EXAMPLES][LONGEST];
    uint8_t masks[EXAMPLES][LONGEST];
    struct lm_example examples[EXAMPLES];
};

static void texts_make(struct texts *texts, uint64_t seed)
{
    for (uint32_t i = 0; i < EXAMPLES; i++) {
        const uint32_t count = i == 2 && seed % 10 == 0
                                   ? LONGEST
                                   : 6 + (uint32_t)philox_below(seed, PHILOX_DEMO, i, 13);
        for (uint32_t t = 0; t < count; t++) {
            texts->tokens[i][t] =
                (uint32_t)philox_below(seed, PHILOX_DEMO, 1000 + (uint64_t)i * LONGEST + t, VOCAB);
            texts->masks[i][t] = t >= count / 2;
        }
        texts->examples[i] = (struct lm_example){.tokens = texts->tokens[i],
                                                 .mask = i % 3 == 0 ? texts->masks[i] : NULL,
                                                 .count = count};
    }
}

/* Rows that make `parts` micro-batches of the texts, or more when they cannot be so few. */
static uint32_t rows_for(const struct texts *texts, uint32_t parts)
{
    uint32_t rows = 1;
    for (;; rows++) {
        uint32_t found = 0;
        for (uint32_t first = 0; first < EXAMPLES; found++) {
            first += lm_rows_fit(texts->examples + first, EXAMPLES - first, rows);
        }
        if (found <= parts) {
            return rows;
        }
    }
}

static enum err base_make(const struct lm_digest_training *how, enum lm_precision precision,
                          struct lm_model **out, struct note *note)
{
    struct lm_train_options options = lm_pretrain_defaults();
    struct lm_trainer *trainer = NULL;
    struct texts texts;
    options.step_count = 3;
    options.warmup_count = 0;
    options.learning_rate = 0.02F;
    options.recompute = how->recompute;
    enum err err = lm_trainer_create_full(&CONFIG, &options, how->kernels, &trainer, note);
    for (uint32_t step = 0; err == ERR_OK && step < options.step_count; step++) {
        struct lm_step_report report;
        texts_make(&texts, 100 + step);
        trainer->options.micro_batch_rows = rows_for(&texts, how->micro_batches);
        err = lm_trainer_step(trainer, texts.examples, EXAMPLES, how->parallel, &report, note);
    }
    if (err == ERR_OK) {
        /* Rounded to bf16, as a shipped model, in the precision wanted. */
        const struct lm_net *net = trainer->net;
        uint16_t *halves = malloc(trainer->count * sizeof *halves);
        struct lm_view *views = calloc(net->tensor_count, sizeof *views);
        CHECK(halves != NULL && views != NULL);
        kernels_to_bf16(trainer->count, trainer->values, halves);
        for (uint32_t t = 0; t < net->tensor_count; t++) {
            const struct lm_tensor *tensor = &net->tensors[t];
            const size_t size = (size_t)tensor->rows * tensor->columns * sizeof *halves;
            views[t] = (struct lm_view){.dtype = LM_DTYPE_BF16,
                                        .rows = tensor->rows,
                                        .columns = tensor->columns,
                                        .data = bytes_of(halves + tensor->offset, size)};
        }
        const struct lm_load load = {.kernels = how->kernels, .precision = precision};
        err = lm_model_make(&net->config, views, &load, out, note);
        free(halves);
        free(views);
    }
    lm_trainer_destroy(trainer);
    return err;
}

static enum err adapter_trainer(const struct lm_model *model, const struct lm_digest_training *how,
                                struct lm_trainer **out, struct note *note)
{
    struct lm_train_options options = lm_finetune_defaults();
    options.step_count = LM_DIGEST_STEPS;
    options.weight_decay = 0.01F;
    options.recompute = how->recompute;
    return lm_trainer_create_adapter(model, &ADAPTER, &options, NULL, out, note);
}

/* Thrown away and taken up again from its checkpoint. */
static enum err interrupt(const struct lm_model *model, const struct lm_digest_training *how,
                          struct lm_trainer **trainer, struct note *note)
{
    struct buf saved;
    buf_init(&saved, 1 << 20);
    enum err err = lm_trainer_save(*trainer, &saved);
    lm_trainer_destroy(*trainer);
    *trainer = NULL;
    if (err == ERR_OK) {
        err = adapter_trainer(model, how, trainer, note);
    }
    if (err == ERR_OK) {
        err = lm_trainer_restore(*trainer, buf_bytes(&saved), note);
    }
    buf_deinit(&saved);
    return err;
}

enum err lm_digest_train(const struct lm_digest_training *how, struct digest *out,
                         struct note *note)
{
    struct record {
        struct digest model, adapter;
        double losses[LM_DIGEST_STEPS];
    } record = {.losses = {0.0}};
    struct lm_model *model = NULL;
    struct lm_trainer *trainer = NULL;
    struct texts texts;
    enum err err = base_make(how, LM_FP32, &model, note);
    if (err == ERR_OK) {
        lm_model_digest(model, &record.model);
        err = adapter_trainer(model, how, &trainer, note);
    }
    for (uint32_t step = 0; err == ERR_OK && step < LM_DIGEST_STEPS; step++) {
        struct lm_step_report report = {.loss = 0.0};
        if (step > 0 && step == how->cut) {
            err = interrupt(model, how, &trainer, note);
        }
        texts_make(&texts, step);
        if (err == ERR_OK) {
            trainer->options.micro_batch_rows = rows_for(&texts, how->micro_batches);
            err = lm_trainer_step(trainer, texts.examples, EXAMPLES, how->parallel, &report, note);
        }
        record.losses[step] = report.loss;
    }
    if (err == ERR_OK) {
        lm_trainer_digest(trainer, &record.adapter);
        sha256(bytes_of(&record, sizeof record), out);
    }
    lm_trainer_destroy(trainer);
    lm_model_destroy(model);
    return err;
}

/* ---- serving ---- */

enum { TEXT = LM_DIGEST_PROMPT + LM_DIGEST_ANSWER };

struct serving {
    const struct lm_digest_serving *how;
    struct lm_batch *batch;
    struct lm_session *sessions[COMPANY_MAX];
    uint32_t tokens[COMPANY_MAX][TEXT];
    struct lm_adapter *adapter;
};

/* One batch: count tokens of our text from `first` on, and something of everyone else. Ours stands in
 * the middle; every other sequence has the adapter. */
/* NOLINTNEXTLINE(readability-non-const-parameter): goes into a step */
static enum err serve_step(struct serving *serving, uint32_t first, uint32_t count, float *logits,
                           struct note *note)
{
    struct lm_step steps[COMPANY_MAX];
    const uint32_t company = serving->how->company;
    const uint32_t ours = company / 2;
    for (uint32_t i = 0; i < company; i++) {
        const uint32_t other = 1 + (i + first) % 3;
        if (i != ours && lm_session_length(serving->sessions[i]) + other > TEXT) {
            lm_session_truncate(serving->sessions[i], 0);
        }
        steps[i] = (struct lm_step){
            .session = serving->sessions[i],
            .adapter = i == ours || i % 2 == 0 ? serving->adapter : NULL,
            .tokens =
                serving->tokens[i] + (i == ours ? first : lm_session_length(serving->sessions[i])),
            .token_count = i == ours ? count : other,
            .out_logits = i == ours ? logits : NULL,
        };
    }
    return lm_batch_step(serving->batch, steps, company, serving->how->parallel, note);
}

/* Our text's tokens [0, end): the logits after the last. */
static enum err serve_text(struct serving *serving, uint32_t end, float *logits, struct note *note)
{
    struct lm_session *session = serving->sessions[serving->how->company / 2];
    enum err err = ERR_OK;
    if (serving->how->forget) {
        lm_session_truncate(session, 0);
    }
    while (err == ERR_OK && lm_session_length(session) < end) {
        const uint32_t first = lm_session_length(session);
        const uint32_t left = end - first;
        err = serve_step(serving, first, left < serving->how->chunk ? left : serving->how->chunk,
                         logits, note);
    }
    return err;
}

enum err lm_digest_serve(const struct lm_digest_serving *how, struct digest *out, struct note *note)
{
    CHECK(how->chunk >= 1);
    CHECK(how->company >= 1 && how->company <= COMPANY_MAX);
    struct serving *serving = calloc(1, sizeof *serving);
    CHECK(serving != NULL);
    serving->how = how;
    const struct lm_digest_training training = {
        .kernels = how->kernels, .parallel = how->parallel, .micro_batches = 1};
    struct lm_model *model = NULL;
    float logits[LM_DIGEST_ANSWER + 1][VOCAB];
    enum err err = base_make(&training, how->int8 ? LM_INT8 : LM_FP32, &model, note);
    if (err == ERR_OK) {
        float *vector = calloc(lm_adapter_size(&CONFIG, &ADAPTER), sizeof *vector);
        CHECK(vector != NULL);
        for (uint64_t i = 0; i < lm_adapter_size(&CONFIG, &ADAPTER); i++) {
            vector[i] = 0.1F * philox_signed(8, PHILOX_DEMO, i);
        }
        err = lm_adapter_create_rounded(model, &ADAPTER, vector, &serving->adapter, note);
        free(vector);
    }
    if (err == ERR_OK) {
        err = lm_batch_create(model, TEXT + 3 * COMPANY_MAX, &serving->batch);
    }
    for (uint32_t i = 0; err == ERR_OK && i < how->company; i++) {
        err = lm_session_create(model, TEXT, &serving->sessions[i]);
        for (uint32_t t = 0; t < TEXT; t++) {
            const uint64_t seed = i == how->company / 2 ? 0 : i + 1;
            serving->tokens[i][t] = (uint32_t)philox_below(seed, PHILOX_DEMO, t, VOCAB);
        }
    }
    for (uint32_t i = 0; err == ERR_OK && i <= LM_DIGEST_ANSWER; i++) {
        err = serve_text(serving, LM_DIGEST_PROMPT + i, logits[i], note);
    }
    if (err == ERR_OK) {
        sha256(bytes_of(logits, sizeof logits), out);
    }
    for (uint32_t i = 0; i < how->company; i++) {
        lm_session_destroy(serving->sessions[i]);
    }
    lm_batch_destroy(serving->batch);
    lm_adapter_destroy(serving->adapter);
    lm_model_destroy(model);
    free(serving);
    return err;
}
