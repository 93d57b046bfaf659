/* answer.c - see answer.h. */
#include "services/settlement/answer.h"

#include <string.h>

#include "shared/base/check.h"
#include "shared/ledger/batch.h"
#include "shared/ledger/tx.h"

enum { PAGE_DEFAULT = 100, PAGE_MAX = 1000 };

/* ---- transactions ------------------------------------------------------------------------------- */

/* Postings gathered in a call's arena. */
struct postings {
    struct arena *arena;
    Openledger__V1__Posting **items;
    size_t count, capacity;
};

static enum err posting_add(void *context, uint64_t index, uint32_t leg, struct bytes data)
{
    struct postings *postings = context;
    (void)index;
    (void)leg;
    if (postings->count == postings->capacity) {
        size_t capacity = postings->capacity == 0 ? 16 : 2 * postings->capacity;
        Openledger__V1__Posting **items =
            arena_alloc_array(postings->arena, capacity, sizeof(void *));
        if (items == NULL) {
            return ERR_LIMIT;
        }
        if (postings->count > 0) {
            memcpy(items, postings->items, postings->count * sizeof(void *));
        }
        postings->items = items;
        postings->capacity = capacity;
    }
    ProtobufCAllocator allocator = rpc_allocator(postings->arena);
    Openledger__V1__Posting *posting =
        openledger__v1__posting__unpack(&allocator, data.size, data.data);
    if (posting == NULL) {
        return ERR_LIMIT;
    }
    postings->items[postings->count++] = posting;
    return ERR_OK;
}

/* Reads and decodes entry index into the call's arena. */
static enum err entry_of(struct desk *desk, struct rpc_call *call, uint64_t index,
                         Openledger__V1__Entry **out_entry)
{
    ProtobufCMessage *message = NULL;
    struct buf bytes;
    buf_init(&bytes, LEDGER_ENTRY_MAX);
    enum err err = settlement_entry(desk->settlement, index, &bytes, rpc_note(call));
    err = err ? err
              : rpc_decode(&openledger__v1__entry__descriptor, buf_bytes(&bytes), rpc_arena(call),
                           &message, rpc_note(call));
    buf_deinit(&bytes);
    if (err == ERR_OK) {
        *out_entry = (Openledger__V1__Entry *)message;
    }
    return err;
}

/* The action of an entry that was applied once: it decodes. NULL: a seal. */
static enum err body_of(struct rpc_call *call, const Openledger__V1__Entry *entry,
                        Openledger__V1__TxBody **out_body)
{
    ProtobufCMessage *signed_tx = NULL;
    ProtobufCMessage *body = NULL;
    *out_body = NULL;
    if (entry->content_case != OPENLEDGER__V1__ENTRY__CONTENT_SIGNED_TX) {
        return ERR_OK;
    }
    enum err err =
        rpc_decode(&openledger__v1__signed_tx__descriptor, ledger_bytes(entry->signed_tx),
                   rpc_arena(call), &signed_tx, rpc_note(call));
    if (err == ERR_OK) {
        err = rpc_decode(&openledger__v1__tx_body__descriptor,
                         ledger_bytes(((Openledger__V1__SignedTx *)signed_tx)->body),
                         rpc_arena(call), &body, rpc_note(call));
    }
    *out_body = (Openledger__V1__TxBody *)body;
    return err;
}

static enum err record_of(struct desk *desk, struct rpc_call *call, uint64_t index,
                          Openledger__V1__TxRecord *out_record)
{
    struct arena *arena = rpc_arena(call);
    Openledger__V1__Entry *entry = NULL;
    Openledger__V1__TxBody *body = NULL;
    struct postings postings = {.arena = arena};
    struct ledger_head head;
    ledger_head(settlement_ledger(desk->settlement), &head);
    enum err err = entry_of(desk, call, index, &entry);
    err = err ? err : body_of(call, entry, &body);
    err = err ? err
              : settlement_store_legs(settlement_index(desk->settlement), index, index, posting_add,
                                      &postings);
    if (err != ERR_OK) {
        return err;
    }
    openledger__v1__tx_record__init(out_record);
    out_record->index = index;
    out_record->height = settlement_height_of(desk->settlement, index);
    out_record->time_ms = entry->time_ms;
    out_record->kind = arena_strdup(
        arena, ledger_kind_name(body == NULL ? LEDGER_KIND_SEAL : (uint32_t)body->action_case));
    if (body != NULL) {
        struct digest tx;
        err = ledger_signed_tx_id(&head.chain_id, ledger_bytes(entry->signed_tx), &tx,
                                  rpc_note(call));
        out_record->tx = answer_copy(arena, tx.bytes, DIGEST_SIZE);
        out_record->signed_tx = entry->signed_tx;
    }
    out_record->n_postings = postings.count;
    out_record->postings = postings.items;
    return err != ERR_OK ? err : out_record->kind == NULL ? ERR_LIMIT : ERR_OK;
}

