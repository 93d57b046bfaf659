/* jobs.c - queue, progress and watchers: the worker's side; see jobs.h. */
#include "services/trainer/jobs.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "services/trainer/run.h"
#include "shared/base/check.h"
#include "shared/base/log.h"
#include "shared/ledger/tx.h"
#include "shared/platform/clock.h"

#define REMEMBER_MS UINT64_C(86400000) /* progress stays in Redis for a day */
#define DEDUPE_MS 20000                /* below JOBS_REQUEUE_MS, or a requeue would be dropped */
#define CACHE_KEY_SIZE 96
#define MESSAGE_ID_SIZE 112

struct watcher {
    struct rpc_call *call;
    struct digest job;
};

/* When a job was last put on the queue by this process. */
struct queued {
    struct digest job;
    uint64_t at_ms;
};

struct jobs {
    struct jobs_options options;
    struct runner *runner;
    struct jobs_progress progress[JOBS_PROGRESS_MAX]; /* a ring: the oldest is overwritten */
    uint32_t progress_count;
    struct watcher watchers[JOBS_WATCHERS_MAX];
    uint32_t watcher_count;
    struct queued queued[JOBS_PROGRESS_MAX]; /* likewise */
    uint32_t queued_count;
};

static const char *const SUBJECTS[] = {JOBS_SUBJECT};

enum err jobs_create(const struct jobs_options *options, struct jobs **out, struct note *note)
{
    struct jobs *jobs = calloc(1, sizeof *jobs);
    if (jobs == NULL) {
        return ERR_NO_MEMORY;
    }
    jobs->options = *options;
    struct bus_stream stream = {.name = "OL_JOBS",
                                .subjects = SUBJECTS,
                                .subject_count = 1,
                                .retention = BUS_WORK_QUEUE,
                                .dedupe_window_ms = DEDUPE_MS,
                                .replicas = service_replicas(options->service)};
    enum err err = bus_stream_declare(service_bus(options->service), &stream);
    if (err == ERR_OK) {
        err = runner_create(options, &jobs->runner, note);
    }
    if (err != ERR_OK) {
        free(jobs);
        return err;
    }
    *out = jobs;
    return ERR_OK;
}

void jobs_destroy(struct jobs *jobs)
{
    if (jobs == NULL) {
        return;
    }
    for (uint32_t i = 0; i < jobs->watcher_count; i++) {
        rpc_finish(jobs->watchers[i].call, ERR_UNAVAILABLE);
    }
    runner_destroy(jobs->runner);
    free(jobs);
}

/* ---- the queue -------------------------------------------------------------------------------- */

static struct queued *queued_find(struct jobs *jobs, const struct digest *job)
{
    uint32_t held = jobs->queued_count < JOBS_PROGRESS_MAX ? jobs->queued_count : JOBS_PROGRESS_MAX;
    for (uint32_t i = 0; i < held; i++) {
        if (digest_equal(&jobs->queued[i].job, job)) {
            return &jobs->queued[i];
        }
    }
    return NULL;
}

/* fresh: not to be taken for a repeat of the message before, which a killed trainer may still hold. */
static enum err enqueue(struct jobs *jobs, const struct digest *job, bool fresh, struct note *note)
{
    struct digest id = *job;
    char text[DIGEST_TEXT_SIZE];
    char message_id[MESSAGE_ID_SIZE];
    (void)snprintf(message_id, sizeof message_id, "%s@%llu", digest_format(job, text),
                   fresh ? (unsigned long long)clock_real_ms() : 0ULL);
    Openledger__V1__TrainJob message = OPENLEDGER__V1__TRAIN_JOB__INIT;
    message.job = ledger_binary(id.bytes, DIGEST_SIZE);
    struct buf data;
    buf_init(&data, BUS_MESSAGE_MAX);
    enum err err = ledger_pack(&message.base, &data);
    if (err == ERR_OK) {
        struct bus_publish_options options = {.id = message_id, .timeout_ms = 2000};
        err = bus_stream_publish(service_bus(jobs->options.service), JOBS_SUBJECT, buf_bytes(&data),
                                 &options, NULL, note);
    }
    buf_deinit(&data);
    if (err == ERR_OK) {
        struct queued *slot = queued_find(jobs, job);
        if (slot == NULL) {
            slot = &jobs->queued[jobs->queued_count++ % JOBS_PROGRESS_MAX];
            slot->job = *job;
        }
        slot->at_ms = clock_mono_ms();
        log_info("job_queued job=%s", text);
    }
    return err;
}

