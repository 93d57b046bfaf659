/* gateway.c - see gateway.h. Leases are kept sorted by (grant, lease); openings are few. */
#include "services/lora-gateway/gateway.h"

#include <stdlib.h>
#include <string.h>

#include "shared/base/check.h"
#include "shared/ledger/batch.h"
#include "shared/ledger/tx.h"

/* A lease with the receipts that wait for their batch. */
struct lease {
    struct gateway_lease about;
    struct digest txs[GATEWAY_LEASE_TXS_MAX]; /* that may open it; the oldest is forgotten first */
    uint32_t tx_count;
    struct bytes *receipts; /* owned, each malloc()ed: numbers about.batched + 1 .. */
    size_t receipt_count;
    size_t receipt_capacity;
};

struct gateway {
    struct lease *leases;
    size_t lease_count;
    size_t lease_capacity;
    struct gateway_opening *openings;
    size_t opening_count;
    uint64_t receipt_count;
};

struct gateway *gateway_create(void)
{
    struct gateway *gateway = calloc(1, sizeof *gateway);
    if (gateway == NULL) {
        return NULL;
    }
    gateway->openings = calloc(GATEWAY_OPENINGS_MAX, sizeof *gateway->openings);
    if (gateway->openings == NULL) {
        free(gateway);
        return NULL;
    }
    return gateway;
}

static void drop_receipts(struct lease *lease, size_t count)
{
    CHECK(count <= lease->receipt_count);
    for (size_t i = 0; i < count; i++) {
        free((void *)(uintptr_t)lease->receipts[i].data);
    }
    lease->receipt_count -= count;
    if (lease->receipt_count > 0) {
        memmove(lease->receipts, lease->receipts + count,
                lease->receipt_count * sizeof *lease->receipts);
    }
}

void gateway_destroy(struct gateway *gateway)
{
    if (gateway == NULL) {
        return;
    }
    for (size_t i = 0; i < gateway->lease_count; i++) {
        drop_receipts(&gateway->leases[i], gateway->leases[i].receipt_count);
        free(gateway->leases[i].receipts);
    }
    free(gateway->leases);
    free(gateway->openings);
    free(gateway);
}

/* ---- leases ------------------------------------------------------------------------------------- */

