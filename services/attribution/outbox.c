/* outbox.c - share sets on their way to the ledger; see engine.h.
 *
 * A batch is refused as a whole when one of its receipts is not waiting for shares (any more). So only
 * receipts that wait on the ledger go into a batch, and a batch of which one is closed, or that is not
 * taken in time (it may be lost with its stream), is taken apart: what still waits goes out again in a
 * new one. The ledger pays each receipt once.
 *
 * Announcements carry no message id: the same sets are the same batch, and a stream that remembers it
 * would drop what its readers have lost. */
#include <stdlib.h>
#include <string.h>

#include "services/attribution/internal.h"
#include "shared/base/check.h"
#include "shared/base/log.h"
#include "shared/ledger/batch.h"
#include "shared/ledger/tx.h"
#include "shared/platform/clock.h"

#define SUBJECT "ol.shares.batch"

/* Asked of the worker: how receipts stand on the ledger. */
struct standing {
    struct engine *engine;
    const struct digest *receipts;
    uint32_t count;
    enum attribution_standing *out;
    struct digest chain_id;
    bool ok;
};

_Static_assert(LINEAGE_SHARE_SET_MAX <= ATTRIBUTION_BATCH_BYTES, "any set fits into a batch");
_Static_assert(ATTRIBUTION_BATCH_BYTES < LEDGER_BATCH_BLOB_MAX, "a full batch fits into its blob");

static void on_standing(void *argument)
{
    struct standing *standing = argument;
    const struct ledger *ledger = follow_ledger(standing->engine->options.follow);
    if (ledger == NULL) {
        return;
    }
    struct ledger_head head;
    ledger_head(ledger, &head);
    standing->chain_id = head.chain_id;
    standing->ok = true;
    for (uint32_t i = 0; i < standing->count; i++) {
        const struct ledger_receipt *receipt = ledger_receipt(ledger, &standing->receipts[i]);
        if (receipt == NULL) {
            standing->out[i] = ATTRIBUTION_UNKNOWN;
        } else {
            standing->out[i] = receipt->waiting ? ATTRIBUTION_WAITING : ATTRIBUTION_CLOSED;
        }
    }
}

/* ---- making batches --------------------------------------------------------------------------------- */

/* Signs the sets, stores the blob, and moves the receipts into the outbox. */
static enum err make_batch(struct engine *engine, const struct digest *chain_id,
                           const struct digest *receipts, const struct bytes *sets, uint32_t count,
                           struct note *note)
{
    const struct engine_options *options = &engine->options;
    struct ledger_share_batch batch = {
        .chain_id = chain_id, .account = &options->account->id, .sets = sets, .count = count};
    struct buf bytes;
    struct digest digest;
    buf_init(&bytes, LEDGER_BATCH_BLOB_MAX);
    enum err err = ledger_share_batch_sign(&batch, options->account->keys, &bytes);
    if (err == ERR_OK) {
        err = blob_put(service_blobs(options->service), buf_bytes(&bytes), &digest, note);
    }
    if (err == ERR_OK) {
        err = attribution_store_batch(options->store, &digest, receipts, count,
                                      attribution_set_batch, note);
    }
    buf_deinit(&bytes);
    return err;
}

/* Where pending sets are sorted: arrays of STORE_BATCH_MAX, too large for a stack. */
struct sorting {
    struct attribution_pending pending[STORE_BATCH_MAX];
    struct digest receipts[STORE_BATCH_MAX], picked[STORE_BATCH_MAX], closed[STORE_BATCH_MAX];
    enum attribution_standing standings[STORE_BATCH_MAX];
    size_t sizes[STORE_BATCH_MAX];
    uint32_t ready[STORE_BATCH_MAX];
    struct bytes sets[STORE_BATCH_MAX];
};

/* Sorts pending sets by how their receipts stand: waiting ones into a batch, closed ones away. The next
 * look begins behind those looked at, whatever came of them: what cannot go out holds nobody up. */
static enum err gather(struct engine *engine, struct sorting *sorting, uint32_t count,
                       struct note *note)
{
    struct standing standing = {
        .engine = engine, .receipts = sorting->receipts, .count = count, .out = sorting->standings};
    for (uint32_t i = 0; i < count; i++) {
        sorting->receipts[i] = sorting->pending[i].receipt;
        sorting->sizes[i] = sorting->pending[i].size;
    }
    if (!engine_ask(engine, on_standing, &standing) || !standing.ok) {
        return note_set(note, ERR_UNAVAILABLE, "no ledger to ask");
    }
    uint32_t ready_count = 0;
    uint32_t closed_count = 0;
    uint32_t looked = attribution_batch_pick(sorting->standings, sorting->sizes, count,
                                             sorting->ready, &ready_count);
    CHECK(looked > 0); /* one set always fits */
    engine->pending_after = sorting->receipts[looked - 1];
    for (uint32_t i = 0; i < looked; i++) {
        if (sorting->standings[i] == ATTRIBUTION_CLOSED) {
            sorting->closed[closed_count++] = sorting->receipts[i];
        }
    }
    for (uint32_t i = 0; i < ready_count; i++) {
        const struct attribution_pending *ready = &sorting->pending[sorting->ready[i]];
        sorting->sets[i] = bytes_of(ready->set, ready->size);
        sorting->picked[i] = ready->receipt;
    }
    enum err err = ERR_OK;
    if (closed_count > 0) {
        log_warn("shares_too_late receipts=%u", closed_count);
        err = attribution_store_drop(engine->options.store, sorting->closed, closed_count, note);
    }
    if (err == ERR_OK && ready_count > 0) {
        err = make_batch(engine, &standing.chain_id, sorting->picked, sorting->sets, ready_count,
                         note);
    }
    return err;
}

