/* feed.c - receipt and share batches from JetStream become settlement transactions.
 *
 * Delivery is at least once: a message is acknowledged only after the transaction is on disk, and a
 * batch that is settled already is simply acknowledged.
 *
 *     applied, or was settled before             done
 *     blob missing, numbers not yet due,
 *     receipts of these shares not settled yet   again later
 *     can never be applied                       parked with its reason, counted */
#include <string.h>

#include "openledger/v1/events.pb-c.h"
#include "openledger/v1/ledger.pb-c.h"
#include "services/settlement/api.h"
#include "shared/base/log.h"
#include "shared/ledger/batch.h"
#include "shared/ledger/tx.h"
#include "shared/platform/clock.h"
#include "shared/platform/random.h"

enum { RETRY_MS = 500 };

/* Builds, signs and submits a settlement transaction of our own. */
static enum err settle(struct desk *desk, Openledger__V1__TxBody *action, struct note *note)
{
    uint8_t nonce[LEDGER_NONCE_SIZE];
    struct ledger_head head;
    struct buf signed_tx;
    struct settlement_result result;
    random_bytes(nonce, sizeof nonce);
    ledger_head(settlement_ledger(desk->settlement), &head);
    const struct ledger_parameters *parameters =
        ledger_parameters(settlement_ledger(desk->settlement));
    /* The log's time may run ahead of the clock, and the chain may allow less than the default. */
    uint64_t now_ms = clock_real_ms() > head.time_ms ? clock_real_ms() : head.time_ms;
    struct ledger_tx tx =
        ledger_tx_at(&head.chain_id, &desk->operator_id, now_ms, LEDGER_TX_VALIDITY_MS, nonce);
    if (LEDGER_TX_VALIDITY_MS > parameters->validity_max_ms) {
        tx.valid_from_ms = now_ms;
        tx.valid_until_ms = now_ms + parameters->validity_max_ms;
    }
    buf_init(&signed_tx, LEDGER_ENTRY_MAX);
    enum err err = ledger_tx_build(&tx, action, desk->operator_keys, &signed_tx, NULL);
    err = err ? err : desk_submit(desk, buf_bytes(&signed_tx), &result, note);
    buf_deinit(&signed_tx);
    return err;
}

/* Before the first batch: our own account must be open. */
static enum err operator_ready(struct desk *desk, struct note *note)
{
    const struct ledger_account *account =
        ledger_account(settlement_ledger(desk->settlement), &desk->operator_id);
    if (account != NULL && account->has_key) {
        return ERR_OK;
    }
    char name[] = "settlement";
    Openledger__V1__OpenAccount open = OPENLEDGER__V1__OPEN_ACCOUNT__INIT;
    open.key = ledger_binary(key_pair_public(desk->operator_keys)->bytes, PUBLIC_KEY_SIZE);
    open.name = name;
    Openledger__V1__TxBody body = OPENLEDGER__V1__TX_BODY__INIT;
    body.action_case = OPENLEDGER__V1__TX_BODY__ACTION_OPEN_ACCOUNT;
    body.open_account = &open;
    return settle(desk, &body, note);
}

static enum service_verdict park(struct desk *desk, const struct digest *batch, enum err err,
                                 struct note *note)
{
    struct note reason = *note;
    struct note detail = {""};
    (void)note_wrap(&reason, err, "%s", err_name(err));
    /* Parking commits the index, which may hold only what is final. */
    enum err parked = desk_flush(desk);
    parked = parked ? parked
                    : settlement_store_park(settlement_index(desk->settlement), batch, reason.text,
                                            &detail);
    if (parked != ERR_OK) {
        log_error("park_failed err=%s note=\"%s\"", err_name(parked), detail.text);
        return SERVICE_RETRY;
    }
    metric_add(desk->parked, 1);
    return SERVICE_PARK;
}

/* Errors that say nothing about the batch itself. */
static bool is_ours(enum err err)
{
    return err == ERR_UNAVAILABLE || err == ERR_NO_MEMORY || err == ERR_IO || err == ERR_TIMEOUT ||
           err == ERR_NOT_FOUND || err == ERR_FULL || err == ERR_CORRUPT;
}

/* ---- receipts ----------------------------------------------------------------------------------- */