enum err answer_tx_index(struct desk *desk, struct rpc_call *call, ProtobufCBinaryData field,
                         uint64_t *out_index)
{
    struct digest tx;
    enum err err = answer_digest_of(call, field, "tx", &tx);
    err = err ? err : desk_flush(desk);
    struct ledger_head head;
    ledger_head(settlement_ledger(desk->settlement), &head);
    err = err ? err
              : settlement_store_tx(settlement_index(desk->settlement), &tx, head.index, UINT64_MAX,
                                    out_index);
    return err == ERR_NOT_FOUND ? note_set(rpc_note(call), err, "no such transaction") : err;
}

enum err answer_get_tx(void *context, struct rpc_call *call, const void *message)
{
    struct desk *desk = context;
    const Openledger__V1__GetTxRequest *request = message;
    Openledger__V1__TxRecord record;
    uint64_t index = 0;
    enum err err = answer_tx_index(desk, call, request->tx, &index);
    err = err ? err : record_of(desk, call, index, &record);
    return err ? err : rpc_reply(call, &record);
}

/* Entries to list: those of an account, or all that are no seals; newest first. */
static enum err indexes_of(struct desk *desk, struct rpc_call *call,
                           const Openledger__V1__ListTxsRequest *request, uint64_t *out_indexes,
                           size_t max, size_t *out_count)
{
    struct ledger_head head;
    struct digest account;
    ledger_head(settlement_ledger(desk->settlement), &head);
    if (request->account.len != 0) {
        enum err err = answer_digest_of(call, request->account, "account", &account);
        struct account_id id;
        memcpy(id.bytes, account.bytes, ACCOUNT_ID_SIZE);
        return err ? err
                   : settlement_store_account(
                         settlement_index(desk->settlement),
                         ledger_account(settlement_ledger(desk->settlement), &id),
                         request->before_index, out_indexes, max, out_count);
    }
    uint64_t from = request->before_index == 0 || request->before_index > head.index + 1
                        ? head.index
                        : request->before_index - 1;
    size_t count = 0;
    for (uint64_t i = from; i > 0 && count < max; i--) {
        uint64_t height = settlement_height_of(desk->settlement, i);
        bool is_seal = height != 0 && settlement_height_of(desk->settlement, i + 1) != height;
        if (!is_seal) {
            out_indexes[count++] = i;
        }
    }
    *out_count = count;
    return ERR_OK;
}

enum err answer_list_txs(void *context, struct rpc_call *call, const void *message)
{
    struct desk *desk = context;
    const Openledger__V1__ListTxsRequest *request = message;
    struct arena *arena = rpc_arena(call);
    size_t max = request->page_size == 0         ? PAGE_DEFAULT
                 : request->page_size > PAGE_MAX ? PAGE_MAX
                                                 : request->page_size;
    size_t count = 0;
    uint64_t *indexes = arena_alloc_array(arena, max, sizeof *indexes);
    Openledger__V1__TxRecord *records = arena_alloc_array(arena, max, sizeof *records);
    Openledger__V1__TxRecord **pointers = arena_alloc_array(arena, max, sizeof(void *));
    if (indexes == NULL || records == NULL || pointers == NULL) {
        return ERR_LIMIT;
    }
    enum err err = desk_flush(desk);
    err = err ? err : indexes_of(desk, call, request, indexes, max, &count);
    Openledger__V1__ListTxsReply reply = OPENLEDGER__V1__LIST_TXS_REPLY__INIT;
    reply.txs = pointers;
    size_t size = 0;
    for (size_t i = 0; i < count && err == ERR_OK; i++) {
        err = record_of(desk, call, indexes[i], &records[i]);
        if (err == ERR_OK) {
            pointers[i] = &records[i];
            size += protobuf_c_message_get_packed_size(&records[i].base);
            if (i > 0 && size > ANSWER_BYTES_MAX) {
                break; /* a shorter page; the reader goes on before its last index */
            }
            reply.n_txs++;
        }
    }
    return err ? err : rpc_reply(call, &reply);
}

/* ---- grants and receipts ------------------------------------------------------------------------ */

