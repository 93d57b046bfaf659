/* engine.c - see engine.h. One loop: take jobs, run a step, take a token from each that has one. */
#include "services/lora-gateway/engine.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "services/lora-gateway/stops.h"
#include "shared/base/check.h"
#include "shared/base/log.h"
#include "shared/blob/blob_file.h"
#include "shared/lm/session.h"
#include "shared/platform/clock.h"
#include "shared/platform/mailbox.h"
#include "shared/platform/pool.h"
#include "shared/platform/thread.h"

#define IDLE_MS 1000     /* a sleeping engine looks around this often */
#define LOAD_LOG_MS 2000 /* between two lines about a base on its way */

/* A job while it is in the batch. */
struct sequence {
    struct engine_job *job;
    struct lm_session *session;
    const struct lm_adapter *adapter;
    struct lm_token_stream stream;
    uint32_t read;  /* prompt tokens run so far */
    uint32_t token; /* the latest token, still to be run */
    size_t shown;   /* bytes of job->text handed out */
};

struct engine {
    struct engine_options options;
    struct mailbox *mailbox; /* of jobs, and of `wanted` itself: load the base */
    struct thread *thread;
    struct pool *pool;
    pthread_mutex_t lock;
    struct digest wanted;         /* under lock, as the profile */
    struct digest wanted_profile; /* zero: none */

    /* The thread's own. */
    struct lineage_base *base;
    uint64_t load_log_ms;
    struct resident_adapters *adapters;
    struct lm_batch *batch;
    struct lm_sampler *sampler;
    struct sequence sequences[ENGINE_SEQUENCES_MAX];
    uint32_t sequence_count;
    float *logits;           /* [sequences_max x vocab] */
    struct engine_job *held; /* taken, but without a place yet */

    _Atomic bool stopping;
    _Atomic uint32_t active;
    _Atomic uint32_t resident;
    _Atomic uint64_t tokens;
    _Atomic uint64_t steps;
};

void engine_job_deinit(struct engine_job *job)
{
    free(job->ids);
    job->ids = NULL;
    job->id_count = 0;
    buf_deinit(&job->text);
}

/* ---- one sequence ------------------------------------------------------------------------------- */

static void finish_job(struct engine *engine, struct engine_job *job, enum engine_end end)
{
    job->end = end;
    engine->options.calls.done(engine->options.calls.context, job);
}

static void fail_job(struct engine *engine, struct engine_job *job, enum err err)
{
    job->err = err;
    finish_job(engine, job, ENGINE_FAILED);
}

/* Removes sequence at from the batch and ends its job. */
static void end_sequence(struct engine *engine, uint32_t at, enum engine_end end)
{
    struct sequence sequence = engine->sequences[at];
    engine->sequences[at] = engine->sequences[--engine->sequence_count];
    lm_session_destroy(sequence.session);
    resident_adapters_release(engine->adapters, sequence.adapter);
    atomic_store(&engine->active, engine->sequence_count);
    finish_job(engine, sequence.job, end);
}

/* Memory for the job's answer and its place in the batch. */
static enum err start_sequence(struct engine *engine, struct engine_job *job)
{
    struct sequence sequence = {.job = job};
    enum err err = resident_adapters_acquire(engine->adapters, engine->base, engine->options.blobs,
                                             &job->adapter, &sequence.adapter, &job->note);
    if (err != ERR_OK) {
        return err;
    }
    atomic_store(&engine->resident, resident_adapters_count(engine->adapters));
    job->ids = calloc(job->max_tokens, sizeof *job->ids);
    err = job->ids == NULL
              ? ERR_NO_MEMORY
              : lm_session_create(engine->base->model, job->prompt_count + job->max_tokens,
                                  &sequence.session);
    if (err != ERR_OK) {
        resident_adapters_release(engine->adapters, sequence.adapter);
        return err;
    }
    buf_init(&job->text, ENGINE_TEXT_MAX);
    lm_token_stream_init(&sequence.stream, engine->base->tokenizer, false);
    engine->sequences[engine->sequence_count++] = sequence;
    atomic_store(&engine->active, engine->sequence_count);
    return ERR_OK;
}