/* Index of the first lease not before (grant, number). */
static size_t lower_bound(const struct gateway *gateway, const struct digest *grant,
                          uint32_t number)
{
    size_t low = 0;
    size_t high = gateway->lease_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const struct gateway_lease *about = &gateway->leases[middle].about;
        int order = digest_compare(&about->grant, grant);
        if (order < 0 || (order == 0 && about->lease < number)) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static struct lease *find_lease(const struct gateway *gateway, const struct digest *grant,
                                uint32_t number)
{
    size_t at = lower_bound(gateway, grant, number);
    if (at == gateway->lease_count || gateway->leases[at].about.lease != number ||
        !digest_equal(&gateway->leases[at].about.grant, grant)) {
        return NULL;
    }
    return &gateway->leases[at];
}

struct amount gateway_lease_left(const struct gateway_lease *lease)
{
    struct amount left = lease->amount;
    CHECK(amount_sub(left, lease->drawn, &left) == ERR_OK);
    CHECK(amount_sub(left, lease->held, &left) == ERR_OK);
    return left;
}

const struct gateway_lease *gateway_lease_for(const struct gateway *gateway,
                                              const struct digest *grant, struct amount price)
{
    for (size_t i = lower_bound(gateway, grant, 0); i < gateway->lease_count; i++) {
        const struct gateway_lease *about = &gateway->leases[i].about;
        if (!digest_equal(&about->grant, grant)) {
            break;
        }
        if (about->confirmed && !about->lost &&
            amount_compare(gateway_lease_left(about), price) >= 0) {
            return about;
        }
    }
    return NULL;
}

const struct gateway_lease *gateway_lease_newest(const struct gateway *gateway,
                                                 const struct digest *grant)
{
    const struct gateway_lease *newest = NULL;
    for (size_t i = lower_bound(gateway, grant, 0); i < gateway->lease_count; i++) {
        if (!digest_equal(&gateway->leases[i].about.grant, grant)) {
            break;
        }
        newest = &gateway->leases[i].about;
    }
    return newest;
}

const struct gateway_lease *gateway_lease_at(const struct gateway *gateway, size_t index)
{
    CHECK(index < gateway->lease_count);
    return &gateway->leases[index].about;
}

size_t gateway_lease_count(const struct gateway *gateway)
{
    return gateway->lease_count;
}

bool gateway_lease_confirm(struct gateway *gateway, const struct digest *grant, uint32_t number,
                           const struct digest *tx)
{
    struct lease *lease = find_lease(gateway, grant, number);
    for (uint32_t i = 0; lease != NULL && i < lease->tx_count; i++) {
        if (digest_equal(&lease->txs[i], tx)) {
            lease->about.confirmed = true;
            return true;
        }
    }
    return false;
}

bool gateway_lease_check(struct gateway *gateway, const struct digest *grant, uint32_t number,
                         struct amount amount, uint64_t next_number)
{
    struct lease *lease = find_lease(gateway, grant, number);
    CHECK(lease != NULL);
    if (!amount_equal(amount, lease->about.amount) || next_number > lease->about.next_number) {
        lease->about.lost = true;
    }
    return !lease->about.lost;
}

static void remember_tx(struct lease *lease, const struct digest *tx)
{
    if (lease->tx_count == GATEWAY_LEASE_TXS_MAX) {
        memmove(lease->txs, lease->txs + 1, sizeof lease->txs - sizeof lease->txs[0]);
        lease->tx_count--;
    }
    lease->txs[lease->tx_count++] = *tx;
}

static enum err apply_lease(struct gateway *gateway, const Openledger__V1__GatewayLease *record,
                            struct note *note)
{
    struct gateway_lease about = {.lease = record->lease, .next_number = 1};
    struct digest tx;
    if (digest_from_bytes(ledger_bytes(record->grant), &about.grant) != ERR_OK ||
        digest_from_bytes(ledger_bytes(record->tx), &tx) != ERR_OK || record->lease == 0 ||
        amount_parse(record->amount, &about.amount) != ERR_OK) {
        return note_set(note, ERR_CORRUPT, "lease record %u is malformed", record->lease);
    }
    struct lease *known = find_lease(gateway, &about.grant, about.lease);
    if (known != NULL) {
        if (known->about.next_number != 1 || !amount_is_zero(known->about.held)) {
            return note_set(note, ERR_CORRUPT, "lease %u is asked for after its use", about.lease);
        }
        known->about.amount = about.amount;
        remember_tx(known, &tx);
        return ERR_OK;
    }
    if (gateway->lease_count == GATEWAY_LEASES_MAX) {
        return note_set(note, ERR_LIMIT, "%d leases are the limit", GATEWAY_LEASES_MAX);
    }
    if (gateway->lease_count == gateway->lease_capacity) {
        size_t capacity = gateway->lease_capacity == 0 ? 16 : gateway->lease_capacity * 2;
        struct lease *leases = realloc(gateway->leases, capacity * sizeof *leases);
        if (leases == NULL) {
            return ERR_NO_MEMORY;
        }
        gateway->leases = leases;
        gateway->lease_capacity = capacity;
    }
    size_t at = lower_bound(gateway, &about.grant, about.lease);
    memmove(gateway->leases + at + 1, gateway->leases + at,
            (gateway->lease_count - at) * sizeof *gateway->leases);
    gateway->leases[at] = (struct lease){.about = about};
    remember_tx(&gateway->leases[at], &tx);
    gateway->lease_count++;
    return ERR_OK;
}

/* ---- openings ----------------------------------------------------------------------------------- */

size_t gateway_opening_count(const struct gateway *gateway)
{
    return gateway->opening_count;
}

const struct gateway_opening *gateway_opening_at(const struct gateway *gateway, size_t index)
{
    CHECK(index < gateway->opening_count);
    return &gateway->openings[index];
}

const struct gateway_opening *
gateway_opening_find(const struct gateway *gateway,
                     const uint8_t request_id[GATEWAY_REQUEST_ID_SIZE])
{
    for (size_t i = 0; i < gateway->opening_count; i++) {
        if (memcmp(gateway->openings[i].request_id, request_id, GATEWAY_REQUEST_ID_SIZE) == 0) {
            return &gateway->openings[i];
        }
    }
    return NULL;
}

const struct gateway_opening *gateway_opening_find_idempotent(const struct gateway *gateway,
                                                              const struct digest *idempotency)
{
    for (size_t i = 0; i < gateway->opening_count; i++) {
        if (gateway->openings[i].idempotent &&
            digest_equal(&gateway->openings[i].idempotency, idempotency)) {
            return &gateway->openings[i];
        }
    }
    return NULL;
}

static bool opened_decode(const Openledger__V1__GatewayOpened *record, struct gateway_opening *out)
{
    struct gateway_opening opening = {.lease = record->lease, .opened_ms = record->opened_ms};
    size_t name_size = strlen(record->adapter);
    opening.idempotent = record->idempotency.len > 0;
    bool good =
        record->request_id.len == GATEWAY_REQUEST_ID_SIZE && name_size < GATEWAY_NAME_SIZE &&
        digest_from_bytes(ledger_bytes(record->grant), &opening.grant) == ERR_OK &&
        amount_parse(record->price_max, &opening.price_max) == ERR_OK &&
        digest_from_bytes(ledger_bytes(record->prompt_commitment), &opening.prompt_commitment) ==
            ERR_OK &&
        digest_from_bytes(ledger_bytes(record->empty_commitment), &opening.empty_commitment) ==
            ERR_OK &&
        digest_from_bytes(ledger_bytes(record->profile), &opening.profile) == ERR_OK &&
        (!opening.idempotent ||
         (digest_from_bytes(ledger_bytes(record->idempotency), &opening.idempotency) == ERR_OK &&
          digest_from_bytes(ledger_bytes(record->body), &opening.body) == ERR_OK));
    if (good) {
        memcpy(opening.request_id, record->request_id.data, GATEWAY_REQUEST_ID_SIZE);
        memcpy(opening.adapter, record->adapter, name_size + 1);
        *out = opening;
    }
    return good;
}

static enum err apply_opened(struct gateway *gateway, const Openledger__V1__GatewayOpened *record,
                             struct note *note)
{
    struct gateway_opening opening = {0};
    if (!opened_decode(record, &opening)) {
        return note_set(note, ERR_CORRUPT, "opening record is malformed");
    }
    struct lease *lease = find_lease(gateway, &opening.grant, opening.lease);
    if (lease == NULL || gateway_opening_find(gateway, opening.request_id) != NULL) {
        return note_set(note, ERR_CORRUPT, "opening has no lease %u or is there twice",
                        opening.lease);
    }
    if (gateway->opening_count == GATEWAY_OPENINGS_MAX) {
        return note_set(note, ERR_LIMIT, "%d openings are the limit", GATEWAY_OPENINGS_MAX);
    }
    if (amount_compare(gateway_lease_left(&lease->about), opening.price_max) < 0) {
        return note_set(note, ERR_CORRUPT, "opening holds more than lease %u has", opening.lease);
    }
    CHECK(amount_add(lease->about.held, opening.price_max, &lease->about.held) == ERR_OK);
    gateway->openings[gateway->opening_count++] = opening;
    return ERR_OK;
}

enum err gateway_receipt_write(const struct gateway *gateway, const struct gateway_opening *opening,
                               const struct gateway_outcome *outcome, struct buf *out)
{
    const struct lease *lease = find_lease(gateway, &opening->grant, opening->lease);
    CHECK(lease != NULL);
    CHECK(amount_compare(outcome->fee, opening->price_max) <= 0);
    CHECK(outcome->served || (amount_is_zero(outcome->fee) && outcome->completion_tokens == 0));
    char fee[AMOUNT_TEXT_SIZE];
    Openledger__V1__Receipt receipt = OPENLEDGER__V1__RECEIPT__INIT;
    const struct digest *answer =
        outcome->served ? &outcome->answer_commitment : &opening->empty_commitment;
    receipt.grant = ledger_binary(opening->grant.bytes, DIGEST_SIZE);
    receipt.lease = opening->lease;
    receipt.number = lease->about.next_number;
    receipt.request_id = ledger_binary(opening->request_id, GATEWAY_REQUEST_ID_SIZE);
    receipt.kind = outcome->served ? OPENLEDGER__V1__RECEIPT_KIND__RECEIPT_KIND_CHARGE
                                   : OPENLEDGER__V1__RECEIPT_KIND__RECEIPT_KIND_VOID;
    receipt.adapter = (char *)(uintptr_t)opening->adapter;
    receipt.prompt_tokens = outcome->served ? outcome->prompt_tokens : 0;
    receipt.completion_tokens = outcome->completion_tokens;
    receipt.fee = (char *)(uintptr_t)amount_format(outcome->fee, fee);
    receipt.prompt_commitment = ledger_binary(opening->prompt_commitment.bytes, DIGEST_SIZE);
    receipt.answer_commitment = ledger_binary(answer->bytes, DIGEST_SIZE);
    receipt.profile = ledger_binary(opening->profile.bytes, DIGEST_SIZE);
    receipt.opened_ms = opening->opened_ms;
    receipt.finished_ms =
        outcome->finished_ms < opening->opened_ms ? opening->opened_ms : outcome->finished_ms;
    receipt.finish_reason = (char *)(uintptr_t)outcome->finish_reason;
    return ledger_pack(&receipt.base, out);
}

/* Keeps a copy of the receipt's bytes for its batch. */
static enum err keep_receipt(struct lease *lease, struct bytes receipt)
{
    if (lease->receipt_count == lease->receipt_capacity) {
        size_t capacity = lease->receipt_capacity == 0 ? 8 : lease->receipt_capacity * 2;
        struct bytes *receipts = realloc(lease->receipts, capacity * sizeof *receipts);
        if (receipts == NULL) {
            return ERR_NO_MEMORY;
        }
        lease->receipts = receipts;
        lease->receipt_capacity = capacity;
    }
    uint8_t *copy = malloc(receipt.size);
    if (copy == NULL) {
        return ERR_NO_MEMORY;
    }
    memcpy(copy, receipt.data, receipt.size);
    lease->receipts[lease->receipt_count++] = bytes_of(copy, receipt.size);
    return ERR_OK;
}

static enum err apply_receipt(struct gateway *gateway, const Openledger__V1__Receipt *receipt,
                              struct bytes data, struct note *note)
{
    struct digest grant;
    struct amount fee;
    if (receipt->request_id.len != GATEWAY_REQUEST_ID_SIZE ||
        digest_from_bytes(ledger_bytes(receipt->grant), &grant) != ERR_OK ||
        amount_parse(receipt->fee, &fee) != ERR_OK) {
        return note_set(note, ERR_CORRUPT, "receipt is malformed");
    }
    const struct gateway_opening *found = gateway_opening_find(gateway, receipt->request_id.data);
    struct lease *lease = find_lease(gateway, &grant, receipt->lease);
    if (found == NULL || lease == NULL || found->lease != receipt->lease ||
        !digest_equal(&found->grant, &grant)) {
        return note_set(note, ERR_CORRUPT, "receipt %llu has no opening",
                        (unsigned long long)receipt->number);
    }
    struct gateway_lease about = lease->about;
    if (receipt->number != about.next_number) {
        return note_set(note, ERR_CORRUPT, "receipt %llu where %llu is next",
                        (unsigned long long)receipt->number, (unsigned long long)about.next_number);
    }
    if (amount_compare(fee, found->price_max) > 0) {
        return note_set(note, ERR_CORRUPT, "receipt %llu costs more than was held",
                        (unsigned long long)receipt->number);
    }
    CHECK(amount_sub(about.held, found->price_max, &about.held) == ERR_OK);
    CHECK(amount_add(about.drawn, fee, &about.drawn) == ERR_OK);
    about.next_number++;
    enum err err = keep_receipt(lease, data);
    if (err != ERR_OK) {
        return err;
    }
    lease->about = about;
    size_t at = (size_t)(found - gateway->openings);
    gateway->openings[at] = gateway->openings[--gateway->opening_count];
    gateway->receipt_count++;
    return ERR_OK;
}

static enum err apply_finished(struct gateway *gateway,
                               const Openledger__V1__GatewayFinished *record, struct note *note)
{
    struct bytes data = ledger_bytes(record->receipt);
    Openledger__V1__Receipt *receipt = openledger__v1__receipt__unpack(NULL, data.size, data.data);
    if (receipt == NULL || data.size > GATEWAY_RECEIPT_MAX) {
        openledger__v1__receipt__free_unpacked(receipt, NULL);
        return note_set(note, ERR_CORRUPT, "receipt cannot be decoded");
    }
    enum err err = apply_receipt(gateway, receipt, data, note);
    openledger__v1__receipt__free_unpacked(receipt, NULL);
    return err;
}

/* ---- batches ------------------------------------------------------------------------------------ */

bool gateway_pending_next(const struct gateway *gateway, size_t min, size_t *cursor,
                          struct gateway_pending *out)
{
    for (; *cursor < gateway->lease_count; (*cursor)++) {
        const struct lease *lease = &gateway->leases[*cursor];
        if (lease->receipt_count >= (min == 0 ? 1 : min)) {
            *out = (struct gateway_pending){
                .lease = &lease->about,
                .first_number = lease->about.batched + 1,
                .receipts = lease->receipts,
                .count = lease->receipt_count < GATEWAY_BATCH_MAX ? lease->receipt_count
                                                                  : GATEWAY_BATCH_MAX,
            };
            (*cursor)++;
            return true;
        }
    }
    return false;
}

static enum err apply_batch(struct gateway *gateway, const Openledger__V1__GatewayBatch *record,
                            struct note *note)
{
    struct digest grant;
    Openledger__V1__ReceiptBatch *batch =
        openledger__v1__receipt_batch__unpack(NULL, record->batch.len, record->batch.data);
    enum err err = ERR_CORRUPT;
    if (batch != NULL && digest_from_bytes(ledger_bytes(batch->grant), &grant) == ERR_OK) {
        struct lease *lease = find_lease(gateway, &grant, batch->lease);
        if (lease != NULL && batch->first_number == lease->about.batched + 1 &&
            batch->n_receipts > 0 && batch->n_receipts <= lease->receipt_count) {
            drop_receipts(lease, batch->n_receipts);
            lease->about.batched += batch->n_receipts;
            err = ERR_OK;
        }
    }
    openledger__v1__receipt_batch__free_unpacked(batch, NULL);
    return err == ERR_OK ? ERR_OK : note_set(note, err, "batch does not follow its receipts");
}

uint64_t gateway_receipt_count(const struct gateway *gateway)
{
    return gateway->receipt_count;
}

enum err gateway_apply(struct gateway *gateway, const Openledger__V1__GatewayRecord *record,
                       struct note *note)
{
    switch (record->content_case) {
    case OPENLEDGER__V1__GATEWAY_RECORD__CONTENT_LEASE:
        return apply_lease(gateway, record->lease, note);
    case OPENLEDGER__V1__GATEWAY_RECORD__CONTENT_OPENED:
        return apply_opened(gateway, record->opened, note);
    case OPENLEDGER__V1__GATEWAY_RECORD__CONTENT_FINISHED:
        return apply_finished(gateway, record->finished, note);
    case OPENLEDGER__V1__GATEWAY_RECORD__CONTENT_BATCH:
        return apply_batch(gateway, record->batch, note);
    case OPENLEDGER__V1__GATEWAY_RECORD__CONTENT_KEY:
        return ERR_OK; /* the store's business */
    case OPENLEDGER__V1__GATEWAY_RECORD__CONTENT__NOT_SET:
    case _OPENLEDGER__V1__GATEWAY_RECORD__CONTENT__CASE_IS_INT_SIZE:
        break;
    }
    return note_set(note, ERR_CORRUPT, "record of an unknown kind");
}
