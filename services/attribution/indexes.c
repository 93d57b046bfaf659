/* indexes.c - the engine's indexes: built when missing, loaded when needed; see engine.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "services/attribution/internal.h"
#include "shared/base/check.h"
#include "shared/base/log.h"
#include "shared/blob/blob_file.h"
#include "shared/crypto/sha256.h"
#include "shared/ledger/tx.h"
#include "shared/platform/clock.h"

#define PROGRESS_LOG_MS 1000

/* ---- status --------------------------------------------------------------------------------------- */

static struct engine_failure *failure_find(struct engine *engine, const char *name)
{
    uint32_t held =
        engine->failure_count < ENGINE_FAILURES_MAX ? engine->failure_count : ENGINE_FAILURES_MAX;
    for (uint32_t i = 0; i < held; i++) {
        if (strcmp(engine->failures[i].name, name) == 0) {
            return &engine->failures[i];
        }
    }
    return NULL;
}

static void set_building(struct engine *engine, const char *name, const char *detail)
{
    CHECK(pthread_mutex_lock(&engine->lock) == 0);
    (void)snprintf(engine->building, sizeof engine->building, "%s", name);
    (void)snprintf(engine->building_detail, sizeof engine->building_detail, "%s", detail);
    CHECK(pthread_mutex_unlock(&engine->lock) == 0);
}

static void set_failed(struct engine *engine, const char *name, enum err err,
                       const struct note *note)
{
    bool permanent = attribution_hopeless(err);
    CHECK(pthread_mutex_lock(&engine->lock) == 0);
    struct engine_failure *slot = failure_find(engine, name);
    if (slot == NULL) {
        slot = &engine->failures[engine->failure_count++ % ENGINE_FAILURES_MAX];
    }
    bool disk = attribution_disk(err);
    *slot = (struct engine_failure){
        .retry_at_ms = clock_mono_ms() + (disk ? ENGINE_DISK_RETRY_MS : ENGINE_INDEX_RETRY_MS),
        .permanent = permanent};
    (void)snprintf(slot->name, sizeof slot->name, "%s", name);
    (void)snprintf(slot->detail, sizeof slot->detail, "%.*s", ENGINE_DETAIL_SIZE - 1, note->text);
    CHECK(pthread_mutex_unlock(&engine->lock) == 0);
    log_warn("index_failed adapter=%s permanent=%d err=%s note=\"%s\"", name, permanent,
             err_name(err), note->text);
}

/* May an index be tried now? */
static bool may_try(struct engine *engine, const char *name)
{
    CHECK(pthread_mutex_lock(&engine->lock) == 0);
    const struct engine_failure *failure = failure_find(engine, name);
    bool may = failure == NULL || (!failure->permanent && clock_mono_ms() >= failure->retry_at_ms);
    CHECK(pthread_mutex_unlock(&engine->lock) == 0);
    return may;
}

static bool is_hopeless(struct engine *engine, const char *name)
{
    CHECK(pthread_mutex_lock(&engine->lock) == 0);
    const struct engine_failure *failure = failure_find(engine, name);
    bool hopeless = failure != NULL && failure->permanent;
    CHECK(pthread_mutex_unlock(&engine->lock) == 0);
    return hopeless;
}

void engine_index_status(struct engine *engine, const char *adapter, struct engine_status *out)
{
    *out = (struct engine_status){.state = "waiting"};
    CHECK(pthread_mutex_lock(&engine->lock) == 0);
    const struct engine_failure *failure = failure_find(engine, adapter);
    if (strcmp(engine->building, adapter) == 0) {
        out->state = "building";
        memcpy(out->detail, engine->building_detail, sizeof out->detail);
    } else if (failure != NULL) {
        out->state = failure->permanent ? "failed" : "waiting";
        memcpy(out->detail, failure->detail, sizeof out->detail);
    }
    CHECK(pthread_mutex_unlock(&engine->lock) == 0);
}

/* ---- judges in memory ------------------------------------------------------------------------------- */

