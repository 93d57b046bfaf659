/* run.c - the job thread; see run.h. */
#include "services/trainer/run.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "services/trainer/trainer.h"
#include "shared/base/check.h"
#include "shared/base/log.h"
#include "shared/blob/blob_file.h"
#include "shared/ledger/tx.h"
#include "shared/platform/clock.h"
#include "shared/platform/pool.h"
#include "shared/platform/signals.h"
#include "shared/platform/thread.h"
#include "shared/service/ask.h"

#define FETCH_WAIT_MS 300
#define AWAY_WAIT_MS 300 /* before asking a bus again that is not there */

struct runner {
    struct jobs_options options;
    struct trainer_store store;
    struct pool *pool;
    struct thread *thread;
    atomic_bool stop;
    pthread_mutex_t lock; /* over in_hand and has_job */
    struct digest in_hand;
    bool has_job;
};

/* ---- what is asked of the worker ---------------------------------------------------------------- */

/* One question about a job; the answer is filled in on the worker. */
struct question {
    struct runner *runner;
    struct digest job;
    enum err err;
    struct note note;
    /* claim: */
    bool over; /* nothing to do: finished, or another trainer's */
    struct ledger_job found;
    struct digest model_content, model_profile;
    struct lineage_plan plan;
    /* complete and fail: */
    struct digest transcript_root, transcript, adapter;
    const char *reason;
};

static enum err submit(struct question *question, Openledger__V1__TxBody *action)
{
    const struct jobs_options *options = &question->runner->options;
    return follow_submit(options->follow, action, &options->operator_account->id,
                         options->operator_account->keys, JOBS_SUBMIT_MS, NULL, NULL,
                         &question->note);
}

static enum err claim(struct question *question)
{
    Openledger__V1__ClaimJob claim = OPENLEDGER__V1__CLAIM_JOB__INIT;
    Openledger__V1__TxBody action = OPENLEDGER__V1__TX_BODY__INIT;
    claim.job = ledger_binary(question->job.bytes, DIGEST_SIZE);
    action.action_case = OPENLEDGER__V1__TX_BODY__ACTION_CLAIM_JOB;
    action.claim_job = &claim;
    return submit(question, &action);
}

/* Claims the job if it is still to be done, and copies what training needs to know. */
static void on_claim(void *argument)
{
    struct question *question = argument;
    const struct jobs_options *options = &question->runner->options;
    const struct ledger *ledger = follow_ledger(options->follow);
    question->err = ERR_UNAVAILABLE;
    if (ledger == NULL || !follow_caught_up(options->follow) ||
        !ledger_is_bonded(ledger, &options->operator_account->id, LEDGER_ROLE_TRAINER)) {
        (void)note_set(&question->note, ERR_UNAVAILABLE, "not ready to claim jobs");
        return;
    }
    const struct ledger_job *job = ledger_job(ledger, &question->job);
    if (job == NULL) {
        (void)note_set(&question->note, ERR_UNAVAILABLE, "the job is not on the ledger yet");
        return;
    }
    struct ledger_head head;
    ledger_head(ledger, &head);
    bool ours = account_id_equal(&job->trainer, &options->operator_account->id);
    bool stale = head.time_ms - job->claimed_ms >= LEDGER_CLAIM_MS;
    question->over =
        job->state >= LEDGER_JOB_COMPLETED || (job->state == LEDGER_JOB_CLAIMED && !ours && !stale);
    question->err = ERR_OK;
    if (!question->over && !(job->state == LEDGER_JOB_CLAIMED && ours)) {
        question->err = claim(question);
        ledger = follow_ledger(options->follow); /* has moved on */
        job = ledger_job(ledger, &question->job);
    }
    if (question->over || question->err != ERR_OK) {
        return;
    }
    question->found = *job;
    const struct ledger_model *model = ledger_model(ledger, job->model);
    CHECK(model != NULL); /* SubmitJob checked it */
    question->model_content = model->content;
    question->model_profile = model->profile;
    question->err =
        lineage_plan_init(ledger, job->datanet, job->version, &question->plan, &question->note);
}

static void on_complete(void *argument)
{
    struct question *question = argument;
    Openledger__V1__CompleteJob complete = OPENLEDGER__V1__COMPLETE_JOB__INIT;
    Openledger__V1__TxBody action = OPENLEDGER__V1__TX_BODY__INIT;
    complete.job = ledger_binary(question->job.bytes, DIGEST_SIZE);
    complete.transcript_root = ledger_binary(question->transcript_root.bytes, DIGEST_SIZE);
    complete.transcript = ledger_binary(question->transcript.bytes, DIGEST_SIZE);
    complete.adapter = ledger_binary(question->adapter.bytes, DIGEST_SIZE);
    action.action_case = OPENLEDGER__V1__TX_BODY__ACTION_COMPLETE_JOB;
    action.complete_job = &complete;
    question->err = submit(question, &action);
}

