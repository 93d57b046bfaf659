/* session.c - sequences with a cache, run together. See session.h. */
#include "shared/lm/session.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "shared/base/check.h"
#include "shared/base/note.h"
#include "shared/lm/engine.h"

static_assert(LM_HEAD_ROWS >= LM_BATCH_STEPS_MAX, "every step's last row fits the head at once");

struct lm_session {
    const struct lm_model *model;
    uint32_t length, capacity;
    float *k, *v; /* [layer][capacity][kv width]; one allocation, k first */
};

struct lm_batch {
    const struct lm_model *model;
    struct lm_acts acts;
    uint32_t *tokens, *positions; /* [rows_max] */
    struct lm_segment segments[LM_BATCH_STEPS_MAX];
    struct lm_span spans[LM_BATCH_STEPS_MAX];
    struct kernels_sequence sequences[LM_BATCH_STEPS_MAX];
};

static size_t cache_count(const struct lm_config *config, uint32_t capacity)
{
    return (size_t)config->layer_count * capacity * lm_kv_width(config);
}

uint64_t lm_session_memory(const struct lm_config *config, uint32_t capacity)
{
    return sizeof(struct lm_session) + 2 * cache_count(config, capacity) * sizeof(float);
}

enum err lm_session_create(const struct lm_model *model, uint32_t capacity, struct lm_session **out)
{
    const struct lm_config *config = &model->net.config;
    if (capacity < 1 || capacity > config->context) {
        return ERR_RANGE;
    }
    size_t count = cache_count(config, capacity);
    struct lm_session *session = calloc(1, sizeof *session);
    float *memory = malloc(2 * count * sizeof *memory);
    if (session == NULL || memory == NULL) {
        free(session);
        free(memory);
        return ERR_NO_MEMORY;
    }
    *session =
        (struct lm_session){.model = model, .capacity = capacity, .k = memory, .v = memory + count};
    *out = session;
    return ERR_OK;
}

void lm_session_destroy(struct lm_session *session)
{
    if (session != NULL) {
        free(session->k);
        free(session);
    }
}

uint32_t lm_session_length(const struct lm_session *session)
{
    return session->length;
}

uint32_t lm_session_capacity(const struct lm_session *session)
{
    return session->capacity;
}

void lm_session_truncate(struct lm_session *session, uint32_t length)
{
    CHECK(length <= session->length);
    session->length = length;
}

enum err lm_batch_create(const struct lm_model *model, uint32_t rows_max, struct lm_batch **out)
{
    if (rows_max < 1 || rows_max > LM_BATCH_ROWS_MAX) {
        return ERR_RANGE;
    }
    struct lm_batch *batch = calloc(1, sizeof *batch);
    if (batch == NULL) {
        return ERR_NO_MEMORY;
    }
    batch->model = model;
    batch->tokens = malloc(rows_max * sizeof *batch->tokens);
    batch->positions = malloc(rows_max * sizeof *batch->positions);
    enum err err =
        batch->tokens == NULL || batch->positions == NULL
            ? ERR_NO_MEMORY
            : lm_acts_init(&batch->acts, &model->net, rows_max, LM_RANK_MAX, LM_KEEP_NOTHING);
    if (err != ERR_OK) {
        lm_batch_destroy(batch);
        return err;
    }
    *out = batch;
    return ERR_OK;
}

void lm_batch_destroy(struct lm_batch *batch)
{
    if (batch != NULL) {
        lm_acts_deinit(&batch->acts);
        free(batch->tokens);
        free(batch->positions);
        free(batch);
    }
}