/* Was a batch with this first receipt charged before? Its bytes decide, not the message. */
static bool receipts_settled(struct desk *desk, const struct digest *digest)
{
    struct buf bytes;
    struct ledger_head head;
    Openledger__V1__ReceiptBatch *batch = NULL;
    buf_init(&bytes, LEDGER_BATCH_BLOB_MAX);
    ledger_head(settlement_ledger(desk->settlement), &head);
    bool settled = false;
    if (blob_get(service_blobs(desk->service), digest, &bytes, NULL) == ERR_OK &&
        ledger_receipt_batch_verify(buf_bytes(&bytes), &head.chain_id, &batch, NULL) == ERR_OK) {
        struct digest id;
        ledger_receipt_id(ledger_bytes(batch->receipts[0]), &id);
        settled = ledger_receipt(settlement_ledger(desk->settlement), &id) != NULL;
        openledger__v1__receipt_batch__free_unpacked(batch, NULL);
    }
    buf_deinit(&bytes);
    return settled;
}

static enum service_verdict on_receipts(void *context, struct bus_message *message,
                                        struct note *note)
{
    struct desk *desk = context;
    struct bytes data = bus_message_data(message);
    struct digest digest;
    Openledger__V1__ReceiptBatchPublished *event =
        openledger__v1__receipt_batch_published__unpack(NULL, data.size, data.data);
    bool fits = event != NULL && digest_from_bytes(ledger_bytes(event->batch), &digest) == ERR_OK;
    if (event != NULL) {
        openledger__v1__receipt_batch_published__free_unpacked(event, NULL);
    }
    if (!fits) {
        (void)note_set(note, ERR_INVALID, "not a receipt batch message");
        metric_add(desk->parked, 1);
        return SERVICE_PARK;
    }
    if (!cluster_leads(desk->cluster) || operator_ready(desk, note) != ERR_OK) {
        return SERVICE_RETRY;
    }
    Openledger__V1__SettleReceipts action = OPENLEDGER__V1__SETTLE_RECEIPTS__INIT;
    action.batch = ledger_binary(digest.bytes, DIGEST_SIZE);
    Openledger__V1__TxBody body = OPENLEDGER__V1__TX_BODY__INIT;
    body.action_case = OPENLEDGER__V1__TX_BODY__ACTION_SETTLE_RECEIPTS;
    body.settle_receipts = &action;
    enum err err = settle(desk, &body, note);
    if (err == ERR_OK) {
        return SERVICE_DONE;
    }
    if (err == ERR_CONFLICT) { /* settled before, or an earlier number is still on its way */
        return receipts_settled(desk, &digest) ? SERVICE_DONE : SERVICE_RETRY;
    }
    return is_ours(err) ? SERVICE_RETRY : park(desk, &digest, err, note);
}

/* ---- shares ------------------------------------------------------------------------------------- */

struct standing {
    size_t unknown; /* receipts not settled yet */
    size_t waiting; /* for their shares */
    size_t shared;
    size_t no_index; /* whose adapter has no published index yet */
};

/* Where the receipts of a share batch stand; false: its bytes are not at hand or no batch. */
static bool shares_standing(struct desk *desk, const struct digest *digest, struct standing *out)
{
    struct buf bytes;
    struct ledger_head head;
    Openledger__V1__ShareBatch *batch = NULL;
    const struct ledger *ledger = settlement_ledger(desk->settlement);
    buf_init(&bytes, LEDGER_BATCH_BLOB_MAX);
    ledger_head(ledger, &head);
    *out = (struct standing){0};
    bool known =
        blob_get(service_blobs(desk->service), digest, &bytes, NULL) == ERR_OK &&
        ledger_share_batch_verify(buf_bytes(&bytes), &head.chain_id, &batch, NULL) == ERR_OK;
    for (size_t i = 0; known && i < batch->n_sets; i++) {
        Openledger__V1__ShareSet *set = NULL;
        struct digest id;
        if (ledger_share_set_decode(ledger_bytes(batch->sets[i]), &set, NULL) != ERR_OK) {
            continue;
        }
        memcpy(id.bytes, set->receipt.data, DIGEST_SIZE);
        const struct ledger_receipt *receipt = ledger_receipt(ledger, &id);
        out->unknown += receipt == NULL ? 1 : 0;
        out->waiting += receipt != NULL && receipt->waiting ? 1 : 0;
        out->shared += receipt != NULL && !receipt->waiting ? 1 : 0;
        const struct ledger_adapter *adapter =
            receipt == NULL ? NULL : ledger_adapter(ledger, receipt->adapter);
        out->no_index += adapter != NULL && !adapter->has_index ? 1 : 0;
        openledger__v1__share_set__free_unpacked(set, NULL);
    }
    if (known) {
        openledger__v1__share_batch__free_unpacked(batch, NULL);
    }
    buf_deinit(&bytes);
    return known;
}

