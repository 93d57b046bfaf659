/* trainer.c - steps, transcript and checkpoints of one job; see trainer.h. */
#include "services/trainer/trainer.h"

#include <stdlib.h>
#include <string.h>

#include "openledger/v1/objects.pb-c.h"
#include "shared/base/check.h"
#include "shared/crypto/sha256.h"
#include "shared/ledger/tx.h"
#include "shared/lm/philox.h"
#include "shared/lm/train.h"
#include "shared/merkle/merkle.h"

#define CHECKPOINT_MAGIC "OLJOBCK1"
#define CHECKPOINT_MAGIC_SIZE 8U
#define GOLDEN UINT64_C(0x9E3779B97F4A7C15) /* keeps the seeds of neighbouring epochs apart */
#define MILLION 1000000.0F

/* What a run holds besides the optimiser. */
struct run {
    const struct trainer_job *job;
    struct lm_trainer *trainer;
    struct buf steps; /* size u32 and bytes of every TranscriptStep so far */
    uint32_t step_count;
    uint32_t *order; /* permutation of the trainable rows in `epoch` */
    uint64_t epoch;
};

enum err trainer_settings_check(const struct ledger_train_settings *settings,
                                const struct lm_config *config, struct note *note)
{
    const struct {
        const char *name;
        uint64_t value, min, max;
    } bounds[] = {
        {"rank", settings->rank, 1, LM_RANK_MAX},
        {"alpha", settings->alpha, 1, 65536},
        {"steps", settings->steps, 1, TRAINER_STEPS_MAX},
        {"batch_rows", settings->batch_rows, 1, TRAINER_BATCH_MAX},
        {"learning_rate_ppm", settings->learning_rate_ppm, 1, 1000000},
        {"warmup_steps", settings->warmup_steps, 0, settings->steps},
        {"context", settings->context, 2, config->context},
        {"digest_every", settings->digest_every, 1, TRAINER_STEPS_MAX},
        {"weight_decay_ppm", settings->weight_decay_ppm, 0, 1000000},
    };
    for (size_t i = 0; i < sizeof bounds / sizeof bounds[0]; i++) {
        if (bounds[i].value < bounds[i].min || bounds[i].value > bounds[i].max) {
            return note_set(note, ERR_RANGE, "%s is %llu, the bounds are %llu and %llu",
                            bounds[i].name, (unsigned long long)bounds[i].value,
                            (unsigned long long)bounds[i].min, (unsigned long long)bounds[i].max);
        }
    }
    return ERR_OK;
}

static enum err make_trainer(const struct trainer_job *job, const struct trainer_hooks *hooks,
                             struct lm_trainer **out, struct note *note)
{
    const struct ledger_train_settings *settings = &job->settings;
    struct lm_adapter_config shape = {
        .rank = settings->rank, .alpha = (float)settings->alpha, .targets = LM_TARGETS_ALL};
    struct lm_train_options options = lm_finetune_defaults();
    options.seed = settings->seed;
    options.step_count = settings->steps;
    options.warmup_count = settings->warmup_steps;
    options.learning_rate = (float)settings->learning_rate_ppm / MILLION;
    options.weight_decay = (float)settings->weight_decay_ppm / MILLION;
    options.recompute = hooks->recompute;
    if (hooks->micro_batch_rows > 0) {
        options.micro_batch_rows = hooks->micro_batch_rows;
    }
    return lm_trainer_create_adapter(job->base->model, &shape, &options, NULL, out, note);
}

/* The rows of step `step`, as indexes into the dataset version. */
static void pick_rows(struct run *run, uint32_t step, uint32_t *out)
{
    const struct lineage_rows *rows = run->job->rows;
    uint32_t batch = run->job->settings.batch_rows;
    for (uint32_t i = 0; i < batch; i++) {
        uint64_t place = (uint64_t)step * batch + i;
        uint64_t epoch = place / rows->trainable_count;
        if (epoch != run->epoch) {
            philox_permutation(run->job->settings.seed + epoch * GOLDEN, PHILOX_BATCH,
                               rows->trainable_count, run->order);
            run->epoch = epoch;
        }
        out[i] = rows->trainable[run->order[place % rows->trainable_count]];
    }
}

