/* desk.c - see desk.h: opening, group commit, leases, batches, the outbox. */
#include "services/lora-gateway/desk.h"

#include <stdlib.h>
#include <string.h>

#include "shared/base/check.h"
#include "shared/base/log.h"
#include "shared/ledger/batch.h"
#include "shared/ledger/tx.h"
#include "shared/platform/clock.h"

#define ACCOUNT_NAME "lora-gateway"

const struct ledger *desk_ledger(const struct desk *desk)
{
    return follow_ledger(desk->follow);
}

/* ---- the journal --------------------------------------------------------------------------------- */

void desk_fail(struct desk *desk, enum err err, const struct note *note)
{
    log_error("journal_failed err=%s note=\"%s\"", err_name(err), note->text);
    service_stop(desk->service, 1);
}

/* Makes everything appended so far durable and tells those who wait. */
static void sync_journal(void *context)
{
    struct desk *desk = context;
    struct note note = {.text = ""};
    desk->sync_posted = false;
    enum err err = journal_sync(desk->journal, &note);
    if (err == ERR_OK) {
        err = gateway_store_follow(desk->store, desk->journal, &note);
    }
    if (err != ERR_OK) {
        desk_fail(desk, err, &note); /* those who wait are freed by desk_destroy */
        return;
    }
    struct desk_waiter *waiter = desk->waiting;
    desk->waiting = NULL;
    desk->waiting_end = &desk->waiting;
    while (waiter != NULL) {
        struct desk_waiter *next = waiter->next;
        waiter->next = NULL;
        waiter->durable(waiter);
        waiter = next;
    }
}

static void want_sync(struct desk *desk)
{
    if (desk->sync_posted) {
        return;
    }
    desk->sync_posted = true;
    if (service_post(desk->service, sync_journal, desk) != ERR_OK) {
        sync_journal(desk); /* the queue is full, or we are stopping */
    }
}

enum err desk_record(struct desk *desk, Openledger__V1__GatewayRecord *record,
                     struct desk_waiter *waiter, struct note *note)
{
    struct buf data;
    uint64_t index = 0;
    buf_init(&data, JOURNAL_RECORD_MAX);
    enum err err = ledger_pack(&record->base, &data);
    if (err == ERR_OK) {
        err = journal_append(desk->journal, buf_bytes(&data), &index, note);
        if (err != ERR_OK) {
            desk_fail(desk, err, note);
        }
    }
    buf_deinit(&data);
    if (err != ERR_OK) {
        return err;
    }
    err = gateway_apply(desk->gateway, record, note);
    if (err != ERR_OK) {
        desk_fail(desk, err, note); /* the journal now says something that we do not */
        return err;
    }
    if (record->content_case == OPENLEDGER__V1__GATEWAY_RECORD__CONTENT_FINISHED &&
        desk->unbatched_since_ms == 0) {
        desk->unbatched_since_ms = clock_mono_ms();
    }
    if (waiter != NULL) {
        *desk->waiting_end = waiter;
        desk->waiting_end = &waiter->next;
    }
    want_sync(desk);
    return ERR_OK;
}

static enum err replay(void *argument, uint64_t index, struct bytes data)
{
    struct desk *desk = argument;
    struct note note = {.text = ""};
    Openledger__V1__GatewayRecord *record = NULL;
    enum err err = gateway_record_decode(data, &record, &note);
    if (err == ERR_OK) {
        err = gateway_apply(desk->gateway, record, &note);
    }
    openledger__v1__gateway_record__free_unpacked(record, NULL);
    if (err != ERR_OK) {
        log_error("replay_failed index=%llu note=\"%s\"", (unsigned long long)index, note.text);
    }
    return err;
}

