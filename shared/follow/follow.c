/* follow.c - see follow.h.
 *
 * Two threads. The fetcher asks settlement for entries and puts them into a queue; a message on the
 * ledger's subject only wakes it, so a lost or forged message costs a question and nothing else. The
 * worker takes entries from the queue in follow_pump() and executes them: what it applies was checked
 * by the hash chain and by the rules, wherever it came from. */
#include "shared/follow/follow.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "openledger/v1/services.pb-c.h"
#include "shared/base/check.h"
#include "shared/base/log.h"
#include "shared/ledger/tx.h"
#include "shared/platform/clock.h"
#include "shared/platform/file.h"
#include "shared/platform/random.h"
#include "shared/platform/thread.h"
#include "shared/rpc/rpc.h"

enum {
    FETCH_COUNT = 500,     /* entries in one question */
    SILENT_POLL_MS = 1000, /* asked anyway when no message came */
    PUMP_MAX = 256,        /* entries applied in one pump */
    SUBMIT_MS = 15000,     /* default time for a submission */
    SUBMIT_RETRY_MS = 250,
    ANSWER_MS = 2000, /* one question; a settlement that was killed never answers it */
    PUMP_WAIT_MS = 5
};

/* One fetched entry. */
struct item {
    struct item *next;
    size_t size;
    uint8_t data[];
};

struct follow {
    struct follow_options options;
    struct rpc_client *client;
    struct bus_subscription *subscription;
    struct thread *fetcher;

    pthread_mutex_t mutex; /* guards what follows, up to the blank line */
    pthread_cond_t changed;
    struct item *first, *last;
    uint32_t queued;
    uint64_t next_index;   /* to fetch */
    uint64_t remote_index; /* the last that settlement told us of */
    bool asked;            /* settlement answered at least once */
    bool hinted;           /* a message came */
    bool closing;
    struct buf genesis; /* fetched, until the worker takes it */

    struct ledger *ledger; /* the worker's own, as everything below */
    struct ledger_effects effects;
    uint64_t applied_index;
    uint64_t last_complaint_ms;
};

/* ---- the fetcher ---- */

static void on_hint(void *context, struct bus_message *message)
{
    struct follow *follow = context;
    bus_message_destroy(message);
    (void)pthread_mutex_lock(&follow->mutex);
    follow->hinted = true;
    (void)pthread_cond_broadcast(&follow->changed);
    (void)pthread_mutex_unlock(&follow->mutex);
}

static void wait_ms(struct follow *follow, uint32_t ms)
{
    uint64_t end_ms = clock_mono_ms() + ms;
    struct timespec until = {.tv_sec = (time_t)(end_ms / 1000),
                             .tv_nsec = (long)(end_ms % 1000) * 1000000};
    (void)pthread_cond_timedwait(&follow->changed, &follow->mutex, &until);
}

static enum err fetch_genesis(struct follow *follow, struct arena *arena)
{
    Openledger__V1__Empty request = OPENLEDGER__V1__EMPTY__INIT;
    ProtobufCMessage *message;
    enum err err = rpc_call(follow->client, "Settlement.GetInfo", &request.base, ANSWER_MS, arena,
                            &message, NULL);
    if (err != ERR_OK) {
        return err;
    }
    const Openledger__V1__LedgerInfo *info = (const Openledger__V1__LedgerInfo *)message;
    (void)pthread_mutex_lock(&follow->mutex);
    buf_clear(&follow->genesis);
    err = buf_append_bytes(&follow->genesis, ledger_bytes(info->genesis));
    (void)pthread_mutex_unlock(&follow->mutex);
    return err;
}