static uint32_t bits_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

/* Appends the transcript's line for the step that was just done (step counts from 0). */
static enum err record_step(struct run *run, uint32_t step, uint32_t *rows,
                            const struct lm_step_report *report)
{
    const struct ledger_train_settings *settings = &run->job->settings;
    Openledger__V1__TranscriptStep line = OPENLEDGER__V1__TRANSCRIPT_STEP__INIT;
    struct digest digest;
    line.step = step;
    line.rows = rows;
    line.n_rows = settings->batch_rows;
    line.loss_bits = bits_of((float)report->loss);
    line.learning_rate_bits = bits_of(report->learning_rate);
    if ((step + 1) % settings->digest_every == 0 || step + 1 == settings->steps) {
        lm_trainer_digest(run->trainer, &digest);
        line.adapter = ledger_binary(digest.bytes, DIGEST_SIZE);
    }
    struct buf bytes;
    buf_init(&bytes, TRAINER_TRANSCRIPT_MAX);
    enum err err = ledger_pack(&line.base, &bytes);
    if (err == ERR_OK) {
        (void)buf_append_u32le(&run->steps, (uint32_t)bytes.size);
        (void)buf_append_bytes(&run->steps, buf_bytes(&bytes));
        err = buf_err(&run->steps);
        run->step_count++;
    }
    buf_deinit(&bytes);
    return err;
}

/* ---- checkpoints: magic, job, optimiser, transcript so far, SHA-256 ------------------------------ */

static enum err checkpoint_save(const struct run *run, const struct trainer_hooks *hooks,
                                struct note *note)
{
    if (hooks->save == NULL) {
        return ERR_OK;
    }
    struct buf state;
    struct buf out;
    buf_init(&state, TRAINER_CHECKPOINT_MAX);
    buf_init(&out, TRAINER_CHECKPOINT_MAX);
    enum err err = lm_trainer_save(run->trainer, &state);
    if (err == ERR_OK) {
        (void)buf_append(&out, CHECKPOINT_MAGIC, CHECKPOINT_MAGIC_SIZE);
        (void)buf_append(&out, run->job->id.bytes, DIGEST_SIZE);
        (void)buf_append_u32le(&out, (uint32_t)state.size);
        (void)buf_append_bytes(&out, buf_bytes(&state));
        (void)buf_append_u32le(&out, run->step_count);
        (void)buf_append_u32le(&out, (uint32_t)run->steps.size);
        (void)buf_append_bytes(&out, buf_bytes(&run->steps));
        struct digest digest;
        sha256(buf_bytes(&out), &digest);
        (void)buf_append(&out, digest.bytes, DIGEST_SIZE);
        err = buf_err(&out);
    }
    if (err == ERR_OK) {
        err = hooks->save(hooks->context, buf_bytes(&out), note);
    }
    buf_deinit(&state);
    buf_deinit(&out);
    return err;
}