static enum err open_journal(struct desk *desk, struct note *note)
{
    char path[SETTINGS_VALUE_MAX];
    struct buf text;
    buf_init(&text, sizeof path);
    buf_printf(&text, "%s/journal", service_data_dir(desk->service));
    struct journal_options options = {.folder = buf_text(&text)};
    enum err err = journal_open(&options, &desk->journal, note);
    if (err == ERR_OK) {
        err = journal_sync(desk->journal, note);
    }
    if (err == ERR_OK) {
        err = journal_each(desk->journal, 0, replay, desk, note);
    }
    if (err == ERR_OK) {
        buf_clear(&text);
        buf_printf(&text, "%s/index", service_data_dir(desk->service));
        err = gateway_store_open(buf_text(&text), &desk->store, note);
    }
    if (err == ERR_OK) {
        err = gateway_store_follow(desk->store, desk->journal, note);
    }
    buf_deinit(&text);
    return err;
}

/* ---- the ledger ---------------------------------------------------------------------------------- */

static void pump(void *context)
{
    struct desk *desk = context;
    atomic_store(&desk->pump_posted, false);
    (void)follow_pump(desk->follow);
}

/* On the follower's thread: once is enough until we have pumped. */
static void wake(void *context)
{
    struct desk *desk = context;
    if (!atomic_exchange(&desk->pump_posted, true) &&
        service_post(desk->service, pump, desk) != ERR_OK) {
        atomic_store(&desk->pump_posted, false); /* the tick pumps too */
    }
}

/* ---- the tick ------------------------------------------------------------------------------------ */

/* Signs what waits of one lease. */
static enum err make_batch(struct desk *desk, const struct gateway_pending *pending,
                           struct note *note)
{
    struct ledger_head head;
    ledger_head(desk_ledger(desk), &head);
    struct ledger_receipt_batch batch = {
        .chain_id = &head.chain_id,
        .gateway = &desk->account,
        .grant = &pending->lease->grant,
        .lease = pending->lease->lease,
        .first_number = pending->first_number,
        .receipts = pending->receipts,
        .count = pending->count,
    };
    struct buf data;
    buf_init(&data, JOURNAL_RECORD_MAX);
    enum err err = ledger_receipt_batch_sign(&batch, desk->keys, &data);
    if (err == ERR_OK) {
        Openledger__V1__GatewayBatch made = OPENLEDGER__V1__GATEWAY_BATCH__INIT;
        made.batch = ledger_binary(data.data, data.size);
        Openledger__V1__GatewayRecord record = OPENLEDGER__V1__GATEWAY_RECORD__INIT;
        record.content_case = OPENLEDGER__V1__GATEWAY_RECORD__CONTENT_BATCH;
        record.batch = &made;
        err = desk_record(desk, &record, NULL, note);
    }
    buf_deinit(&data);
    return err;
}

static void make_batches(struct desk *desk, uint64_t now_ms)
{
    if (desk->unbatched_since_ms == 0 || desk_ledger(desk) == NULL) {
        return;
    }
    bool all = now_ms - desk->unbatched_since_ms >= DESK_BATCH_MS;
    size_t cursor = 0;
    struct gateway_pending pending;
    struct note note = {.text = ""};
    while (gateway_pending_next(desk->gateway, all ? 1 : GATEWAY_BATCH_MAX, &cursor, &pending)) {
        if (make_batch(desk, &pending, &note) != ERR_OK) {
            log_warn("batch_failed note=\"%s\"", note.text);
            return;
        }
    }
    if (all) {
        cursor = 0;
        bool more = gateway_pending_next(desk->gateway, 1, &cursor, &pending);
        desk->unbatched_since_ms = more ? now_ms : 0;
    }
}

/* Hands durable records to the publisher as far as it has room. */
static void feed_outbox(struct desk *desk)
{
    struct note note = {.text = ""};
    uint64_t end = journal_synced_count(desk->journal);
    while (desk->outbox_next < end) {
        Openledger__V1__GatewayRecord *record = NULL;
        enum err err = gateway_record_read(desk->journal, desk->outbox_next, &record, &note);
        if (err == ERR_OK) {
            err = publisher_post(desk->publisher, desk->outbox_next, record);
        }
        if (err != ERR_OK) {
            openledger__v1__gateway_record__free_unpacked(record, NULL);
            if (err != ERR_LIMIT) {
                desk_fail(desk, err, &note);
            }
            break;
        }
        desk->outbox_next++;
    }
}