static void on_fail(void *argument)
{
    struct question *question = argument;
    char reason[LEDGER_REASON_MAX + 1];
    (void)snprintf(reason, sizeof reason, "%s", question->reason);
    Openledger__V1__FailJob fail = OPENLEDGER__V1__FAIL_JOB__INIT;
    Openledger__V1__TxBody action = OPENLEDGER__V1__TX_BODY__INIT;
    fail.job = ledger_binary(question->job.bytes, DIGEST_SIZE);
    fail.reason = reason;
    action.action_case = OPENLEDGER__V1__TX_BODY__ACTION_FAIL_JOB;
    action.fail_job = &fail;
    question->err = submit(question, &action);
}

static enum err ask(struct question *question, void (*what)(void *argument))
{
    question->note.text[0] = '\0';
    enum err err = service_ask(question->runner->options.service, what, question);
    return err != ERR_OK ? note_set(&question->note, err, "stopping") : question->err;
}

/* ---- progress ----------------------------------------------------------------------------------- */

/* One job in hand, on the job thread. */
struct work {
    struct runner *runner;
    struct bus_message *message;
    struct question question;
    uint64_t heartbeat_ms, report_ms, started_ms;
    uint64_t tokens; /* counted since started_ms */
};

static void report(struct work *work, const char *state, const struct trainer_progress *progress,
                   const char *detail)
{
    struct jobs_progress out = {.job = work->question.job,
                                .steps = work->question.found.settings.steps};
    if (progress != NULL) {
        uint64_t ms = clock_mono_ms() - work->started_ms;
        out.step = progress->step;
        out.loss = progress->loss;
        out.learning_rate = progress->learning_rate;
        out.tokens_per_second = (double)work->tokens * 1000.0 / (double)(ms + 1);
    }
    (void)snprintf(out.state, sizeof out.state, "%s", state);
    (void)snprintf(out.detail, sizeof out.detail, "%.*s", JOBS_DETAIL_SIZE - 1, detail);
    Openledger__V1__TrainProgress message = jobs_progress_message(&out);
    struct buf data;
    buf_init(&data, BUS_MESSAGE_MAX);
    if (ledger_pack(&message.base, &data) != ERR_OK ||
        bus_publish(service_bus(work->runner->options.service), JOBS_PROGRESS_SUBJECT, NULL,
                    (struct bus_headers){.count = 0}, buf_bytes(&data)) != ERR_OK) {
        log_debug("progress_lost"); /* the ledger says how it ended */
    }
    buf_deinit(&data);
}

static bool stopping(struct runner *runner)
{
    return atomic_load(&runner->stop) || signals_stop_requested();
}

/* A sign of life to the queue, where one is due. */
static void heartbeat(struct work *work, uint64_t now)
{
    if (now - work->heartbeat_ms >= RUNNER_HEARTBEAT_MS) {
        work->heartbeat_ms = now;
        bus_progress(work->message);
    }
}

/* The base's files come out of the store. */
static bool on_loading(void *context, uint64_t done, uint64_t total)
{
    struct work *work = context;
    uint64_t now = clock_mono_ms();
    heartbeat(work, now);
    if (now - work->report_ms >= RUNNER_REPORT_MS) {
        char detail[JOBS_DETAIL_SIZE];
        work->report_ms = now;
        (void)snprintf(detail, sizeof detail, "loading model: %llu of %llu MiB",
                       (unsigned long long)done >> 20, (unsigned long long)total >> 20);
        report(work, "claimed", NULL, detail);
    }
    return !stopping(work->runner);
}

static bool on_progress(void *context, const struct trainer_progress *progress)
{
    struct work *work = context;
    uint64_t now = clock_mono_ms();
    work->tokens += progress->tokens;
    heartbeat(work, now);
    if (now - work->report_ms >= RUNNER_REPORT_MS || progress->step == progress->steps) {
        work->report_ms = now;
        report(work, "training", progress, "");
    }
    return !stopping(work->runner);
}

static enum err on_save(void *context, struct bytes checkpoint, struct note *note)
{
    struct work *work = context;
    return trainer_store_save(&work->runner->store, &work->question.job, checkpoint, note);
}

/* ---- one job ------------------------------------------------------------------------------------ */