/* Hands out what is certain; with all, everything. */
static void show(struct engine *engine, struct sequence *sequence, bool all)
{
    struct engine_job *job = sequence->job;
    struct bytes text = buf_bytes(&job->text);
    size_t hold = all ? 0 : stops_hold(text, job->stops, job->stop_count);
    if (text.size - hold > sequence->shown) {
        size_t size = text.size - hold - sequence->shown;
        engine->options.calls.text(engine->options.calls.context, job,
                                   bytes_of(text.data + sequence->shown, size));
        sequence->shown += size;
    }
}

/* Adds token to the answer. Returns whether the answer goes on; if not, *out_end says why. */
static bool take_token(struct engine *engine, struct sequence *sequence, uint32_t token,
                       enum engine_end *out_end)
{
    struct engine_job *job = sequence->job;
    const struct lm_chat *chat = &engine->base->chat;
    bool stop = false;
    for (uint32_t i = 0; i < chat->stop_count; i++) {
        stop = stop || token == chat->stop[i];
    }
    size_t before = job->text.size;
    enum err err = ERR_OK;
    if (!stop) {
        CHECK(job->id_count < job->max_tokens);
        job->ids[job->id_count++] = token;
        sequence->token = token;
        atomic_fetch_add(&engine->tokens, 1);
        err = lm_token_stream_push(&sequence->stream, token, &job->text);
    }
    bool length = job->id_count == job->max_tokens;
    if (err == ERR_OK && (stop || length)) {
        err = lm_token_stream_finish(&sequence->stream, &job->text);
    }
    if (err != ERR_OK) {
        job->err = err;
        *out_end = ENGINE_FAILED;
        return false;
    }
    size_t at = stops_find(buf_bytes(&job->text), before, job->stops, job->stop_count);
    if (at != STOPS_NONE) {
        buf_truncate(&job->text, at);
        stop = true;
    }
    show(engine, sequence, stop || length);
    *out_end = stop ? ENGINE_STOP : ENGINE_LENGTH;
    return !stop && !length;
}

/* ---- one step ----------------------------------------------------------------------------------- */

/* The next tokens of a sequence, at most room. */
static struct lm_step next_step(const struct sequence *sequence, uint32_t room, float *logits)
{
    const struct engine_job *job = sequence->job;
    struct lm_step step = {.session = sequence->session, .adapter = sequence->adapter};
    if (sequence->read == job->prompt_count) {
        step.tokens = &sequence->token;
        step.token_count = 1;
        step.out_logits = logits;
        return step;
    }
    uint32_t count = job->prompt_count - sequence->read;
    count = count < ENGINE_CHUNK ? count : ENGINE_CHUNK;
    count = count < room ? count : room;
    step.tokens = job->prompt + sequence->read;
    step.token_count = count;
    step.out_logits = sequence->read + count == job->prompt_count ? logits : NULL;
    return step;
}

/* After the rows of step were run: the sequence moves on. Returns false when it ended. */
static bool advance(struct engine *engine, uint32_t at, const struct lm_step *step)
{
    struct sequence *sequence = &engine->sequences[at];
    struct engine_job *job = sequence->job;
    if (sequence->read < job->prompt_count) {
        sequence->read += step->token_count;
    }
    if (step->out_logits == NULL) {
        return true;
    }
    uint32_t token = 0;
    enum engine_end end = ENGINE_FAILED;
    job->err =
        lm_sample(engine->sampler, &job->sampling, step->out_logits, job->id_count, &token, NULL);
    if (job->err == ERR_OK && take_token(engine, sequence, token, &end)) {
        return true;
    }
    end_sequence(engine, at, end);
    return false;
}

/* A batch that failed as a whole is run one by one, so that only the guilty fail. */
static void run_singly(struct engine *engine, struct lm_step *steps, uint32_t count)
{
    for (uint32_t i = count; i-- > 0;) {
        struct engine_job *job = engine->sequences[i].job;
        job->err =
            lm_batch_step(engine->batch, &steps[i], 1, pool_parallel(engine->pool), &job->note);
        if (job->err != ERR_OK) {
            end_sequence(engine, i, ENGINE_FAILED);
        } else {
            (void)advance(engine, i, &steps[i]);
        }
    }
}