enum err answer_get_grant(void *context, struct rpc_call *call, const void *message)
{
    struct desk *desk = context;
    const Openledger__V1__GetGrantRequest *request = message;
    struct arena *arena = rpc_arena(call);
    const struct ledger *ledger = settlement_ledger(desk->settlement);
    struct digest id;
    enum err err = answer_digest_of(call, request->grant, "grant", &id);
    err = err ? err : desk_flush(desk);
    if (err != ERR_OK) {
        return err;
    }
    const struct ledger_grant *grant = ledger_grant(ledger, &id);
    if (grant == NULL) {
        return note_set(rpc_note(call), ERR_NOT_FOUND, "no such grant");
    }
    size_t count = grant->lease_count < PAGE_MAX ? grant->lease_count : PAGE_MAX;
    Openledger__V1__LeaseState *leases = arena_alloc_array(arena, count, sizeof *leases);
    Openledger__V1__LeaseState **pointers = arena_alloc_array(arena, count, sizeof(void *));
    if (leases == NULL || pointers == NULL) {
        return ERR_LIMIT;
    }
    for (uint32_t i = 0; i < count; i++) {
        const struct ledger_lease *lease = ledger_lease(ledger, &id, i + 1);
        CHECK(lease != NULL);
        openledger__v1__lease_state__init(&leases[i]);
        leases[i].lease = lease->lease;
        leases[i].amount = answer_amount_text(arena, lease->amount);
        leases[i].drawn = answer_amount_text(arena, lease->drawn);
        leases[i].next_number = lease->next_number;
        pointers[i] = &leases[i];
    }
    Openledger__V1__GrantState state = OPENLEDGER__V1__GRANT_STATE__INIT;
    state.grant = ledger_binary(grant->id.bytes, DIGEST_SIZE);
    state.payer = ledger_binary(grant->payer.bytes, ACCOUNT_ID_SIZE);
    state.gateway = ledger_binary(grant->gateway.bytes, ACCOUNT_ID_SIZE);
    state.limit = answer_amount_text(arena, grant->limit);
    state.leased = answer_amount_text(arena, grant->leased);
    state.drawn = answer_amount_text(arena, grant->drawn);
    state.expires_ms = grant->expires_ms;
    state.closed = grant->closed;
    state.n_leases = count;
    state.leases = pointers;
    return state.drawn == NULL ? ERR_LIMIT : rpc_reply(call, &state);
}

/* Decodes a batch's blob into the call's arena. */
static enum err batch_of(struct desk *desk, struct rpc_call *call, const struct digest *digest,
                         const ProtobufCMessageDescriptor *descriptor, ProtobufCMessage **out)
{
    struct buf bytes;
    buf_init(&bytes, LEDGER_BATCH_BLOB_MAX);
    enum err err = blob_get(service_blobs(desk->service), digest, &bytes, rpc_note(call));
    if (err == ERR_OK) {
        ProtobufCAllocator allocator = rpc_allocator(rpc_arena(call));
        *out = protobuf_c_message_unpack(descriptor, &allocator, bytes.size, bytes.data);
        err = *out == NULL ? ERR_LIMIT : ERR_OK;
    }
    buf_deinit(&bytes);
    return err;
}

static enum err receipt_decoded(struct desk *desk, struct rpc_call *call,
                                const struct ledger_receipt *receipt, Openledger__V1__Receipt **out)
{
    ProtobufCMessage *message = NULL;
    ProtobufCMessage *item = NULL;
    enum err err =
        batch_of(desk, call, &receipt->batch, &openledger__v1__receipt_batch__descriptor, &message);
    const Openledger__V1__ReceiptBatch *batch = (Openledger__V1__ReceiptBatch *)message;
    if (err == ERR_OK) {
        CHECK(receipt->number - batch->first_number < batch->n_receipts);
        err = rpc_decode(&openledger__v1__receipt__descriptor,
                         ledger_bytes(batch->receipts[receipt->number - batch->first_number]),
                         rpc_arena(call), &item, rpc_note(call));
    }
    *out = (Openledger__V1__Receipt *)item;
    return err;
}

/* The share set that settled a receipt, its bytes in the call's arena; empty when it went to the treasury
 * unshared. */
