/* trainer.h - inside lm: the trainer's state, and examples laid out as rows of a pass. */
#pragma once

#include "shared/lm/engine.h"
#include "shared/lm/train.h"

/* Examples turned into one pass: token, position and target of every row. Grows as needed and is
 * reused; losses has room for every target. */
struct lm_rows {
    struct lm_pass pass;
    struct lm_targets targets;
    float *losses;
    struct lm_acts acts;
    struct lm_segment segment;
    size_t capacity, span_capacity;
    uint32_t *tokens, *positions, *target_rows;
    int32_t *target_ids;
    struct lm_span *spans;
    struct kernels_sequence *sequences;
};

/* Token ids and lengths within the model's bounds, else ERR_RANGE. */
MUST_USE enum err lm_examples_check(const struct lm_config *config,
                                    const struct lm_example *examples, uint32_t count,
                                    struct note *note);

/* How many of the first examples fit into row_max rows; at least one. */
uint32_t lm_rows_fit(const struct lm_example *examples, uint32_t count, uint32_t row_max);

/* Lays the examples out; keep: for a backward pass or not. The caller sets pass.parallel and
 * targets.weight. */
MUST_USE enum err lm_rows_load(struct lm_rows *rows, const struct lm_net *net,
                               const struct lm_lora *lora, enum lm_keep keep,
                               const struct lm_example *examples, uint32_t count);
void lm_rows_deinit(struct lm_rows *rows);

struct lm_trainer {
    struct lm_train_options options;
    uint32_t step;                /* done */
    const struct lm_net *net;     /* &own or the model's */
    struct lm_net own;            /* full training */
    const struct lm_model *model; /* adapter training, else NULL */
    struct lm_adapter_config adapter;
    struct lm_lora lora;
    size_t count;
    float *values; /* own.values, or owned */
    float *gradient, *m, *v;
    float *head; /* gradient of a tied head, apart */
    float *
        packed; /* adapter training: the adapter's matrices as products read them, made each step */
    size_t packed_count;
    struct lm_rows rows;
};