static void run_step(struct engine *engine)
{
    const struct engine_calls *calls = &engine->options.calls;
    for (uint32_t i = engine->sequence_count; i-- > 0;) {
        if (atomic_load(&engine->stopping) ||
            calls->gone(calls->context, engine->sequences[i].job)) {
            end_sequence(engine, i, ENGINE_CANCELLED);
        }
    }
    struct lm_step steps[ENGINE_SEQUENCES_MAX];
    uint32_t count = engine->sequence_count;
    if (count == 0) {
        return; /* before the base model is there, too */
    }
    uint32_t vocab = lm_model_config(engine->base->model)->vocab;
    uint32_t room = ENGINE_ROWS_MAX;
    for (uint32_t i = 0; i < count; i++) {
        /* Keep one row for each that comes after: nobody starves behind long prompts. */
        uint32_t share = room - (count - i - 1);
        steps[i] = next_step(&engine->sequences[i], share, engine->logits + (size_t)i * vocab);
        room -= steps[i].token_count;
    }
    atomic_fetch_add(&engine->steps, 1);
    struct note note = {.text = ""};
    enum err err = lm_batch_step(engine->batch, steps, count, pool_parallel(engine->pool), &note);
    if (err != ERR_OK) {
        run_singly(engine, steps, count);
        return;
    }
    /* Descending, because a sequence that ends gives its place to the last one. */
    for (uint32_t i = count; i-- > 0;) {
        (void)advance(engine, i, &steps[i]);
    }
}

/* ---- the thread --------------------------------------------------------------------------------- */

static enum err make_scratch(struct engine *engine, struct lineage_base *base)
{
    uint32_t vocab = lm_model_config(base->model)->vocab;
    struct lm_batch *batch = NULL;
    struct lm_sampler *sampler = NULL;
    float *logits = calloc((size_t)engine->options.sequences_max * vocab, sizeof *logits);
    enum err err =
        logits == NULL ? ERR_NO_MEMORY : lm_batch_create(base->model, ENGINE_ROWS_MAX, &batch);
    if (err == ERR_OK) {
        err = lm_sampler_create(NULL, vocab, &sampler);
    }
    if (err != ERR_OK) {
        lm_batch_destroy(batch);
        free(logits);
        return err;
    }
    engine->logits = logits;
    engine->batch = batch;
    engine->sampler = sampler;
    return ERR_OK;
}

/* The base's files come out of the store. */
static bool on_loading(void *context, uint64_t done, uint64_t total)
{
    struct engine *engine = context;
    uint64_t now = clock_mono_ms();
    if (now - engine->load_log_ms >= LOAD_LOG_MS) {
        engine->load_log_ms = now;
        log_info("base_loading done_mib=%llu of_mib=%llu", (unsigned long long)done >> 20,
                 (unsigned long long)total >> 20);
    }
    return !atomic_load(&engine->stopping);
}

static void load_base(struct engine *engine)
{
    struct note note = {.text = ""};
    struct lineage_base *base = NULL;
    struct digest wanted;
    struct digest profile;
    pthread_mutex_lock(&engine->lock);
    wanted = engine->wanted;
    profile = engine->wanted_profile;
    pthread_mutex_unlock(&engine->lock);
    if (engine->base != NULL) {
        return; /* asked twice: the first one stays */
    }
    struct blob_progress progress = {.report = on_loading, .context = engine};
    struct lineage_load how = {.profile = digest_is_zero(&profile) ? NULL : &profile,
                               .serve_only = true,
                               .kernels = engine->options.kernels,
                               .progress = &progress};
    engine->load_log_ms = clock_mono_ms();
    enum err err = lineage_base_load(engine->options.blobs, &wanted, &how, &base, &note);
    if (err == ERR_OK) {
        err = make_scratch(engine, base);
    }
    if (err != ERR_OK) {
        if (note.text[0] == '\0') {
            (void)note_set(&note, err, "%s", err_meaning(err));
        }
        lineage_base_destroy(base);
        base = NULL;
    }
    engine->base = base;
    engine->options.calls.loaded(engine->options.calls.context, base, &note);
}

/* Gives the held job a place in the batch. False: there is none for now. */
static bool place_held(struct engine *engine)
{
    if (engine->sequence_count == engine->options.sequences_max) {
        return false;
    }
    struct engine_job *job = engine->held;
    engine->held = NULL;
    if (engine->options.calls.gone(engine->options.calls.context, job)) {
        finish_job(engine, job, ENGINE_CANCELLED);
        return true;
    }
    enum err err = engine->base == NULL ? ERR_UNAVAILABLE : start_sequence(engine, job);
    if (err != ERR_OK) {
        fail_job(engine, job, err);
    }
    return true;
}