/* For unsettled_look. */
static bool publish_again(void *context, uint64_t index)
{
    struct desk *desk = context;
    struct note note = {.text = ""};
    Openledger__V1__GatewayRecord *record = NULL;
    enum err err = gateway_record_read(desk->journal, index, &record, &note);
    if (err != ERR_OK) {
        desk_fail(desk, err, &note);
        return false;
    }
    err = publisher_post_again(desk->publisher, index, record);
    if (err != ERR_OK) { /* no room: at the next tick */
        openledger__v1__gateway_record__free_unpacked(record, NULL);
    }
    return err == ERR_OK;
}

/* Follows what is published until the ledger shows it, and notes how far that is. */
static void watch_outbox(struct desk *desk, uint64_t now_ms)
{
    struct unsettled *unsettled = desk->unsettled;
    struct note note = {.text = ""};
    struct gateway_progress progress = {.published = publisher_done(desk->publisher)};
    for (uint32_t i = 0; i < DESK_WATCH_MAX && unsettled_next(unsettled) < progress.published;
         i++) {
        Openledger__V1__GatewayRecord *record = NULL;
        enum err err =
            gateway_record_read(desk->journal, unsettled_next(unsettled), &record, &note);
        if (err == ERR_OK) {
            err = unsettled_add(unsettled, record, now_ms, &note);
            openledger__v1__gateway_record__free_unpacked(record, NULL);
        }
        if (err == ERR_LIMIT) {
            break;
        }
        if (err != ERR_OK) {
            desk_fail(desk, err, &note);
            return;
        }
    }
    /* A ledger that is behind shows less than is settled; without a bus the queue would only fill. */
    if (desk_ledger(desk) != NULL && follow_caught_up(desk->follow) &&
        bus_ready(service_bus(desk->service))) {
        size_t sent = unsettled_look(unsettled, desk_ledger(desk), now_ms, publish_again, desk);
        if (sent > 0) {
            metric_add(desk->republished_total, sent);
            log_warn("published_again records=%zu unsettled=%zu oldest_index=%llu", sent,
                     unsettled_count(unsettled), (unsigned long long)unsettled_floor(unsettled));
        }
    }
    metric_set(desk->unsettled_gauge, (double)unsettled_count(unsettled));
    progress.settled = unsettled_floor(unsettled);
    struct gateway_progress noted = gateway_store_progress(desk->store);
    if ((progress.published != noted.published || progress.settled != noted.settled) &&
        gateway_store_set_progress(desk->store, &progress, &note) != ERR_OK) {
        log_warn("progress_not_noted note=\"%s\"", note.text); /* costs a repetition */
    }
}

/* The base model: the one named in the settings, or the first on the ledger. */
static const struct ledger_model *wanted_model(const struct desk *desk)
{
    const struct ledger *ledger = desk_ledger(desk);
    if (ledger == NULL) {
        return NULL;
    }
    return desk->settings.model[0] != '\0' ? ledger_model(ledger, desk->settings.model)
                                           : ledger_next_model(ledger, NULL);
}

struct loaded {
    struct desk *desk;
    const struct lineage_base *base;
    struct note note;
};

static void take_base(void *argument)
{
    struct loaded *loaded = argument;
    struct desk *desk = loaded->desk;
    const struct ledger_model *model = wanted_model(desk);
    desk->base_wanted = loaded->base != NULL;
    if (loaded->base == NULL) {
        log_warn("model_not_loaded note=\"%s\"", loaded->note.text);
    } else if (model == NULL || !digest_equal(&model->profile, &loaded->base->profile)) {
        log_error("profile_differs note=\"the registered profile is not the one we compute\"");
    } else {
        desk->base = loaded->base;
        memcpy(desk->base_name, model->name, sizeof desk->base_name);
        log_info("model_ready model=%s", desk->base_name);
    }
    free(loaded);
}