/* Trains from the checkpoint if there is a good one, else from the start. */
static enum err train(struct work *work, const struct trainer_job *job, struct trainer_output *out,
                      struct note *note)
{
    struct runner *runner = work->runner;
    struct trainer_hooks hooks = {.context = work,
                                  .progress = on_progress,
                                  .save = on_save,
                                  .save_every = runner->options.save_every,
                                  .micro_batch_rows = runner->options.micro_batch_rows,
                                  .recompute = runner->options.recompute};
    struct buf checkpoint;
    buf_init(&checkpoint, TRAINER_CHECKPOINT_MAX);
    enum err err = trainer_store_load(&runner->store, &job->id, &checkpoint, note);
    if (err != ERR_OK && err != ERR_NOT_FOUND) {
        log_warn("checkpoint_unreadable note=\"%s\"", note->text);
    }
    work->started_ms = clock_mono_ms();
    work->tokens = 0;
    struct bytes from = err == ERR_OK ? buf_bytes(&checkpoint) : (struct bytes){.size = 0};
    err = trainer_run(job, from, pool_parallel(runner->pool), &hooks, out, note);
    if (err == ERR_CORRUPT && from.size > 0) {
        log_warn("checkpoint_dropped note=\"%s\"", note->text);
        trainer_store_remove(&runner->store, &job->id);
        err = trainer_run(job, (struct bytes){.size = 0}, pool_parallel(runner->pool), &hooks, out,
                          note);
    }
    buf_deinit(&checkpoint);
    return err;
}

/* Publishes what training made: the blobs first, then the transaction that names them. */
static enum err publish(struct work *work, const struct trainer_output *output, struct note *note)
{
    struct question *question = &work->question;
    struct blob_store *blobs = service_blobs(work->runner->options.service);
    question->transcript_root = output->transcript_root;
    enum err err = blob_put(blobs, buf_bytes(&output->transcript), &question->transcript, note);
    if (err == ERR_OK) {
        err = blob_put(blobs, buf_bytes(&output->adapter), &question->adapter, note);
    }
    err = trainer_store_refused(err);
    if (err == ERR_OK) {
        err = ask(question, on_complete);
        *note = question->note;
    }
    return err;
}

/* From a claimed job to a completed one. */
static enum err do_job(struct work *work, struct note *note)
{
    struct question *question = &work->question;
    struct blob_store *blobs = service_blobs(work->runner->options.service);
    struct lineage_base *base = NULL;
    struct lineage_rows rows = {.count = 0};
    struct trainer_output output = {.first_loss = 0.0};
    report(work, "claimed", NULL, "loading model and rows");
    struct blob_progress progress = {.report = on_loading, .context = work};
    struct lineage_load how = {.profile = &question->model_profile,
                               .kernels = work->runner->options.kernels,
                               .progress = &progress};
    enum err err = lineage_base_load(blobs, &question->model_content, &how, &base, note);
    if (err == ERR_OK) {
        err = lineage_rows_load(blobs, &question->plan, base, question->found.settings.context,
                                &rows, note);
    }
    if (err == ERR_OK) {
        struct trainer_job job = {.id = question->job,
                                  .dataset_root = question->plan.root,
                                  .settings = question->found.settings,
                                  .base = base,
                                  .rows = &rows};
        memcpy(job.model_name, question->found.model, sizeof job.model_name);
        err = train(work, &job, &output, note);
    }
    struct trainer_progress last = {.step = question->found.settings.steps,
                                    .loss = err == ERR_OK ? output.last_loss : 0};
    if (err == ERR_OK) {
        report(work, "saving", &last, ""); /* progress never goes back */
        err = publish(work, &output, note);
    }
    if (err == ERR_OK) {
        trainer_store_remove(&work->runner->store, &question->job);
        report(work, "completed", &last, "");
    }
    trainer_output_deinit(&output);
    lineage_rows_deinit(&rows);
    lineage_base_destroy(base);
    return err;
}

uint32_t runner_delay_ms(enum err err, uint64_t deliveries)
{
    bool blob = err == ERR_NOT_FOUND && deliveries < RUNNER_ATTEMPTS_MAX;
    bool later = blob || err == ERR_UNAVAILABLE || err == ERR_TIMEOUT || err == ERR_CANCELLED ||
                 err == ERR_NO_MEMORY || err == ERR_CONFLICT;
    bool disk = err == ERR_FULL || err == ERR_IO || err == ERR_CORRUPT;
    return disk ? RUNNER_DISK_MS : later ? RUNNER_RETRY_MS : 0;
}

/* Ends a job, or puts it off: returns for how long, 0: it is done with. */
static uint32_t settle(struct work *work, enum err err, const struct note *note)
{
    char text[DIGEST_TEXT_SIZE];
    (void)digest_format(&work->question.job, text);
    if (err == ERR_OK) {
        log_info("job_completed job=%s", text);
        return 0;
    }
    uint32_t delay_ms = runner_delay_ms(err, bus_message_deliveries(work->message));
    if (delay_ms > 0) {
        log_warn("job_postponed job=%s ms=%u err=%s note=\"%s\"", text, delay_ms, err_name(err),
                 note->text);
        return delay_ms;
    }
    log_error("job_failed job=%s err=%s note=\"%s\"", text, err_name(err), note->text);
    work->question.reason = note->text;
    if (ask(&work->question, on_fail) != ERR_OK) {
        log_warn("fail_not_recorded job=%s note=\"%s\"", text, work->question.note.text);
        return RUNNER_RETRY_MS;
    }
    report(work, "failed", NULL, note->text);
    return 0;
}