/* Appends the answer to the queue. Entries are not looked at here: the worker checks them. */
static enum err enqueue(struct follow *follow, const Openledger__V1__GetEntriesReply *reply)
{
    enum err err = ERR_OK;
    (void)pthread_mutex_lock(&follow->mutex);
    for (size_t i = 0; i < reply->n_entries && err == ERR_OK; i++) {
        ProtobufCBinaryData entry = reply->entries[i];
        struct item *item = malloc(sizeof *item + entry.len);
        if (item == NULL) {
            err = ERR_NO_MEMORY;
            break;
        }
        item->next = NULL;
        item->size = entry.len;
        (void)memcpy(item->data, entry.data, entry.len);
        if (follow->last != NULL) {
            follow->last->next = item;
        } else {
            follow->first = item;
        }
        follow->last = item;
        follow->queued++;
        follow->next_index++;
    }
    follow->remote_index = reply->last_index;
    follow->asked = true;
    (void)pthread_cond_broadcast(&follow->changed);
    (void)pthread_mutex_unlock(&follow->mutex);
    return err;
}

static enum err fetch_entries(struct follow *follow, struct arena *arena, bool *out_more)
{
    Openledger__V1__GetEntriesRequest request = OPENLEDGER__V1__GET_ENTRIES_REQUEST__INIT;
    ProtobufCMessage *message;
    (void)pthread_mutex_lock(&follow->mutex);
    request.from_index = follow->next_index;
    (void)pthread_mutex_unlock(&follow->mutex);
    request.count = FETCH_COUNT;
    enum err err = rpc_call(follow->client, "Settlement.GetEntries", &request.base, ANSWER_MS,
                            arena, &message, NULL);
    if (err != ERR_OK) {
        return err;
    }
    const Openledger__V1__GetEntriesReply *reply = (const Openledger__V1__GetEntriesReply *)message;
    *out_more = reply->n_entries > 0 && request.from_index + reply->n_entries <= reply->last_index;
    err = enqueue(follow, reply);
    if (follow->options.wake != NULL) {
        follow->options.wake(follow->options.context);
    }
    return err;
}

static void fetch_loop(void *argument)
{
    struct follow *follow = argument;
    struct arena *arena = arena_create(RPC_ARENA_MAX);
    CHECK(arena != NULL);
    bool more = false;
    (void)pthread_mutex_lock(&follow->mutex);
    while (!follow->closing) {
        if (follow->queued >= FOLLOW_QUEUE_MAX || (!more && !follow->hinted && follow->asked)) {
            wait_ms(follow, SILENT_POLL_MS);
        }
        if (follow->closing || follow->queued >= FOLLOW_QUEUE_MAX) {
            continue;
        }
        bool need_genesis = follow->ledger == NULL && follow->genesis.size == 0;
        follow->hinted = false;
        (void)pthread_mutex_unlock(&follow->mutex);
        arena_reset(arena);
        more = false;
        enum err err = need_genesis ? fetch_genesis(follow, arena) : ERR_OK;
        err = err != ERR_OK ? err : fetch_entries(follow, arena, &more);
        (void)pthread_mutex_lock(&follow->mutex);
        if (err != ERR_OK && !follow->closing) {
            wait_ms(follow, SILENT_POLL_MS / 4); /* settlement or the bus is away */
        }
    }
    (void)pthread_mutex_unlock(&follow->mutex);
    arena_destroy(arena);
}

/* ---- life ---- */

static enum err load_genesis(struct follow *follow, struct note *note)
{
    const char *path = follow->options.genesis_file;
    if (path == NULL || path[0] == '\0') {
        return ERR_OK;
    }
    struct buf genesis;
    buf_init(&genesis, LEDGER_GENESIS_MAX);
    enum err err = file_read(path, &genesis, note);
    err = err != ERR_OK ? err : ledger_create(buf_bytes(&genesis), &follow->ledger, note);
    buf_deinit(&genesis);
    return err;
}