/* On the engine's thread. */
static void on_loaded(void *context, const struct lineage_base *base, const struct note *note)
{
    struct desk *desk = context;
    struct loaded *loaded = calloc(1, sizeof *loaded);
    CHECK(loaded != NULL);
    *loaded = (struct loaded){.desk = desk, .base = base, .note = *note};
    if (service_post(desk->service, take_base, loaded) != ERR_OK) {
        free(loaded); /* we are stopping */
    }
}

static void find_base(struct desk *desk)
{
    const struct ledger_model *model = wanted_model(desk);
    if (model != NULL && !desk->base_wanted &&
        engine_load(desk->engine, &model->content, &model->profile) == ERR_OK) {
        desk->base_wanted = true;
    }
}

static void open_account(struct desk *desk)
{
    const struct ledger *ledger = desk_ledger(desk);
    const struct ledger_account *account =
        ledger == NULL ? NULL : ledger_account(ledger, &desk->account);
    struct note note = {.text = ""};
    if (account == NULL || !account->has_key) {
        if (follow_caught_up(desk->follow) &&
            follow_ensure_account(desk->follow, desk->keys, ACCOUNT_NAME, DESK_LEASE_WAIT_MS,
                                  &note) != ERR_OK) {
            log_warn("account_not_open note=\"%s\"", note.text);
        }
        account =
            ledger_account(desk_ledger(desk) == NULL ? ledger : desk_ledger(desk), &desk->account);
    }
    desk->account_open = account != NULL && account->has_key;
}

static void tick(void *context)
{
    struct desk *desk = context;
    uint64_t now_ms = clock_mono_ms();
    (void)follow_pump(desk->follow);
    if (now_ms >= desk->retry_at_ms && desk_ledger(desk) != NULL) {
        desk->retry_at_ms = now_ms + DESK_RETRY_MS;
        if (!desk->account_open) {
            open_account(desk);
        }
        find_base(desk);
    }
    make_batches(desk, now_ms);
    feed_outbox(desk);
    watch_outbox(desk, now_ms);
    answer_drain(desk, now_ms);
    metric_set(desk->open_gauge, (double)gateway_opening_count(desk->gateway));
    const char *reason = desk_ledger(desk) == NULL         ? "the ledger is not known yet"
                         : !follow_caught_up(desk->follow) ? "catching up with the ledger"
                         : desk->base == NULL              ? "no base model yet"
                                                           : NULL;
    service_ready(desk->service, reason == NULL, reason);
}

/* ---- life ---------------------------------------------------------------------------------------- */

static enum err void_openings(struct desk *desk, struct note *note)
{
    enum err err = ERR_OK;
    size_t count = gateway_opening_count(desk->gateway);
    while (err == ERR_OK && gateway_opening_count(desk->gateway) > 0) {
        err = answer_void(desk, gateway_opening_at(desk->gateway, 0), note);
    }
    if (count > 0) {
        log_info("openings_voided count=%zu", count);
    }
    return err;
}

static void make_metrics(struct desk *desk)
{
    struct metrics *metrics = service_metrics(desk->service);
    desk->answers_total = metrics_counter(metrics, "gateway_answers_total", "", "Answers charged.");
    desk->voids_total = metrics_counter(metrics, "gateway_voids_total", "", "Receipts of voids.");
    desk->tokens_total =
        metrics_counter(metrics, "gateway_completion_tokens_total", "", "Tokens charged.");
    desk->refused_total =
        metrics_counter(metrics, "gateway_refused_total", "", "Requests refused before work.");
    desk->answer_seconds =
        metrics_histogram(metrics, "gateway_answer_seconds", "", "From opening to receipt.",
                          METRICS_SECONDS, METRICS_SECONDS_COUNT);
    desk->open_gauge = metrics_gauge(metrics, "gateway_openings", "", "Answers in the making.");
    desk->republished_total =
        metrics_counter(metrics, "gateway_republished_total", "",
                        "Records published again because the ledger did not show them.");
    desk->unsettled_gauge = metrics_gauge(metrics, "gateway_unsettled", "",
                                          "Published records that the ledger does not show yet.");
}