static enum err shares_decoded(struct desk *desk, struct rpc_call *call,
                               const struct ledger_receipt *receipt, struct bytes *out_set,
                               Openledger__V1__ShareSet **out)
{
    Openledger__V1__Entry *entry = NULL;
    Openledger__V1__TxBody *body = NULL;
    ProtobufCMessage *message = NULL;
    struct digest digest;
    *out = NULL;
    enum err err = entry_of(desk, call, receipt->shared_index, &entry);
    err = err ? err : body_of(call, entry, &body);
    if (err != ERR_OK || body == NULL ||
        body->action_case != OPENLEDGER__V1__TX_BODY__ACTION_SETTLE_SHARES) {
        return err;
    }
    err = digest_from_bytes(ledger_bytes(body->settle_shares->batch), &digest);
    err = err ? err
              : batch_of(desk, call, &digest, &openledger__v1__share_batch__descriptor, &message);
    const Openledger__V1__ShareBatch *batch = (Openledger__V1__ShareBatch *)message;
    for (size_t i = 0; err == ERR_OK && *out == NULL && i < batch->n_sets; i++) {
        ProtobufCMessage *item = NULL;
        err = rpc_decode(&openledger__v1__share_set__descriptor, ledger_bytes(batch->sets[i]),
                         rpc_arena(call), &item, rpc_note(call));
        Openledger__V1__ShareSet *set = (Openledger__V1__ShareSet *)item;
        if (err == ERR_OK && bytes_equal(ledger_bytes(set->receipt), digest_bytes(&receipt->id))) {
            *out = set;
            *out_set = ledger_bytes(batch->sets[i]);
        }
    }
    return err;
}

/* A receipt's own legs; each says which posting of the log it was netted into. */
static enum err receipt_postings(struct desk *desk, struct rpc_call *call,
                                 const struct ledger_receipt *receipt, struct bytes share_set,
                                 Openledger__V1__ReceiptState *state)
{
    struct arena *arena = rpc_arena(call);
    struct settlement_store *store = settlement_index(desk->settlement);
    struct ledger_receipt_legs legs;
    struct postings posted = {.arena = arena};
    enum err err = ledger_receipt_legs(settlement_ledger(desk->settlement), receipt, share_set,
                                       &legs, rpc_note(call));
    if (err != ERR_OK) {
        return err;
    }
    err = settlement_store_legs(store, receipt->charged_index, receipt->charged_index, posting_add,
                                &posted);
    if (err == ERR_OK && receipt->shared_index > receipt->charged_index) {
        err = settlement_store_legs(store, receipt->shared_index, receipt->shared_index,
                                    posting_add, &posted);
    }
    Openledger__V1__Posting **items = arena_alloc_array(arena, legs.count, sizeof(void *));
    err = err == ERR_OK && items == NULL ? ERR_LIMIT : err;
    for (size_t i = 0; i < legs.count && err == ERR_OK; i++) {
        const struct ledger_leg *leg = &legs.items[i];
        uint64_t index = i < legs.charge_count ? receipt->charged_index : receipt->shared_index;
        Openledger__V1__Posting *own = arena_alloc(arena, sizeof *own);
        size_t k = 0;
        while (k < posted.count &&
               (posted.items[k]->index != index || posted.items[k]->credit != leg->credit ||
                strcmp(posted.items[k]->reason, leg->reason) != 0 ||
                memcmp(posted.items[k]->account.data, leg->account.bytes, ACCOUNT_ID_SIZE) != 0)) {
            k++;
        }
        CHECK(k < posted.count);
        if (own == NULL) {
            err = ERR_LIMIT;
            break;
        }
        *own = *posted.items[k];
        own->amount = answer_amount_text(arena, leg->amount);
        own->reference = answer_copy(arena, receipt->id.bytes, DIGEST_SIZE);
        err = own->amount == NULL || own->reference.len == 0 ? ERR_LIMIT : ERR_OK;
        items[i] = own;
    }
    state->n_postings = legs.count;
    state->postings = items;
    ledger_receipt_legs_free(&legs);
    return err;
}

enum err answer_get_receipt(void *context, struct rpc_call *call, const void *message)
{
    struct desk *desk = context;
    const Openledger__V1__GetReceiptRequest *request = message;
    struct digest id;
    struct bytes share_set = {NULL, 0};
    enum err err = answer_digest_of(call, request->receipt, "receipt", &id);
    err = err ? err : desk_flush(desk);
    if (err != ERR_OK) {
        return err;
    }
    const struct ledger_receipt *receipt = ledger_receipt(settlement_ledger(desk->settlement), &id);
    if (receipt == NULL) {
        return note_set(rpc_note(call), ERR_NOT_FOUND, "no such receipt is settled yet");
    }
    Openledger__V1__ReceiptState state = OPENLEDGER__V1__RECEIPT_STATE__INIT;
    err = receipt_decoded(desk, call, receipt, &state.decoded);
    if (err == ERR_OK && receipt->shared_index != 0) {
        err = shares_decoded(desk, call, receipt, &share_set, &state.shares);
    }
    err = err ? err : receipt_postings(desk, call, receipt, share_set, &state);
    state.receipt = ledger_binary(receipt->id.bytes, DIGEST_SIZE);
    state.batch = ledger_binary(receipt->batch.bytes, DIGEST_SIZE);
    state.charged_index = receipt->charged_index;
    state.shared_index = receipt->shared_index;
    return err ? err : rpc_reply(call, &state);
}