enum err follow_open(const struct follow_options *options, struct follow **out_follow,
                     struct note *note)
{
    CHECK(options->bus != NULL);
    CHECK(options->blobs != NULL);
    struct follow *follow = calloc(1, sizeof *follow);
    if (follow == NULL) {
        return ERR_NO_MEMORY;
    }
    pthread_condattr_t monotonic;
    CHECK(pthread_condattr_init(&monotonic) == 0);
    CHECK(pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC) == 0);
    CHECK(pthread_mutex_init(&follow->mutex, NULL) == 0);
    CHECK(pthread_cond_init(&follow->changed, &monotonic) == 0);
    (void)pthread_condattr_destroy(&monotonic);
    follow->options = *options;
    follow->next_index = 1;
    ledger_effects_init(&follow->effects);
    buf_init(&follow->genesis, LEDGER_GENESIS_MAX);
    follow->client = rpc_client_bus(options->bus);
    enum err err = follow->client == NULL ? ERR_NO_MEMORY : load_genesis(follow, note);
    err = err != ERR_OK ? err
                        : bus_subscribe(options->bus, "ol.ledger.entry", NULL, on_hint, follow,
                                        &follow->subscription);
    err = err != ERR_OK ? err : thread_start("follow", fetch_loop, follow, &follow->fetcher, note);
    if (err != ERR_OK) {
        follow_close(follow);
        return err;
    }
    *out_follow = follow;
    return ERR_OK;
}

void follow_close(struct follow *follow)
{
    if (follow == NULL) {
        return;
    }
    bus_unsubscribe(follow->subscription);
    (void)pthread_mutex_lock(&follow->mutex);
    follow->closing = true;
    (void)pthread_cond_broadcast(&follow->changed);
    (void)pthread_mutex_unlock(&follow->mutex);
    thread_join(follow->fetcher);
    rpc_client_destroy(follow->client);
    while (follow->first != NULL) {
        struct item *item = follow->first;
        follow->first = item->next;
        free(item);
    }
    buf_deinit(&follow->genesis);
    ledger_effects_deinit(&follow->effects);
    ledger_destroy(follow->ledger);
    (void)pthread_cond_destroy(&follow->changed);
    (void)pthread_mutex_destroy(&follow->mutex);
    free(follow);
}

/* ---- the worker ---- */

static enum err get_blob(void *context, const struct digest *digest, struct buf *out)
{
    return blob_get(context, digest, out, NULL);
}

/* Says once a second at most that something holds us up. */
static void complain(struct follow *follow, const char *what, const struct note *note)
{
    uint64_t now_ms = clock_mono_ms();
    if (now_ms - follow->last_complaint_ms >= 1000) {
        follow->last_complaint_ms = now_ms;
        log_warn("%s index=%llu note=\"%s\"", what, (unsigned long long)follow->applied_index + 1,
                 note->text);
    }
}

/* The ledger is made on the worker, once the fetcher has the genesis. */
static void take_genesis(struct follow *follow)
{
    struct ledger *ledger = NULL;
    struct note note = {""};
    (void)pthread_mutex_lock(&follow->mutex);
    enum err err = ERR_NOT_FOUND;
    if (follow->genesis.size > 0) {
        err = ledger_create(buf_bytes(&follow->genesis), &ledger, &note);
        buf_clear(&follow->genesis);
    }
    follow->ledger = ledger;
    (void)pthread_mutex_unlock(&follow->mutex);
    if (err != ERR_OK && err != ERR_NOT_FOUND) {
        complain(follow, "genesis_refused", &note);
    }
}

static struct item *peek(struct follow *follow)
{
    (void)pthread_mutex_lock(&follow->mutex);
    struct item *item = follow->first;
    (void)pthread_mutex_unlock(&follow->mutex);
    return item;
}

static void drop_first(struct follow *follow)
{
    (void)pthread_mutex_lock(&follow->mutex);
    struct item *item = follow->first;
    follow->first = item->next;
    if (follow->first == NULL) {
        follow->last = NULL;
    }
    follow->queued--;
    (void)pthread_cond_broadcast(&follow->changed);
    (void)pthread_mutex_unlock(&follow->mutex);
    free(item);
}