static void judge_clear(struct engine_judge *judge)
{
    lm_adapter_destroy(judge->adapter);
    attrib_index_destroy(judge->index);
    *judge = (struct engine_judge){.used = 0};
}

void engine_judges_clear(struct engine *engine)
{
    for (uint32_t i = 0; i < ENGINE_JUDGES_MAX; i++) {
        judge_clear(&engine->judges[i]);
    }
    lineage_base_destroy(engine->base);
    engine->base = NULL;
}

static struct engine_judge *judge_find(struct engine *engine, const char *name)
{
    for (uint32_t i = 0; i < ENGINE_JUDGES_MAX; i++) {
        if (name[0] != '\0' && strcmp(engine->judges[i].name, name) == 0) {
            return &engine->judges[i];
        }
    }
    return NULL;
}

/* The place used longest ago, emptied. */
static struct engine_judge *judge_place(struct engine *engine)
{
    struct engine_judge *oldest = &engine->judges[0];
    for (uint32_t i = 1; i < ENGINE_JUDGES_MAX; i++) {
        if (engine->judges[i].used < oldest->used) {
            oldest = &engine->judges[i];
        }
    }
    judge_clear(oldest);
    return oldest;
}

static void building_detail(struct engine *engine, const char *detail)
{
    CHECK(pthread_mutex_lock(&engine->lock) == 0);
    (void)snprintf(engine->building_detail, sizeof engine->building_detail, "%s", detail);
    CHECK(pthread_mutex_unlock(&engine->lock) == 0);
}

/* The base's files come out of the store. */
static bool on_loading(void *context, uint64_t done, uint64_t total)
{
    struct engine *engine = context;
    char detail[ENGINE_DETAIL_SIZE];
    (void)snprintf(detail, sizeof detail, "base: %llu of %llu MiB", (unsigned long long)done >> 20,
                   (unsigned long long)total >> 20);
    building_detail(engine, detail);
    return !engine_stopping(engine);
}

/* Makes engine->base the wanted model; judges of another one go. */
static enum err need_base(struct engine *engine, const struct lineage_adapter *origin,
                          struct note *note)
{
    if (engine->base != NULL && digest_equal(&engine->base->content, &origin->model_content) &&
        digest_equal(&engine->base->profile, &origin->model_profile)) {
        return ERR_OK;
    }
    engine_judges_clear(engine);
    struct blob_store *blobs = service_blobs(engine->options.service);
    struct blob_progress progress = {.report = on_loading, .context = engine};
    struct lineage_load how = {.profile = &origin->model_profile, .progress = &progress};
    return lineage_base_load(blobs, &origin->model_content, &how, &engine->base, note);
}

static bool on_rows(void *context, uint32_t done, uint32_t count)
{
    struct engine *engine = context;
    char detail[ENGINE_DETAIL_SIZE];
    (void)snprintf(detail, sizeof detail, "%u of %u rows", done, count);
    building_detail(engine, detail);
    uint64_t now = clock_mono_ms();
    if (now >= engine->progress_at_ms) {
        engine->progress_at_ms = now + PROGRESS_LOG_MS;
        log_info("index_building adapter=%s rows=%u of=%u", engine->building, done, count);
    }
    return !engine_stopping(engine);
}

static enum err build(struct engine *engine, const struct lineage_adapter *origin,
                      const struct lm_adapter *adapter, struct attrib_index **out,
                      struct digest *out_digest, struct buf *out_bytes, struct note *note)
{
    const struct lineage_build what = {.blobs = service_blobs(engine->options.service),
                                       .origin = origin,
                                       .base = engine->base,
                                       .adapter = adapter,
                                       .parallel = pool_parallel(engine->pool),
                                       .progress = on_rows,
                                       .context = engine};
    struct attrib_index *index = NULL;
    set_building(engine, origin->name, "loading rows");
    enum err err = lineage_index_build(&what, &index, note);
    if (err == ERR_OK) {
        err = attrib_index_save(index, out_bytes);
        sha256(buf_bytes(out_bytes), out_digest);
    }
    set_building(engine, "", "");
    if (err != ERR_OK) {
        attrib_index_destroy(index);
        return err;
    }
    *out = index;
    return ERR_OK;
}

