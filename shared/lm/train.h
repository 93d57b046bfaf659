/* train.h - training: all weights of a base model, or one adapter over a frozen base.
 *
 * A step is a pure function of (state before, examples): the same bits for any number of threads,
 * any micro-batch size and any backend. A weight gradient is one chain over (example, position),
 * continued across micro-batches; the learning rate is a pure function of the step number.
 * A checkpoint holds everything: restored, training goes on to the same bytes.
 *
 * One trainer belongs to one thread (which may pass a parallel table with many workers). */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "shared/base/bytes.h"
#include "shared/base/digest.h"
#include "shared/base/err.h"
#include "shared/base/parallel.h"
#include "shared/lm/adapter.h"
#include "shared/lm/model.h"

struct buf;
struct note;
struct kernels;

#define LM_STEP_EXAMPLES_MAX 4096U
#define LM_TRAIN_STEPS_MAX 10000000U
#define LM_MICRO_BATCH_ROWS_MAX 1048576U

/* One training sequence, borrowed. Token i (i >= 1) is predicted from tokens 0..i-1; it counts
 * towards the loss if mask == NULL or mask[i] != 0. mask[0] means nothing. */
struct lm_example {
    const uint32_t *tokens; /* ids < vocab */
    const uint8_t *mask;    /* count bytes, or NULL: every token but the first counts */
    uint32_t count;         /* 2..context + 1 */
};

struct lm_train_options {
    uint64_t seed;             /* initial weights, or initial A */
    uint32_t step_count;       /* length of the schedule, 1..LM_TRAIN_STEPS_MAX */
    uint32_t warmup_count;     /* steps of linear warm-up, <= step_count */
    float learning_rate;       /* peak, > 0 */
    float learning_rate_floor; /* the cosine ends at learning_rate * this; 0..1 */
    float beta1, beta2;        /* in [0, 1) */
    float epsilon;             /* > 0 */
    float weight_decay;        /* decoupled; on matrices only, never on norms. >= 0 */
    float clip_norm;           /* global gradient norm limit; 0: no clipping */
    uint32_t micro_batch_rows; /* memory bound: rows run at once (at least one example),
                                   1..LM_MICRO_BATCH_ROWS_MAX; does not
                                   change the result */
    bool recompute; /* layers keep only their inputs and run again in the backward pass: less
                                  memory, a third more time; does not change the result */
};

/* Sensible values for pretraining and for adapters; the caller sets seed and step_count. */
struct lm_train_options lm_pretrain_defaults(void);
struct lm_train_options lm_finetune_defaults(void);

struct lm_trainer;

struct lm_step_report {
    uint32_t step;         /* number of the step just done, from 1 */
    double loss;           /* mean negative log-likelihood per counted token, before the update */
    uint64_t target_count; /* counted tokens */
    float gradient_norm;   /* before clipping */
    float learning_rate;
};

/* Trains all weights of a new model: normal-like initial weights (std 0.02, the two residual
 * outputs of each layer scaled by 1/sqrt(2 layers)) from (seed, PHILOX_WEIGHTS). ERR_INVALID: an architecture with
 * biases or head norms, whose gradients are not made. */
MUST_USE enum err lm_trainer_create_full(const struct lm_config *config,
                                         const struct lm_train_options *options,
                                         const struct kernels *kernels, struct lm_trainer **out,
                                         struct note *note);

/* Trains an adapter over model, which must outlive the trainer. initial: an adapter vector to start
 * from, or NULL for lm_adapter_initialise(seed). */
MUST_USE enum err lm_trainer_create_adapter(const struct lm_model *model,
                                            const struct lm_adapter_config *adapter,
                                            const struct lm_train_options *options,
                                            const float *initial, struct lm_trainer **out,
                                            struct note *note);

/* Accepts NULL. */
void lm_trainer_destroy(struct lm_trainer *trainer);

/* One optimiser step over 1..LM_STEP_EXAMPLES_MAX examples. Returns ERR_RANGE (a token or length out
 * of bounds, no counted token, schedule over) or ERR_INVALID (a non-finite loss or gradient); the
 * parameters are then unchanged. */
MUST_USE enum err lm_trainer_step(struct lm_trainer *trainer, const struct lm_example *examples,
                                  uint32_t count, const struct parallel *parallel,
                                  struct lm_step_report *out, struct note *note);

/* Steps done so far, and the options in force. */
uint32_t lm_trainer_steps(const struct lm_trainer *trainer);
const struct lm_train_options *lm_trainer_options(const struct lm_trainer *trainer);

/* Learning rate of step `step` (from 1). Pure. */
float lm_learning_rate(const struct lm_train_options *options, uint32_t step);

/* Appends a checkpoint: kind, config, options, step, parameters, both moments, and their SHA-256. */
MUST_USE enum err lm_trainer_save(const struct lm_trainer *trainer, struct buf *out);

/* Takes the state from a checkpoint into a trainer created with the same kind, config and options
 * (step_count, micro_batch_rows and recompute may differ). ERR_INVALID names what differs; ERR_CORRUPT if the
 * digest is wrong. The trainer is unchanged on error. */
MUST_USE enum err lm_trainer_restore(struct lm_trainer *trainer, struct bytes checkpoint,
                                     struct note *note);

/* SHA-256 of the parameters as they are now (fp32 bits): what a transcript records. */
void lm_trainer_digest(const struct lm_trainer *trainer, struct digest *out);

/* Full training: a model with the present weights rounded to bf16 (what will be shipped). */
MUST_USE enum err lm_trainer_take_model(const struct lm_trainer *trainer, struct lm_model **out,
                                        struct note *note);

/* Adapter training: an adapter with the present values rounded to bf16 (what will be served). */
MUST_USE enum err lm_trainer_take_adapter(const struct lm_trainer *trainer, struct lm_adapter **out,
                                          struct note *note);
