/* session.h - serving: sequences with a key-value cache, run together in batches.
 *
 * One lm_batch_step() takes any mix of prefill chunks and single tokens, each with its own adapter
 * or none; all rows go through the base's matrices together. A sequence's logits are the same bits
 * whatever else is in the batch, however its prompt was chunked, and with or without the cache.
 *
 * A session belongs to one thread at a time; the model and adapters are shared. */
#pragma once

#include <stdint.h>

#include "shared/base/err.h"
#include "shared/base/parallel.h"
#include "shared/lm/adapter.h"
#include "shared/lm/model.h"

#define LM_BATCH_STEPS_MAX 256U /* sequences in one step */
#define LM_BATCH_ROWS_MAX 8192U /* tokens in one step, all sequences together */

struct lm_session;

/* capacity: positions to hold, 1..context of the model. All memory is taken here. */
MUST_USE enum err lm_session_create(const struct lm_model *model, uint32_t capacity,
                                    struct lm_session **out);

/* Accepts NULL. */
void lm_session_destroy(struct lm_session *session);

/* Positions in the cache: the number of tokens run so far. */
uint32_t lm_session_length(const struct lm_session *session);
uint32_t lm_session_capacity(const struct lm_session *session);

/* Forgets positions from `length` on (to reuse a shared prefix, or 0 to start again).
 * length <= lm_session_length. */
void lm_session_truncate(struct lm_session *session, uint32_t length);

/* Bytes a session of this capacity takes. */
uint64_t lm_session_memory(const struct lm_config *config, uint32_t capacity);

struct lm_step {
    struct lm_session *session;       /* no session twice in one batch */
    const struct lm_adapter *adapter; /* NULL: the base model; the same for the session's life */
    const uint32_t *tokens;           /* token_count >= 1 ids, each < vocab */
    uint32_t token_count;
    float *out_logits; /* vocab floats: logits after the last token; NULL if not wanted */
};

/* Scratch memory for batches; reused from call to call, one per calling thread. */
struct lm_batch;

MUST_USE enum err lm_batch_create(const struct lm_model *model, uint32_t rows_max,
                                  struct lm_batch **out);
void lm_batch_destroy(struct lm_batch *batch);

/* Appends each step's tokens to its session. Returns ERR_RANGE (a token id >= vocab, more tokens
 * than a session has room for, more rows or steps than the batch allows) or ERR_INVALID (a
 * non-finite logit; the sessions' lengths are then unchanged). */
MUST_USE enum err lm_batch_step(struct lm_batch *batch, const struct lm_step *steps,
                                uint32_t step_count, const struct parallel *parallel,
                                struct note *note);