static enum err make_batches(struct engine *engine, struct note *note)
{
    struct sorting *sorting = calloc(1, sizeof *sorting);
    uint32_t count = 0;
    if (sorting == NULL) {
        return ERR_NO_MEMORY;
    }
    enum err err = attribution_store_pending(engine->options.store, &engine->pending_after,
                                             STORE_BATCH_MAX, sorting->pending, &count, note);
    if (err == ERR_OK && count > 0) {
        err = gather(engine, sorting, count, note);
    }
    for (uint32_t i = 0; i < count; i++) {
        free(sorting->pending[i].set);
    }
    free(sorting);
    return err;
}

/* ---- following them up -------------------------------------------------------------------------------- */

static enum err announce(struct engine *engine, struct attribution_batch *batch, struct note *note)
{
    ProtobufCBinaryData list[STORE_BATCH_MAX];
    char text[DIGEST_TEXT_SIZE];
    Openledger__V1__ShareBatchPublished message = OPENLEDGER__V1__SHARE_BATCH_PUBLISHED__INIT;
    message.batch = ledger_binary(batch->digest.bytes, DIGEST_SIZE);
    for (uint32_t i = 0; i < batch->count; i++) {
        list[i] = ledger_binary(batch->receipts[i].bytes, DIGEST_SIZE);
    }
    message.receipts = list;
    message.n_receipts = batch->count;
    struct buf data;
    buf_init(&data, BUS_MESSAGE_MAX);
    enum err err = ledger_pack(&message.base, &data);
    if (err == ERR_OK) {
        err = bus_stream_publish(service_bus(engine->options.service), SUBJECT, buf_bytes(&data),
                                 NULL, NULL, note);
    }
    buf_deinit(&data);
    if (err == ERR_OK) {
        batch->announced_ms = clock_real_ms();
        metric_add(engine->batches_total, 1);
        log_info("shares_published batch=%s receipts=%u", digest_format(&batch->digest, text),
                 batch->count);
        err = attribution_store_announced(engine->options.store, batch, note);
    }
    return err;
}

/* Closes an outbox entry; receipts that still wait become pending again. */
static enum err take_apart(struct engine *engine, const struct attribution_batch *batch,
                           const enum attribution_standing *states, struct note *note)
{
    struct attribution_pending *again = calloc(STORE_BATCH_MAX, sizeof *again);
    uint32_t count = 0;
    enum err err = again == NULL ? ERR_NO_MEMORY : ERR_OK;
    for (uint32_t i = 0; err == ERR_OK && i < batch->count; i++) {
        if (states[i] == ATTRIBUTION_CLOSED) {
            continue;
        }
        struct buf evidence;
        struct buf set;
        buf_init(&evidence, ATTRIBUTION_EVIDENCE_MAX);
        buf_init(&set, LINEAGE_SHARE_SET_MAX);
        err =
            attribution_store_evidence(engine->options.store, &batch->receipts[i], &evidence, note);
        if (err == ERR_OK) {
            err = attribution_share_set(buf_bytes(&evidence), &set);
        }
        if (err == ERR_OK) {
            again[count].receipt = batch->receipts[i];
            again[count].set = buf_take(&set, &again[count].size);
            count++;
        }
        buf_deinit(&evidence);
        buf_deinit(&set);
    }
    if (err == ERR_OK) {
        if (count > 0) {
            log_warn("shares_not_taken batch=%llu receipts=%u", (unsigned long long)batch->number,
                     count);
        }
        err = attribution_store_settle(engine->options.store, batch->number, again, count, note);
    }
    for (uint32_t i = 0; i < count; i++) {
        free(again[i].set);
    }
    free(again);
    return err;
}

static enum err follow_up(struct engine *engine, struct attribution_batch *batch, struct note *note)
{
    if (batch->announced_ms == 0) {
        return announce(engine, batch, note);
    }
    enum attribution_standing states[STORE_BATCH_MAX] = {ATTRIBUTION_UNKNOWN};
    struct standing standing = {
        .engine = engine, .receipts = batch->receipts, .count = batch->count, .out = states};
    if (!engine_ask(engine, on_standing, &standing) || !standing.ok) {
        return note_set(note, ERR_UNAVAILABLE, "no ledger to ask");
    }
    uint32_t closed = 0;
    for (uint32_t i = 0; i < batch->count; i++) {
        closed += states[i] == ATTRIBUTION_CLOSED;
    }
    uint64_t now = clock_real_ms();
    uint64_t age_ms = now < batch->announced_ms ? UINT64_MAX : now - batch->announced_ms;
    return attribution_batch_over(closed, age_ms) ? take_apart(engine, batch, states, note)
                                                  : ERR_OK;
}

void engine_outbox(struct engine *engine)
{
    struct note note = {""};
    struct attribution_batch *batch = calloc(1, sizeof *batch);
    enum err err = batch == NULL ? ERR_NO_MEMORY : make_batches(engine, &note);
    uint64_t from = 0;
    while (err == ERR_OK && !engine_stopping(engine)) {
        err = attribution_store_outbox(engine->options.store, from, batch, &note);
        if (err == ERR_OK) {
            from = batch->number + 1;
            err = follow_up(engine, batch, &note);
        }
    }
    if (err != ERR_OK && err != ERR_NOT_FOUND) {
        log_warn("shares_waiting err=%s note=\"%s\"", err_name(err), note.text);
    }
    free(batch);
}
