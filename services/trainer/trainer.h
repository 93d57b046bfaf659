/* trainer.h - one fine-tuning job, from rows to adapter and transcript: the pure core.
 *
 * A job is a pure function of (base model, rows, settings): any trainer comes to the same bytes, also
 * one that was killed half-way and went on from a checkpoint. So whoever doubts a transcript can run
 * this very function again.
 *
 * Which rows step s sees: the trainable rows in a Philox permutation per pass (epoch e uses seed + e
 * golden ratios, purpose PHILOX_BATCH), laid end to end and cut into batches. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "shared/base/buf.h"
#include "shared/base/bytes.h"
#include "shared/base/digest.h"
#include "shared/base/err.h"
#include "shared/base/note.h"
#include "shared/base/parallel.h"
#include "shared/ledger/ledger.h"
#include "shared/lineage/lineage.h"

#define TRAINER_BATCH_MAX 512U              /* rows in a step */
#define TRAINER_STEPS_MAX 100000U           /* steps of a job */
#define TRAINER_CHECKPOINT_MAX (256U << 20) /* bytes of a checkpoint */
#define TRAINER_TRANSCRIPT_MAX (32U << 20)  /* bytes of a transcript */

struct trainer_job {
    struct digest id;
    struct digest dataset_root;
    char model_name[LEDGER_NAME_MAX + 1];
    struct ledger_train_settings settings;
    const struct lineage_base *base; /* borrowed */
    const struct lineage_rows *rows; /* borrowed; loaded with settings.context */
};

struct trainer_progress {
    uint32_t step; /* steps done */
    uint32_t steps;
    double loss;
    double learning_rate;
    uint64_t tokens; /* counted tokens of this step */
};

struct trainer_hooks {
    void *context;
    /* After every step; may be NULL. Returns false to stop: a checkpoint is then saved. */
    bool (*progress)(void *context, const struct trainer_progress *progress);
    /* Keeps a checkpoint, replacing the one before; may be NULL. */
    enum err (*save)(void *context, struct bytes checkpoint, struct note *note);
    uint32_t save_every; /* steps; 0: only when stopped */
    /* Memory against time; the bytes of a job do not depend on either. */
    uint32_t micro_batch_rows; /* as struct lm_train_options'; 0: its default */
    bool recompute;            /* the same */
};

struct trainer_output {
    struct buf transcript; /* serialised Transcript */
    struct digest transcript_root;
    struct buf adapter;           /* serialised AdapterFiles */
    struct digest adapter_digest; /* lm_adapter_digest: what serving loads */
    double first_loss, last_loss; /* of the first and last step run here, for people */
};
void trainer_output_deinit(struct trainer_output *output); /* a zeroed one is fine */

/* ERR_RANGE names a setting outside its bounds. */
MUST_USE enum err trainer_settings_check(const struct ledger_train_settings *settings,
                                         const struct lm_config *config, struct note *note);

/* Runs the job to its end. checkpoint: what save was given last, or empty to start. ERR_CANCELLED:
 * progress said stop (resume from the checkpoint); ERR_INVALID, ERR_RANGE: this job can never
 * succeed; ERR_CORRUPT: the checkpoint is damaged or another job's (start again without it). */
MUST_USE enum err trainer_run(const struct trainer_job *job, struct bytes checkpoint,
                              const struct parallel *parallel, const struct trainer_hooks *hooks,
                              struct trainer_output *out, struct note *note);