static enum err checkpoint_restore(struct run *run, struct bytes checkpoint, struct note *note)
{
    struct digest digest;
    struct digest job;
    uint8_t magic[CHECKPOINT_MAGIC_SIZE];
    if (checkpoint.size < DIGEST_SIZE) {
        return note_set(note, ERR_CORRUPT, "checkpoint has %zu bytes", checkpoint.size);
    }
    struct bytes in = bytes_of(checkpoint.data, checkpoint.size - DIGEST_SIZE);
    sha256(in, &digest);
    if (memcmp(digest.bytes, checkpoint.data + in.size, DIGEST_SIZE) != 0) {
        return note_set(note, ERR_CORRUPT, "checkpoint fails its checksum");
    }
    uint32_t state_size = 0;
    uint32_t steps_size = 0;
    uint32_t step_count = 0;
    struct bytes state = {0};
    struct bytes steps = {0};
    bool ok = bytes_take_copy(&in, magic, sizeof magic) == ERR_OK &&
              memcmp(magic, CHECKPOINT_MAGIC, sizeof magic) == 0 &&
              bytes_take_copy(&in, job.bytes, DIGEST_SIZE) == ERR_OK &&
              digest_equal(&job, &run->job->id) && bytes_take_u32le(&in, &state_size) == ERR_OK &&
              bytes_take(&in, state_size, &state) == ERR_OK &&
              bytes_take_u32le(&in, &step_count) == ERR_OK &&
              bytes_take_u32le(&in, &steps_size) == ERR_OK &&
              bytes_take(&in, steps_size, &steps) == ERR_OK && in.size == 0;
    if (!ok) {
        return note_set(note, ERR_CORRUPT, "checkpoint is malformed or another job's");
    }
    if (lm_trainer_restore(run->trainer, state, note) != ERR_OK ||
        lm_trainer_steps(run->trainer) != step_count) {
        return note_wrap(note, ERR_CORRUPT, "checkpoint does not fit the job");
    }
    run->step_count = step_count;
    return buf_append_bytes(&run->steps, steps);
}

/* ---- the transcript ------------------------------------------------------------------------------- */

static Openledger__V1__TrainSettings settings_message(const struct ledger_train_settings *settings)
{
    Openledger__V1__TrainSettings out = OPENLEDGER__V1__TRAIN_SETTINGS__INIT;
    out.rank = settings->rank;
    out.alpha = settings->alpha;
    out.steps = settings->steps;
    out.batch_rows = settings->batch_rows;
    out.learning_rate_ppm = settings->learning_rate_ppm;
    out.warmup_steps = settings->warmup_steps;
    out.context = settings->context;
    out.seed = settings->seed;
    out.digest_every = settings->digest_every;
    out.weight_decay_ppm = settings->weight_decay_ppm;
    return out;
}

static enum err write_transcript(const struct run *run, struct buf *out, struct digest *out_root)
{
    ProtobufCBinaryData *lines = calloc(run->step_count, sizeof *lines);
    if (lines == NULL) {
        return ERR_NO_MEMORY;
    }
    struct merkle_tree tree = {.leaf_count = 0};
    struct bytes in = buf_bytes(&run->steps);
    enum err err = ERR_OK;
    for (uint32_t i = 0; err == ERR_OK && i < run->step_count; i++) {
        uint32_t size = 0;
        struct bytes line;
        struct digest leaf;
        err = bytes_take_u32le(&in, &size);
        if (err == ERR_OK) {
            err = bytes_take(&in, size, &line);
        }
        if (err == ERR_OK) {
            lines[i] = ledger_binary(line.data, line.size);
            merkle_leaf(line.data, line.size, &leaf);
            err = merkle_tree_append(&tree, &leaf);
        }
    }
    if (err == ERR_OK) {
        const struct trainer_job *job = run->job;
        Openledger__V1__TrainSettings settings = settings_message(&job->settings);
        Openledger__V1__Transcript transcript = OPENLEDGER__V1__TRANSCRIPT__INIT;
        transcript.job = ledger_binary(job->id.bytes, DIGEST_SIZE);
        transcript.model = ledger_binary(job->base->content.bytes, DIGEST_SIZE);
        transcript.dataset_root = ledger_binary(job->dataset_root.bytes, DIGEST_SIZE);
        transcript.profile = ledger_binary(job->base->profile.bytes, DIGEST_SIZE);
        transcript.settings = &settings;
        transcript.steps = lines;
        transcript.n_steps = run->step_count;
        err = ledger_pack(&transcript.base, out);
    }
    free(lines);
    struct merkle_head head;
    merkle_tree_head(&tree, &head);
    *out_root = head.root;
    return err;
}

/* ---- running -------------------------------------------------------------------------------------- */