static enum err open_keys(struct desk *desk, struct note *note)
{
    struct buf path;
    buf_init(&path, SETTINGS_VALUE_MAX);
    const char *file = service_key_file(desk->service);
    if (file[0] == '\0') {
        buf_printf(&path, "%s/key.json", service_data_dir(desk->service));
        file = buf_text(&path);
    }
    enum err err = key_pair_load_or_create(file, "", &desk->keys, note);
    if (err == ERR_OK) {
        account_id_from_key(key_pair_public(desk->keys), &desk->account);
        char text[ACCOUNT_ID_TEXT_SIZE];
        log_info("account id=%s", account_id_format(&desk->account, text));
    }
    buf_deinit(&path);
    return err;
}

static enum err open_all(struct desk *desk, struct note *note)
{
    struct service *service = desk->service;
    make_metrics(desk);
    enum err err = open_keys(desk, note);
    if (err == ERR_OK) {
        err = open_journal(desk, note);
    }
    if (err == ERR_OK) {
        err = void_openings(desk, note);
    }
    if (err == ERR_OK) {
        desk->unbatched_since_ms = clock_mono_ms(); /* perhaps receipts wait from before */
        struct gateway_progress progress = gateway_store_progress(desk->store);
        desk->outbox_next = progress.published;
        desk->unsettled =
            unsettled_create(progress.settled, (uint64_t)desk->settings.republish_s * 1000);
        err = desk->unsettled == NULL ? ERR_NO_MEMORY : ERR_OK;
    }
    if (err == ERR_OK) {
        err =
            publisher_create(service_bus(service), service_blobs(service),
                             service_replicas(service), desk->outbox_next, &desk->publisher, note);
    }
    if (err == ERR_OK) {
        struct follow_options options = {.bus = service_bus(service),
                                         .genesis_file =
                                             settings_text(service_settings(service), "genesis"),
                                         .blobs = service_blobs(service),
                                         .on_entry = desk_on_entry,
                                         .wake = wake,
                                         .context = desk};
        err = follow_open(&options, &desk->follow, note);
    }
    if (err == ERR_OK) {
        struct engine_options options = {.blobs = service_blobs(service),
                                         .kernels = desk->settings.kernels,
                                         .workers = desk->settings.workers,
                                         .sequences_max = desk->settings.sequences_max,
                                         .adapters_max = desk->settings.adapters_max,
                                         .calls = answer_engine_calls(desk)};
        options.calls.loaded = on_loaded;
        err = engine_create(&options, &desk->engine, note);
    }
    return err;
}

enum err desk_create(struct service *service, const struct desk_settings *settings,
                     struct desk **out, struct note *note)
{
    struct desk *desk = calloc(1, sizeof *desk);
    if (desk == NULL) {
        return ERR_NO_MEMORY;
    }
    desk->service = service;
    desk->settings = *settings;
    desk->waiting_end = &desk->waiting;
    desk->gateway = gateway_create();
    enum err err = desk->gateway == NULL ? ERR_NO_MEMORY : open_all(desk, note);
    if (err != ERR_OK) {
        desk_destroy(desk);
        return err;
    }
    service_every(service, DESK_TICK_MS, tick, desk);
    *out = desk;
    return ERR_OK;
}

void desk_destroy(struct desk *desk)
{
    if (desk == NULL) {
        return;
    }
    desk->stopping = true;
    engine_destroy(desk->engine); /* its jobs end as cancelled and come to desk->late */
    desk->engine = NULL;          /* for openings that reach the disk only now */
    answer_settle_late(desk);
    if (desk->store != NULL) {
        sync_journal(desk);
    }
    publisher_destroy(desk->publisher);
    unsettled_destroy(desk->unsettled);
    follow_close(desk->follow);
    gateway_store_close(desk->store);
    journal_close(desk->journal);
    gateway_destroy(desk->gateway);
    key_pair_destroy(desk->keys);
    free(desk->times);
    free(desk);
}