uint32_t follow_pump(struct follow *follow)
{
    if (follow->ledger == NULL) {
        take_genesis(follow);
    }
    struct ledger_blobs blobs = {.get = get_blob, .context = follow->options.blobs};
    uint32_t applied = 0;
    struct item *item;
    while (follow->ledger != NULL && applied < PUMP_MAX && (item = peek(follow)) != NULL) {
        struct bytes entry = {item->data, item->size};
        struct note note = {""};
        enum err err = ledger_apply(follow->ledger, entry, &blobs, &follow->effects, &note);
        if (err == ERR_NOT_FOUND || err == ERR_NO_MEMORY) {
            complain(follow, "entry_waits", &note); /* a batch's blob has not come yet */
            break;
        }
        if (err != ERR_OK) {
            /* The chain or the rules are broken, here or there. Nothing built on this copy from now
             * on could be trusted: stop, loudly. */
            log_error("entry_refused index=%llu err=%s note=\"%s\"",
                      (unsigned long long)follow->applied_index + 1, err_name(err), note.text);
            CHECK(err == ERR_OK);
        }
        follow->applied_index = follow->effects.index;
        if (follow->options.on_entry != NULL) {
            follow->options.on_entry(follow->options.context, follow->ledger, &follow->effects,
                                     entry);
        }
        drop_first(follow);
        applied++;
    }
    return applied;
}

const struct ledger *follow_ledger(const struct follow *follow)
{
    return follow->ledger;
}

bool follow_caught_up(const struct follow *follow)
{
    struct follow *writable = (struct follow *)(uintptr_t)follow; /* for the lock alone */
    (void)pthread_mutex_lock(&writable->mutex);
    bool asked = follow->asked;
    uint64_t remote_index = follow->remote_index;
    (void)pthread_mutex_unlock(&writable->mutex);
    return follow->ledger != NULL && asked && follow->applied_index >= remote_index;
}

/* Waits a little for the fetcher, then applies. */
static void pump_or_wait(struct follow *follow)
{
    if (follow_pump(follow) == 0) {
        clock_sleep_ms(PUMP_WAIT_MS);
    }
}

enum err follow_wait(struct follow *follow, uint32_t timeout_ms, struct note *note)
{
    uint64_t end_ms = clock_mono_ms() + timeout_ms;
    while (!follow_caught_up(follow)) {
        if (clock_mono_ms() >= end_ms) {
            return note_set(note, ERR_TIMEOUT, "the ledger was not caught up with in %u ms",
                            timeout_ms);
        }
        pump_or_wait(follow);
    }
    return ERR_OK;
}

/* Is entry index applied here? Asks the fetcher to hurry. */
static enum err wait_applied(struct follow *follow, uint64_t index, uint64_t end_ms,
                             struct note *note)
{
    while (follow->applied_index < index) {
        if (clock_mono_ms() >= end_ms) {
            return note_set(note, ERR_TIMEOUT, "entry %llu was taken but has not come back yet",
                            (unsigned long long)index);
        }
        (void)pthread_mutex_lock(&follow->mutex);
        follow->hinted = true;
        (void)pthread_cond_broadcast(&follow->changed);
        (void)pthread_mutex_unlock(&follow->mutex);
        pump_or_wait(follow);
    }
    return ERR_OK;
}

static enum err submit_until(struct follow *follow, struct bytes signed_tx, uint64_t end_ms,
                             uint64_t *out_index, struct note *note)
{
    Openledger__V1__SubmitRequest request = OPENLEDGER__V1__SUBMIT_REQUEST__INIT;
    request.signed_tx = ledger_binary(signed_tx.data, signed_tx.size);
    struct arena *arena = arena_create(RPC_ARENA_MAX);
    if (arena == NULL) {
        return ERR_NO_MEMORY;
    }
    enum err err;
    for (;;) {
        ProtobufCMessage *message;
        arena_reset(arena);
        err = rpc_call(follow->client, "Settlement.Submit", &request.base, ANSWER_MS, arena,
                       &message, note);
        if (err == ERR_OK) {
            *out_index = ((const Openledger__V1__SubmitReply *)message)->index;
        }
        if ((err != ERR_UNAVAILABLE && err != ERR_TIMEOUT) || clock_mono_ms() >= end_ms) {
            break;
        }
        clock_sleep_ms(SUBMIT_RETRY_MS); /* the same bytes: they can count only once */
    }
    arena_destroy(arena);
    return err;
}