static void take_in_hand(struct runner *runner, const struct digest *job)
{
    CHECK(pthread_mutex_lock(&runner->lock) == 0);
    runner->has_job = job != NULL;
    if (job != NULL) {
        runner->in_hand = *job;
    }
    CHECK(pthread_mutex_unlock(&runner->lock) == 0);
}

/* Returns for how long the message is put off; 0: it is done with. */
static uint32_t handle(struct runner *runner, struct bus_message *message)
{
    struct work work = {.runner = runner, .message = message, .question = {.runner = runner}};
    struct bytes data = bus_message_data(message);
    Openledger__V1__TrainJob *order = openledger__v1__train_job__unpack(NULL, data.size, data.data);
    bool ok = order != NULL && order->job.len == DIGEST_SIZE;
    if (ok) {
        memcpy(work.question.job.bytes, order->job.data, DIGEST_SIZE);
    }
    openledger__v1__train_job__free_unpacked(order, NULL);
    if (!ok) {
        log_warn("job_message_malformed size=%zu", data.size);
        return 0;
    }
    take_in_hand(runner, &work.question.job);
    uint32_t delay_ms = 0;
    enum err err = ask(&work.question, on_claim);
    if (err != ERR_OK) {
        log_info("job_not_claimed err=%s note=\"%s\"", err_name(err), work.question.note.text);
        delay_ms = runner_delay_ms(err, bus_message_deliveries(message));
    } else if (!work.question.over) {
        struct note note = {""};
        err = do_job(&work, &note);
        delay_ms = settle(&work, err, &note);
    }
    lineage_plan_deinit(&work.question.plan);
    take_in_hand(runner, NULL);
    return delay_ms;
}

/* ---- the thread --------------------------------------------------------------------------------- */

static void body(void *argument)
{
    struct runner *runner = argument;
    struct bus_consumer_config config = {
        .stream = "OL_JOBS", .durable = "trainer", .ack_wait_ms = JOBS_ACK_WAIT_MS};
    struct bus_consumer *consumer = NULL;
    if (bus_consumer_open(service_bus(runner->options.service), &config, &consumer) != ERR_OK) {
        log_error("job_queue_unusable");
        service_stop(runner->options.service, 1);
        return;
    }
    while (!stopping(runner)) {
        struct bus_message *message = NULL;
        size_t count = 0;
        enum err err = bus_fetch(consumer, 1, FETCH_WAIT_MS, &message, &count);
        if (err != ERR_OK || count == 0) {
            if (err != ERR_TIMEOUT) {
                clock_sleep_ms(AWAY_WAIT_MS);
            }
            continue;
        }
        uint32_t delay_ms = handle(runner, message);
        if (delay_ms == 0) {
            bus_ack(message);
        } else {
            bus_nak(message, delay_ms);
        }
        bus_message_destroy(message);
    }
    bus_consumer_close(consumer);
}

enum err runner_create(const struct jobs_options *options, struct runner **out, struct note *note)
{
    struct runner *runner = calloc(1, sizeof *runner);
    if (runner == NULL) {
        return ERR_NO_MEMORY;
    }
    runner->options = *options;
    CHECK(pthread_mutex_init(&runner->lock, NULL) == 0);
    enum err err = trainer_store_init(&runner->store, service_data_dir(options->service), note);
    if (err == ERR_OK) {
        runner->pool = pool_create(options->threads);
        err = runner->pool == NULL ? ERR_NO_MEMORY : ERR_OK;
    }
    if (err == ERR_OK) {
        err = thread_start("job", body, runner, &runner->thread, note);
    }
    if (err != ERR_OK) {
        runner_destroy(runner);
        return err;
    }
    *out = runner;
    return ERR_OK;
}

void runner_destroy(struct runner *runner)
{
    if (runner == NULL) {
        return;
    }
    atomic_store(&runner->stop, true);
    thread_join(runner->thread);
    pool_destroy(runner->pool);
    (void)pthread_mutex_destroy(&runner->lock);
    free(runner);
}

bool runner_has(struct runner *runner, const struct digest *job)
{
    CHECK(pthread_mutex_lock(&runner->lock) == 0);
    bool has = runner->has_job && digest_equal(&runner->in_hand, job);
    CHECK(pthread_mutex_unlock(&runner->lock) == 0);
    return has;
}