/* Loads the published index; where its blob is missing or damaged it is built again, to the same bytes, and put back. */
static enum err load_index(struct engine *engine, const struct lineage_adapter *origin,
                           const struct lm_adapter *adapter, struct attrib_index **out,
                           struct note *note)
{
    struct buf bytes;
    struct digest digest;
    buf_init(&bytes, ATTRIB_INDEX_MAX);
    enum err err = blob_get(service_blobs(engine->options.service), &origin->index, &bytes, note);
    if (err == ERR_OK) {
        err = attrib_index_load(buf_bytes(&bytes), out, note);
    } else if (err == ERR_NOT_FOUND || err == ERR_CORRUPT) {
        err = build(engine, origin, adapter, out, &digest, &bytes, note);
        if (err == ERR_OK && !digest_equal(&digest, &origin->index)) {
            err = note_set(note, ERR_INVALID, "the published index of %s is not its index",
                           origin->name);
        }
        err = err ? err
                  : blob_put(service_blobs(engine->options.service), buf_bytes(&bytes), &digest,
                             note);
        if (err != ERR_OK) {
            attrib_index_destroy(*out);
            *out = NULL;
        }
    }
    buf_deinit(&bytes);
    return err;
}

/* ---- what is asked of the worker ---------------------------------------------------------------------- */

struct question {
    struct engine *engine;
    const char *name;              /* get: which adapter */
    bool found;                    /* next: there is work */
    struct lineage_adapter origin; /* owned when found */
    struct digest index;           /* publish */
    enum err err;
    struct note note;
};

/* The first adapter without an index that may be tried now. */
static void on_next(void *argument)
{
    struct question *question = argument;
    struct engine *engine = question->engine;
    const struct ledger *ledger = follow_ledger(engine->options.follow);
    if (ledger == NULL || !follow_caught_up(engine->options.follow) ||
        !ledger_is_bonded(ledger, &engine->options.account->id, LEDGER_ROLE_ATTRIBUTION)) {
        return;
    }
    const struct ledger_adapter *adapter = NULL;
    while (!question->found && (adapter = ledger_next_adapter(ledger, adapter)) != NULL) {
        question->found = !adapter->has_index && may_try(engine, adapter->name) &&
                          lineage_adapter_init(ledger, adapter->name, &question->origin,
                                               &question->note) == ERR_OK;
    }
}

static void on_get(void *argument)
{
    struct question *question = argument;
    const struct ledger *ledger = follow_ledger(question->engine->options.follow);
    question->err = ledger == NULL ? ERR_UNAVAILABLE
                                   : lineage_adapter_init(ledger, question->name, &question->origin,
                                                          &question->note);
}

static void on_publish(void *argument)
{
    struct question *question = argument;
    const struct engine_options *options = &question->engine->options;
    Openledger__V1__PublishIndex publish = OPENLEDGER__V1__PUBLISH_INDEX__INIT;
    Openledger__V1__TxBody action = OPENLEDGER__V1__TX_BODY__INIT;
    publish.adapter = question->origin.name;
    publish.index = ledger_binary(question->index.bytes, DIGEST_SIZE);
    action.action_case = OPENLEDGER__V1__TX_BODY__ACTION_PUBLISH_INDEX;
    action.publish_index = &publish;
    question->err =
        follow_submit(options->follow, &action, &options->account->id, options->account->keys,
                      ENGINE_SUBMIT_MS, NULL, NULL, &question->note);
    const struct ledger_adapter *adapter =
        ledger_adapter(follow_ledger(options->follow), question->origin.name);
    if (question->err != ERR_OK && adapter != NULL && adapter->has_index) {
        question->err = ERR_OK; /* someone was faster; answers go by what is published */
    }
}