/* Does the steps that are left. */
static enum err run_steps(struct run *run, const struct parallel *parallel,
                          const struct trainer_hooks *hooks, struct trainer_output *output,
                          struct note *note)
{
    const struct trainer_job *job = run->job;
    uint32_t batch = job->settings.batch_rows;
    struct lm_example examples[TRAINER_BATCH_MAX];
    uint32_t rows[TRAINER_BATCH_MAX];
    enum err err = ERR_OK;
    for (uint32_t step = run->step_count; err == ERR_OK && step < job->settings.steps; step++) {
        struct lm_step_report report;
        pick_rows(run, step, rows);
        for (uint32_t i = 0; i < batch; i++) {
            examples[i] = job->rows->examples[rows[i]];
        }
        err = lm_trainer_step(run->trainer, examples, batch, parallel, &report, note);
        if (err == ERR_OK) {
            err = record_step(run, step, rows, &report);
        }
        if (err != ERR_OK) {
            break;
        }
        output->first_loss = step == 0 ? report.loss : output->first_loss;
        output->last_loss = report.loss;
        struct trainer_progress progress = {.step = step + 1,
                                            .steps = job->settings.steps,
                                            .loss = report.loss,
                                            .learning_rate = (double)report.learning_rate,
                                            .tokens = report.target_count};
        bool on = hooks->progress == NULL || hooks->progress(hooks->context, &progress);
        bool last = step + 1 == job->settings.steps;
        bool due = hooks->save_every > 0 && (step + 1) % hooks->save_every == 0;
        if (!last && (due || !on)) {
            err = checkpoint_save(run, hooks, note);
        }
        if (err == ERR_OK && !on && !last) {
            err = note_set(note, ERR_CANCELLED, "stopped after step %u of %u", step + 1,
                           job->settings.steps);
        }
    }
    return err;
}

static enum err finish(const struct run *run, struct trainer_output *output, struct note *note)
{
    struct lm_adapter *adapter = NULL;
    enum err err = lm_trainer_take_adapter(run->trainer, &adapter, note);
    if (err == ERR_OK) {
        lm_adapter_digest(adapter, &output->adapter_digest);
        err = lineage_adapter_pack(adapter, run->job->model_name, &output->adapter, note);
    }
    if (err == ERR_OK) {
        err = write_transcript(run, &output->transcript, &output->transcript_root);
    }
    lm_adapter_destroy(adapter);
    return err;
}

void trainer_output_deinit(struct trainer_output *output)
{
    buf_deinit(&output->transcript);
    buf_deinit(&output->adapter);
}

enum err trainer_run(const struct trainer_job *job, struct bytes checkpoint,
                     const struct parallel *parallel, const struct trainer_hooks *hooks,
                     struct trainer_output *out, struct note *note)
{
    CHECK(job->rows->trainable_count >= 1);
    enum err err = trainer_settings_check(&job->settings, lm_model_config(job->base->model), note);
    if (err != ERR_OK) {
        return err;
    }
    struct trainer_output output = {.first_loss = 0.0};
    buf_init(&output.transcript, TRAINER_TRANSCRIPT_MAX);
    buf_init(&output.adapter, BLOB_SIZE_MAX);
    struct run run = {.job = job, .epoch = UINT64_MAX};
    buf_init(&run.steps, TRAINER_TRANSCRIPT_MAX);
    run.order = calloc(job->rows->trainable_count, sizeof *run.order);
    err = run.order == NULL ? ERR_NO_MEMORY : make_trainer(job, hooks, &run.trainer, note);
    if (err == ERR_OK && checkpoint.size > 0) {
        err = checkpoint_restore(&run, checkpoint, note);
    }
    if (err == ERR_OK) {
        err = run_steps(&run, parallel, hooks, &output, note);
    }
    if (err == ERR_OK) {
        err = finish(&run, &output, note);
    }
    lm_trainer_destroy(run.trainer);
    buf_deinit(&run.steps);
    free(run.order);
    if (err != ERR_OK) {
        trainer_output_deinit(&output);
        return err;
    }
    *out = output;
    return ERR_OK;
}