static enum err steps_check(const struct lm_batch *batch, const struct lm_step *steps,
                            uint32_t step_count, struct note *note)
{
    if (step_count < 1 || step_count > LM_BATCH_STEPS_MAX) {
        return note_set(note, ERR_RANGE, "%u sequences in a batch, allowed are 1 to %u", step_count,
                        LM_BATCH_STEPS_MAX);
    }
    uint64_t rows = 0;
    for (uint32_t i = 0; i < step_count; i++) {
        const struct lm_step *step = &steps[i];
        const struct lm_session *session = step->session;
        CHECK(session->model == batch->model);
        for (uint32_t other = 0; other < i; other++) {
            CHECK(steps[other].session != session);
        }
        if (step->token_count < 1 || step->token_count > session->capacity - session->length) {
            return note_set(note, ERR_RANGE,
                            "%u more tokens do not fit a sequence of %u with room for %u",
                            step->token_count, session->length, session->capacity);
        }
        for (uint32_t t = 0; t < step->token_count; t++) {
            if (step->tokens[t] >= batch->model->net.config.vocab) {
                return note_set(note, ERR_RANGE, "token %u is not below the vocabulary of %u",
                                step->tokens[t], batch->model->net.config.vocab);
            }
        }
        rows += step->token_count;
    }
    if (rows > batch->acts.rows) {
        return note_set(note, ERR_RANGE, "%llu tokens in a batch made for %zu",
                        (unsigned long long)rows, batch->acts.rows);
    }
    return ERR_OK;
}

/* Lays the steps out as rows; neighbours under one adapter share a segment. */
static void pass_fill(struct lm_batch *batch, const struct lm_step *steps, uint32_t step_count,
                      struct lm_pass *pass)
{
    size_t row = 0;
    for (uint32_t i = 0; i < step_count; i++) {
        const struct lm_step *step = &steps[i];
        const struct lm_lora *lora = step->adapter == NULL ? NULL : &step->adapter->lora;
        struct lm_session *session = step->session;
        batch->spans[i] = (struct lm_span){.row = row,
                                           .count = step->token_count,
                                           .start = session->length,
                                           .cache_k = session->k,
                                           .cache_v = session->v,
                                           .capacity = session->capacity};
        if (pass->segment_count > 0 && batch->segments[pass->segment_count - 1].lora == lora) {
            batch->segments[pass->segment_count - 1].count += step->token_count;
        } else {
            batch->segments[pass->segment_count++] =
                (struct lm_segment){.lora = lora, .row = row, .count = step->token_count};
        }
        for (uint32_t t = 0; t < step->token_count; t++, row++) {
            batch->tokens[row] = step->tokens[t];
            batch->positions[row] = session->length + t;
        }
    }
    pass->rows = row;
}

enum err lm_batch_step(struct lm_batch *batch, const struct lm_step *steps, uint32_t step_count,
                       const struct parallel *parallel, struct note *note)
{
    enum err err = steps_check(batch, steps, step_count, note);
    if (err != ERR_OK) {
        return err;
    }
    const struct lm_net *net = &batch->model->net;
    struct lm_pass pass = {.net = net,
                           .parallel = parallel,
                           .acts = &batch->acts,
                           .tokens = batch->tokens,
                           .positions = batch->positions,
                           .segments = batch->segments,
                           .spans = batch->spans,
                           .span_count = step_count,
                           .sequences = batch->sequences};
    pass_fill(batch, steps, step_count, &pass);
    lm_forward(&pass);
    size_t hidden = net->config.hidden;
    size_t vocab = net->config.vocab;
    size_t wanted = 0;
    for (uint32_t i = 0; i < step_count; i++) {
        if (steps[i].out_logits != NULL) {
            size_t last = batch->spans[i].row + batch->spans[i].count - 1;
            memcpy(batch->acts.head + wanted++ * hidden, batch->acts.final + last * hidden,
                   hidden * sizeof(float));
        }
    }
    lm_head(net, parallel, &batch->acts, wanted);
    if (!kernels_all_finite(net->kernels, wanted * vocab, batch->acts.logits)) {
        return note_set(note, ERR_INVALID, "a logit is not finite");
    }
    wanted = 0;
    for (uint32_t i = 0; i < step_count; i++) {
        if (steps[i].out_logits != NULL) {
            memcpy(steps[i].out_logits, batch->acts.logits + wanted++ * vocab,
                   vocab * sizeof(float));
        }
        steps[i].session->length += steps[i].token_count;
    }
    return ERR_OK;
}
