/* unsettled.c - see unsettled.h. Entries lie in journal order; those of the front are dropped as soon as
 * the ledger shows them, the others when they are due. */
#include "services/lora-gateway/unsettled.h"

#include <stdlib.h>
#include <string.h>

#include "shared/base/check.h"
#include "shared/ledger/batch.h"
#include "shared/ledger/tx.h"

struct entry {
    uint64_t index; /* in the journal */
    uint64_t due_ms;
    uint32_t wait;   /* times retry_ms before due_ms */
    uint32_t lease;  /* of the grant */
    uint64_t number; /* of the receipt, or the last one of the batch */
    struct digest grant;
    struct digest receipt; /* of an answer */
    bool answer;           /* else a batch */
};

struct unsettled {
    uint64_t retry_ms;
    uint64_t next;   /* journal index */
    uint64_t due_ms; /* nothing is due before */
    size_t first;    /* entries[first..end) are in view */
    size_t end;
    struct entry entries[UNSETTLED_MAX];
};

struct unsettled *unsettled_create(uint64_t first, uint64_t retry_ms)
{
    CHECK(retry_ms > 0);
    struct unsettled *unsettled = calloc(1, sizeof *unsettled);
    if (unsettled != NULL) {
        unsettled->next = first;
        unsettled->retry_ms = retry_ms;
        unsettled->due_ms = UINT64_MAX;
    }
    return unsettled;
}

void unsettled_destroy(struct unsettled *unsettled)
{
    free(unsettled);
}

/* ---- taking into view --------------------------------------------------------------------------- */

static bool read_batch(const Openledger__V1__GatewayBatch *record, struct entry *out)
{
    Openledger__V1__ReceiptBatch *batch =
        openledger__v1__receipt_batch__unpack(NULL, record->batch.len, record->batch.data);
    bool good = batch != NULL && batch->n_receipts > 0 && batch->first_number > 0 &&
                digest_from_bytes(ledger_bytes(batch->grant), &out->grant) == ERR_OK;
    if (good) {
        out->lease = batch->lease;
        out->number = batch->first_number + (batch->n_receipts - 1);
    }
    openledger__v1__receipt_batch__free_unpacked(batch, NULL);
    return good;
}

static bool read_answer(const Openledger__V1__GatewayFinished *record, struct entry *out)
{
    struct bytes data = ledger_bytes(record->receipt);
    Openledger__V1__Receipt *receipt = openledger__v1__receipt__unpack(NULL, data.size, data.data);
    bool good =
        receipt != NULL && digest_from_bytes(ledger_bytes(receipt->grant), &out->grant) == ERR_OK;
    if (good) {
        out->answer = true;
        out->lease = receipt->lease;
        out->number = receipt->number;
        ledger_receipt_id(data, &out->receipt);
    }
    openledger__v1__receipt__free_unpacked(receipt, NULL);
    return good;
}

static void append(struct unsettled *unsettled, const struct entry *entry)
{
    if (unsettled->end == UNSETTLED_MAX) {
        CHECK(unsettled->first > 0);
        unsettled->end -= unsettled->first;
        memmove(unsettled->entries, unsettled->entries + unsettled->first,
                unsettled->end * sizeof *unsettled->entries);
        unsettled->first = 0;
    }
    unsettled->entries[unsettled->end++] = *entry;
    if (entry->due_ms < unsettled->due_ms) {
        unsettled->due_ms = entry->due_ms;
    }
}

enum err unsettled_add(struct unsettled *unsettled, const Openledger__V1__GatewayRecord *record,
                       uint64_t now_ms, struct note *note)
{
    struct entry entry = {
        .index = unsettled->next, .due_ms = now_ms + unsettled->retry_ms, .wait = 1};
    bool batch = record->content_case == OPENLEDGER__V1__GATEWAY_RECORD__CONTENT_BATCH;
    bool answer = record->content_case == OPENLEDGER__V1__GATEWAY_RECORD__CONTENT_FINISHED &&
                  record->finished->opening.len > 0; /* a void has none */
    if (batch || answer) {
        if (unsettled_count(unsettled) == UNSETTLED_MAX) {
            return note_set(note, ERR_LIMIT, "%d records wait for the ledger", UNSETTLED_MAX);
        }
        if (!(batch ? read_batch(record->batch, &entry) : read_answer(record->finished, &entry))) {
            return note_set(note, ERR_CORRUPT, "record %llu is malformed",
                            (unsigned long long)unsettled->next);
        }
        append(unsettled, &entry);
    }
    unsettled->next++;
    return ERR_OK;
}

uint64_t unsettled_next(const struct unsettled *unsettled)
{
    return unsettled->next;
}

/* ---- looking ------------------------------------------------------------------------------------ */

static bool shown(const struct entry *entry, const struct ledger *ledger)
{
    const struct ledger_receipt *receipt =
        entry->answer ? ledger_receipt(ledger, &entry->receipt) : NULL;
    if (receipt != NULL) {
        return !receipt->waiting;
    }
    const struct ledger_grant *grant = ledger_grant(ledger, &entry->grant);
    const struct ledger_lease *lease = ledger_lease(ledger, &entry->grant, entry->lease);
    return (grant != NULL && grant->closed) ||
           (lease != NULL && lease->next_number > entry->number);
}

size_t unsettled_look(struct unsettled *unsettled, const struct ledger *ledger, uint64_t now_ms,
                      unsettled_send *send, void *context)
{
    while (unsettled->first < unsettled->end &&
           shown(&unsettled->entries[unsettled->first], ledger)) {
        unsettled->first++;
    }
    if (now_ms < unsettled->due_ms) {
        return 0;
    }
    size_t sent = 0;
    size_t kept = 0;
    bool sending = true;
    unsettled->due_ms = UINT64_MAX;
    for (size_t i = unsettled->first; i < unsettled->end; i++) {
        struct entry entry = unsettled->entries[i];
        if (sending && now_ms >= entry.due_ms) {
            if (shown(&entry, ledger)) {
                continue;
            }
            sending = send(context, entry.index);
            if (sending) {
                sent++;
                entry.wait = entry.wait < UNSETTLED_WAIT_MAX ? 2 * entry.wait : entry.wait;
                entry.due_ms = now_ms + entry.wait * unsettled->retry_ms;
            }
        }
        unsettled->due_ms = entry.due_ms < unsettled->due_ms ? entry.due_ms : unsettled->due_ms;
        unsettled->entries[kept++] = entry;
    }
    unsettled->first = 0;
    unsettled->end = kept;
    return sent;
}

uint64_t unsettled_floor(const struct unsettled *unsettled)
{
    return unsettled->first < unsettled->end ? unsettled->entries[unsettled->first].index
                                             : unsettled->next;
}

size_t unsettled_count(const struct unsettled *unsettled)
{
    return unsettled->end - unsettled->first;
}