enum err jobs_enqueue(struct jobs *jobs, const struct digest *job, struct note *note)
{
    return enqueue(jobs, job, false, note);
}

/* Should this job be looked at by somebody? */
static bool unfinished(const struct jobs *jobs, const struct ledger_job *job)
{
    bool ours = account_id_equal(&job->trainer, &jobs->options.operator_account->id);
    return job->state == LEDGER_JOB_QUEUED ||
           (job->state == LEDGER_JOB_CLAIMED && ours && !runner_has(jobs->runner, &job->id));
}

static void requeue(struct jobs *jobs, const struct ledger *ledger, uint64_t now_ms)
{
    const struct ledger_job *job = NULL;
    while ((job = ledger_next_job(ledger, job)) != NULL) {
        if (!unfinished(jobs, job)) {
            continue;
        }
        struct queued *slot = queued_find(jobs, &job->id);
        struct note note = {""};
        if ((slot == NULL || now_ms - slot->at_ms >= JOBS_REQUEUE_MS) &&
            enqueue(jobs, &job->id, job->state == LEDGER_JOB_CLAIMED, &note) != ERR_OK) {
            log_debug("job_not_queued note=\"%s\"", note.text);
            return; /* the bus is away: no use in trying the others */
        }
    }
}

/* ---- progress --------------------------------------------------------------------------------- */

Openledger__V1__TrainProgress jobs_progress_message(const struct jobs_progress *progress)
{
    Openledger__V1__TrainProgress out = OPENLEDGER__V1__TRAIN_PROGRESS__INIT;
    out.job = ledger_binary(progress->job.bytes, DIGEST_SIZE);
    out.state = (char *)(uintptr_t)progress->state; /* protobuf-c's fields are not const */
    out.step = progress->step;
    out.steps = progress->steps;
    out.loss = progress->loss;
    out.learning_rate = progress->learning_rate;
    out.tokens_per_second = progress->tokens_per_second;
    out.detail = (char *)(uintptr_t)progress->detail;
    return out;
}

static const char *cache_key(const struct digest *job, char out[CACHE_KEY_SIZE])
{
    char text[DIGEST_TEXT_SIZE];
    (void)snprintf(out, CACHE_KEY_SIZE, "train:%s", digest_format(job, text));
    return out;
}

static bool progress_decode(struct bytes data, struct jobs_progress *out)
{
    Openledger__V1__TrainProgress *message =
        openledger__v1__train_progress__unpack(NULL, data.size, data.data);
    bool ok = message != NULL && message->job.len == DIGEST_SIZE;
    if (ok) {
        *out = (struct jobs_progress){.step = message->step,
                                      .steps = message->steps,
                                      .loss = message->loss,
                                      .learning_rate = message->learning_rate,
                                      .tokens_per_second = message->tokens_per_second};
        memcpy(out->job.bytes, message->job.data, DIGEST_SIZE);
        (void)snprintf(out->state, sizeof out->state, "%s", message->state);
        (void)snprintf(out->detail, sizeof out->detail, "%s", message->detail);
    }
    openledger__v1__train_progress__free_unpacked(message, NULL);
    return ok;
}

static struct jobs_progress *progress_find(struct jobs *jobs, const struct digest *job)
{
    uint32_t held =
        jobs->progress_count < JOBS_PROGRESS_MAX ? jobs->progress_count : JOBS_PROGRESS_MAX;
    for (uint32_t i = 0; i < held; i++) {
        if (digest_equal(&jobs->progress[i].job, job)) {
            return &jobs->progress[i];
        }
    }
    return NULL;
}

bool jobs_progress_get(struct jobs *jobs, const struct digest *job, struct jobs_progress *out)
{
    const struct jobs_progress *found = progress_find(jobs, job);
    if (found != NULL) {
        *out = *found;
        return true;
    }
    char key[CACHE_KEY_SIZE];
    struct cache_value value = {0};
    bool ok =
        cache_get(service_cache(jobs->options.service), cache_key(job, key), &value) == ERR_OK &&
        progress_decode(bytes_of(value.data, value.size), out);
    cache_value_clear(&value);
    return ok;
}

/* ---- watchers --------------------------------------------------------------------------------- */

static void watcher_end(struct jobs *jobs, uint32_t which, enum err err)
{
    rpc_finish(jobs->watchers[which].call, err);
    jobs->watchers[which] = jobs->watchers[--jobs->watcher_count];
}