enum err follow_submit_signed(struct follow *follow, struct bytes signed_tx, uint32_t timeout_ms,
                              struct digest *out_tx, uint64_t *out_index, struct note *note)
{
    if (follow->ledger == NULL) {
        return note_set(note, ERR_UNAVAILABLE, "the ledger has not been read yet");
    }
    struct ledger_head head;
    struct digest tx;
    uint64_t index = 0;
    uint64_t end_ms = clock_mono_ms() + (timeout_ms == 0 ? SUBMIT_MS : timeout_ms);
    ledger_head(follow->ledger, &head);
    enum err err = ledger_signed_tx_id(&head.chain_id, signed_tx, &tx, note);
    err = err != ERR_OK ? err : submit_until(follow, signed_tx, end_ms, &index, note);
    err = err != ERR_OK ? err : wait_applied(follow, index, end_ms, note);
    if (err == ERR_OK && out_tx != NULL) {
        *out_tx = tx;
    }
    if (err == ERR_OK && out_index != NULL) {
        *out_index = index;
    }
    return err;
}

/* NOLINTNEXTLINE(readability-function-size): the parameters are the message */
enum err follow_submit(struct follow *follow, Openledger__V1__TxBody *action,
                       const struct account_id *sender, const struct key_pair *keys,
                       uint32_t timeout_ms, struct digest *out_tx, uint64_t *out_index,
                       struct note *note)
{
    if (follow->ledger == NULL) {
        return note_set(note, ERR_UNAVAILABLE, "the ledger has not been read yet");
    }
    struct ledger_head head;
    struct buf signed_tx;
    uint8_t nonce[LEDGER_NONCE_SIZE];
    buf_init(&signed_tx, LEDGER_ENTRY_MAX);
    ledger_head(follow->ledger, &head);
    random_bytes(nonce, sizeof nonce);
    /* The log's time may be ahead of this machine's clock, and the chain may allow less than our
     * usual validity. */
    uint64_t now_ms = clock_real_ms() > head.time_ms ? clock_real_ms() : head.time_ms;
    uint64_t allowed_ms = ledger_parameters(follow->ledger)->validity_max_ms;
    struct ledger_tx frame =
        ledger_tx_at(&head.chain_id, sender, now_ms, LEDGER_TX_VALIDITY_MS, nonce);
    if (allowed_ms < LEDGER_TX_VALIDITY_MS) {
        frame.valid_from_ms = now_ms;
        frame.valid_until_ms = now_ms + allowed_ms;
    }
    struct digest tx;
    enum err err = ledger_tx_build(&frame, action, keys, &signed_tx, &tx);
    err = err != ERR_OK ? note_set(note, err, "the transaction is too large")
                        : follow_submit_signed(follow, buf_bytes(&signed_tx), timeout_ms, out_tx,
                                               out_index, note);
    buf_deinit(&signed_tx);
    return err;
}

enum err follow_ensure_account(struct follow *follow, const struct key_pair *keys, const char *name,
                               uint32_t timeout_ms, struct note *note)
{
    struct account_id id;
    account_id_from_key(key_pair_public(keys), &id);
    const struct ledger_account *account =
        follow->ledger != NULL ? ledger_account(follow->ledger, &id) : NULL;
    if (account != NULL && account->has_key) {
        return ERR_OK;
    }
    Openledger__V1__TxBody action = OPENLEDGER__V1__TX_BODY__INIT;
    Openledger__V1__OpenAccount open = OPENLEDGER__V1__OPEN_ACCOUNT__INIT;
    open.key = ledger_binary(key_pair_public(keys)->bytes, PUBLIC_KEY_SIZE);
    open.name = (char *)(uintptr_t)name;
    action.action_case = OPENLEDGER__V1__TX_BODY__ACTION_OPEN_ACCOUNT;
    action.open_account = &open;
    enum err err = follow_submit(follow, &action, &id, keys, timeout_ms, NULL, NULL, note);
    return err == ERR_CONFLICT ? ERR_OK : err; /* a submission before a crash had been taken */
}