/* Takes jobs while there is room. Returns false when the engine is to end. */
static bool take_jobs(struct engine *engine)
{
    while (!atomic_load(&engine->stopping)) {
        if (engine->held != NULL && !place_held(engine)) {
            return true;
        }
        void *message = NULL;
        bool idle = engine->sequence_count == 0;
        enum err err = mailbox_take(engine->mailbox, idle ? IDLE_MS : 0, &message);
        if (err == ERR_TIMEOUT) {
            return true;
        }
        if (err != ERR_OK) {
            return false;
        }
        if (message == &engine->wanted) {
            load_base(engine);
        } else {
            engine->held = message;
        }
    }
    return false;
}

static void cancel_all(struct engine *engine)
{
    while (engine->sequence_count > 0) {
        end_sequence(engine, engine->sequence_count - 1, ENGINE_CANCELLED);
    }
    void *message = engine->held;
    engine->held = NULL;
    do {
        if (message != NULL && message != &engine->wanted) {
            finish_job(engine, message, ENGINE_CANCELLED);
        }
    } while (mailbox_take(engine->mailbox, 0, &message) == ERR_OK);
}

static void engine_thread(void *argument)
{
    struct engine *engine = argument;
    while (take_jobs(engine)) {
        run_step(engine);
    }
    cancel_all(engine);
}

enum err engine_create(const struct engine_options *options, struct engine **out, struct note *note)
{
    struct engine *engine = calloc(1, sizeof *engine);
    if (engine == NULL) {
        return ERR_NO_MEMORY;
    }
    CHECK(pthread_mutex_init(&engine->lock, NULL) == 0);
    engine->options = *options;
    CHECK(options->sequences_max >= 1);
    CHECK(options->sequences_max <= ENGINE_SEQUENCES_MAX);
    if (engine->options.adapters_max <= options->sequences_max) {
        engine->options.adapters_max = options->sequences_max + 1;
    }
    engine->mailbox = mailbox_create(ENGINE_JOBS_MAX);
    engine->pool = pool_create(options->workers);
    engine->adapters = resident_adapters_create(engine->options.adapters_max);
    enum err err = ERR_NO_MEMORY;
    if (engine->mailbox != NULL && engine->pool != NULL && engine->adapters != NULL) {
        err = thread_start("engine", engine_thread, engine, &engine->thread, note);
    }
    if (err != ERR_OK) {
        engine_destroy(engine);
        return err;
    }
    *out = engine;
    return ERR_OK;
}

void engine_destroy(struct engine *engine)
{
    if (engine == NULL) {
        return;
    }
    atomic_store(&engine->stopping, true);
    if (engine->mailbox != NULL) {
        mailbox_close(engine->mailbox);
        thread_join(engine->thread);
        mailbox_destroy(engine->mailbox, NULL);
    }
    resident_adapters_destroy(engine->adapters);
    lm_sampler_destroy(engine->sampler);
    lm_batch_destroy(engine->batch);
    lineage_base_destroy(engine->base);
    pool_destroy(engine->pool);
    free(engine->logits);
    pthread_mutex_destroy(&engine->lock);
    free(engine);
}

enum err engine_load(struct engine *engine, const struct digest *content,
                     const struct digest *profile)
{
    pthread_mutex_lock(&engine->lock);
    engine->wanted = *content;
    const struct digest none = {{0}};
    engine->wanted_profile = *(profile == NULL ? &none : profile);
    pthread_mutex_unlock(&engine->lock);
    return mailbox_post(engine->mailbox, &engine->wanted);
}

enum err engine_submit(struct engine *engine, struct engine_job *job)
{
    return mailbox_post(engine->mailbox, job);
}

void engine_status(struct engine *engine, struct engine_status *out)
{
    *out = (struct engine_status){
        .active = atomic_load(&engine->active),
        .waiting = mailbox_count(engine->mailbox),
        .adapters = atomic_load(&engine->resident),
        .tokens = atomic_load(&engine->tokens),
        .steps = atomic_load(&engine->steps),
    };
}