/* ---- the engine's two questions ------------------------------------------------------------------------ */

static enum err build_and_publish(struct engine *engine, struct question *question,
                                  struct note *note)
{
    struct lineage_adapter *origin = &question->origin;
    struct blob_store *blobs = service_blobs(engine->options.service);
    struct engine_judge made = {.used = ++engine->tick};
    struct buf bytes;
    uint64_t started = clock_mono_ms();
    buf_init(&bytes, ATTRIB_INDEX_MAX);
    enum err err = need_base(engine, origin, note);
    if (err == ERR_OK) {
        err = lineage_adapter_load(blobs, engine->base, &origin->content, &made.adapter, note);
    }
    if (err == ERR_OK) {
        err = build(engine, origin, made.adapter, &made.index, &question->index, &bytes, note);
    }
    if (err == ERR_OK) {
        struct digest stored;
        err = blob_put(service_blobs(engine->options.service), buf_bytes(&bytes), &stored, note);
    }
    if (err == ERR_OK) {
        struct attrib_info info;
        attrib_index_info(made.index, &info);
        log_info("index_built adapter=%s rows=%u dimensions=%u size=%zu ms=%llu", origin->name,
                 info.row_count, info.dimensions, bytes.size,
                 (unsigned long long)(clock_mono_ms() - started));
        err = engine_ask(engine, on_publish, question) ? question->err : ERR_CANCELLED;
        *note = question->note;
    }
    buf_deinit(&bytes);
    judge_clear(&made); /* loaded when the first answer comes */
    return err;
}

void engine_indexes(struct engine *engine)
{
    struct question question = {.engine = engine};
    if (!engine_ask(engine, on_next, &question) || !question.found) {
        return;
    }
    struct note note = {""};
    enum err err = build_and_publish(engine, &question, &note);
    if (err != ERR_OK && err != ERR_CANCELLED) {
        set_failed(engine, question.origin.name, err, &note);
    } else if (err == ERR_OK) {
        log_info("index_published adapter=%s", question.origin.name);
    }
    lineage_adapter_deinit(&question.origin);
}

enum err engine_judge_get(struct engine *engine, const char *adapter,
                          const struct lineage_judge **out, struct note *note)
{
    struct engine_judge *found = judge_find(engine, adapter);
    if (found != NULL) {
        found->used = ++engine->tick;
        *out = &found->judge;
        return ERR_OK;
    }
    struct question question = {.engine = engine, .name = adapter};
    if (!engine_ask(engine, on_get, &question)) {
        return ERR_UNAVAILABLE;
    }
    if (question.err != ERR_OK || !question.origin.has_index) {
        lineage_adapter_deinit(&question.origin);
        bool hopeless = question.err == ERR_OK && is_hopeless(engine, adapter);
        return note_set(note, hopeless ? ERR_INVALID : ERR_UNAVAILABLE,
                        "adapter %.64s has no index%s", adapter, hopeless ? "" : " yet");
    }
    struct blob_store *blobs = service_blobs(engine->options.service);
    struct lineage_adapter *origin = &question.origin;
    enum err err = need_base(engine, origin, note);
    struct engine_judge made = {.used = ++engine->tick};
    if (err == ERR_OK) {
        err = lineage_adapter_load(blobs, engine->base, &origin->content, &made.adapter, note);
    }
    if (err == ERR_OK) {
        err = load_index(engine, origin, made.adapter, &made.index, note);
    }
    if (err == ERR_OK) {
        struct engine_judge *place = judge_place(engine);
        memcpy(made.name, origin->name, sizeof made.name);
        made.judge = (struct lineage_judge){.base = engine->base,
                                            .adapter = made.adapter,
                                            .index = made.index,
                                            .index_digest = origin->index};
        *place = made;
        *out = &place->judge;
    } else {
        judge_clear(&made);
    }
    lineage_adapter_deinit(&question.origin);
    return err;
}