static bool is_final(const char *state)
{
    return strcmp(state, "completed") == 0 || strcmp(state, "failed") == 0;
}

/* Sends one progress to those who watch the job; a full stream misses it, the next one says more. */
static void tell(struct jobs *jobs, const struct jobs_progress *progress)
{
    Openledger__V1__TrainProgress message = jobs_progress_message(progress);
    for (uint32_t i = jobs->watcher_count; i > 0; i--) {
        struct watcher *watcher = &jobs->watchers[i - 1];
        if (digest_equal(&watcher->job, &progress->job)) {
            enum err err = rpc_send(watcher->call, &message);
            if (err != ERR_LIMIT && (err != ERR_OK || is_final(progress->state))) {
                watcher_end(jobs, i - 1, err);
            }
        }
    }
}

void jobs_on_progress(struct jobs *jobs, struct bytes data)
{
    struct jobs_progress progress;
    char key[CACHE_KEY_SIZE];
    if (!progress_decode(data, &progress)) {
        return; /* not ours to complain about: core messages may be anybody's */
    }
    struct jobs_progress *slot = progress_find(jobs, &progress.job);
    if (slot == NULL) {
        slot = &jobs->progress[jobs->progress_count++ % JOBS_PROGRESS_MAX];
    }
    *slot = progress;
    if (cache_set(service_cache(jobs->options.service), cache_key(&progress.job, key), data,
                  REMEMBER_MS) != ERR_OK) {
        log_debug("progress_not_cached"); /* Redis may be away: memory has it too */
    }
    tell(jobs, &progress);
}

/* What the ledger says of a job that is over: for those who come late. */
static bool final_progress(struct jobs *jobs, const struct ledger_job *job,
                           struct jobs_progress *out)
{
    if (job->state < LEDGER_JOB_COMPLETED) {
        return false;
    }
    bool completed = job->state == LEDGER_JOB_COMPLETED;
    *out = (struct jobs_progress){
        .job = job->id, .step = completed ? job->settings.steps : 0, .steps = job->settings.steps};
    struct jobs_progress last;
    if (completed && jobs_progress_get(jobs, &job->id, &last)) {
        out->loss = last.loss; /* the ledger has no losses: as long as memory or Redis remembers */
    }
    (void)snprintf(out->state, sizeof out->state, "%s", completed ? "completed" : "failed");
    (void)snprintf(out->detail, sizeof out->detail, "%.*s", JOBS_DETAIL_SIZE - 1, job->reason);
    return true;
}

enum err jobs_watch(struct jobs *jobs, struct rpc_call *call, const struct digest *job)
{
    if (jobs->watcher_count == JOBS_WATCHERS_MAX) {
        return note_set(rpc_note(call), ERR_LIMIT, "%u streams are open, that is the limit",
                        JOBS_WATCHERS_MAX);
    }
    const struct ledger_job *found = ledger_job(follow_ledger(jobs->options.follow), job);
    CHECK(found != NULL); /* the handler looked */
    struct jobs_progress progress;
    bool over = final_progress(jobs, found, &progress);
    if (over || jobs_progress_get(jobs, job, &progress)) {
        Openledger__V1__TrainProgress message = jobs_progress_message(&progress);
        enum err err = rpc_send(call, &message);
        if (err != ERR_OK || over) {
            return err;
        }
    }
    rpc_defer(call);
    jobs->watchers[jobs->watcher_count++] = (struct watcher){.call = call, .job = *job};
    return ERR_OK;
}

void jobs_tick(struct jobs *jobs, uint64_t now_ms)
{
    const struct ledger *ledger = follow_ledger(jobs->options.follow);
    if (ledger == NULL || !follow_caught_up(jobs->options.follow)) {
        return;
    }
    requeue(jobs, ledger, now_ms);
    for (uint32_t i = jobs->watcher_count; i > 0; i--) {
        struct watcher *watcher = &jobs->watchers[i - 1];
        const struct ledger_job *job = ledger_job(ledger, &watcher->job);
        struct jobs_progress progress;
        if (rpc_cancelled(watcher->call)) {
            watcher_end(jobs, i - 1, ERR_CANCELLED);
        } else if (job != NULL && final_progress(jobs, job, &progress)) {
            Openledger__V1__TrainProgress message = jobs_progress_message(&progress);
            enum err err = rpc_send(watcher->call, &message);
            if (err != ERR_LIMIT) { /* else the stream is full: next time */
                watcher_end(jobs, i - 1, err);
            }
        }
    }
}