static enum service_verdict on_shares(void *context, struct bus_message *message, struct note *note)
{
    struct desk *desk = context;
    struct bytes data = bus_message_data(message);
    struct digest digest;
    Openledger__V1__ShareBatchPublished *event =
        openledger__v1__share_batch_published__unpack(NULL, data.size, data.data);
    bool fits = event != NULL && digest_from_bytes(ledger_bytes(event->batch), &digest) == ERR_OK;
    if (event != NULL) {
        openledger__v1__share_batch_published__free_unpacked(event, NULL);
    }
    if (!fits) {
        (void)note_set(note, ERR_INVALID, "not a share batch message");
        metric_add(desk->parked, 1);
        return SERVICE_PARK;
    }
    if (!cluster_leads(desk->cluster) || operator_ready(desk, note) != ERR_OK) {
        return SERVICE_RETRY;
    }
    Openledger__V1__SettleShares action = OPENLEDGER__V1__SETTLE_SHARES__INIT;
    action.batch = ledger_binary(digest.bytes, DIGEST_SIZE);
    Openledger__V1__TxBody body = OPENLEDGER__V1__TX_BODY__INIT;
    body.action_case = OPENLEDGER__V1__TX_BODY__ACTION_SETTLE_SHARES;
    body.settle_shares = &action;
    enum err err = settle(desk, &body, note);
    if (err == ERR_OK) {
        return SERVICE_DONE;
    }
    struct standing standing;
    if (err == ERR_CONFLICT && shares_standing(desk, &digest, &standing)) {
        if (standing.waiting == 0 && standing.unknown == 0) {
            return SERVICE_DONE; /* all of them have their shares, or were too late */
        }
        if (standing.shared == 0) {
            return SERVICE_RETRY; /* an index or a receipt is still on its way */
        }
    }
    return is_ours(err) ? SERVICE_RETRY : park(desk, &digest, err, note);
}

static bool wanted(void *context)
{
    return cluster_leads(((struct desk *)context)->cluster);
}

enum err feed_start(struct desk *desk, struct note *note)
{
    static const char *const RECEIPTS[] = {"ol.receipts.>"};
    static const char *const SHARES[] = {"ol.shares.>"};
    struct bus *bus = service_bus(desk->service);
    const struct bus_stream receipts = {.name = "OL_RECEIPTS",
                                        .subjects = RECEIPTS,
                                        .subject_count = 1,
                                        .retention = BUS_KEEP,
                                        .replicas = service_replicas(desk->service)};
    const struct bus_stream shares = {.name = "OL_SHARES",
                                      .subjects = SHARES,
                                      .subject_count = 1,
                                      .retention = BUS_KEEP,
                                      .replicas = service_replicas(desk->service)};
    enum err err = bus_stream_declare(bus, &receipts);
    err = err ? err : bus_stream_declare(bus, &shares);
    if (err != ERR_OK) {
        return note_set(note, err, "the streams of receipts and shares cannot be declared");
    }
    const struct service_consumer consume_receipts = {
        .bus = {.stream = "OL_RECEIPTS", .durable = "settlement"},
        .retry_ms = RETRY_MS,
        .wanted = wanted};
    const struct service_consumer consume_shares = {
        .bus = {.stream = "OL_SHARES", .durable = "settlement"},
        .retry_ms = RETRY_MS,
        .wanted = wanted};
    service_consume(desk->service, &consume_receipts, on_receipts, desk);
    service_consume(desk->service, &consume_shares, on_shares, desk);
    return ERR_OK;
}
