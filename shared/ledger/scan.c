/* scan.c - see scan.h. Canonical proto3: fields ascend, defaults are left out, varints are minimal. */
#include "shared/ledger/scan.h"

#include <string.h>

#include "shared/base/check.h"
#include "shared/ledger/batch.h"
#include "shared/ledger/ledger.h"

enum { REQUEST_ID_SIZE = 16, FINISH_REASON_MAX = 32, SHARES_MAX = 8192, VARINT_MAX = 10 };
enum { WIRE_VARINT = 0, WIRE_BYTES = 2 };

struct wire {
    struct bytes rest;
    bool bad;
};

static uint64_t take_varint(struct wire *wire)
{
    uint64_t value = 0;
    for (size_t i = 0; i < wire->rest.size && i < VARINT_MAX; i++) {
        uint8_t byte = wire->rest.data[i];
        if (i == VARINT_MAX - 1 && byte > 1) {
            break; /* more than 64 bits */
        }
        value |= (uint64_t)(byte & 0x7f) << (7 * i);
        if (byte < 0x80) {
            wire->bad = wire->bad || (i > 0 && byte == 0);
            wire->rest = bytes_of(wire->rest.data + i + 1, wire->rest.size - i - 1);
            return value;
        }
    }
    wire->bad = true;
    return 0;
}

static bool next_is(const struct wire *wire, unsigned field, unsigned type)
{
    return !wire->bad && wire->rest.size > 0 && wire->rest.data[0] == (field << 3 | type);
}

static struct bytes take_sized(struct wire *wire)
{
    struct bytes out = {NULL, 0};
    wire->rest = bytes_of(wire->rest.data + 1, wire->rest.size - 1);
    uint64_t size = take_varint(wire);
    if (wire->bad || size > wire->rest.size) {
        wire->bad = true;
        return out;
    }
    out = bytes_of(wire->rest.data, (size_t)size);
    wire->rest = bytes_of(wire->rest.data + size, wire->rest.size - (size_t)size);
    return out;
}

/* A field that is there only when it is not empty. Fields up to 15: a tag is one byte. */
static struct bytes field_bytes(struct wire *wire, unsigned field)
{
    struct bytes out = {NULL, 0};
    if (next_is(wire, field, WIRE_BYTES)) {
        out = take_sized(wire);
        wire->bad = wire->bad || out.size == 0;
    }
    return out;
}

static uint64_t field_number(struct wire *wire, unsigned field, uint64_t max)
{
    uint64_t value = 0;
    if (next_is(wire, field, WIRE_VARINT)) {
        wire->rest = bytes_of(wire->rest.data + 1, wire->rest.size - 1);
        value = take_varint(wire);
        wire->bad = wire->bad || value == 0 || value > max;
    }
    return value;
}

static struct bytes field_text(struct wire *wire, unsigned field)
{
    struct bytes out = field_bytes(wire, field);
    wire->bad = wire->bad || (out.size > 0 && memchr(out.data, 0, out.size) != NULL);
    return out;
}

static bool complete(const struct wire *wire)
{
    return !wire->bad && wire->rest.size == 0;
}

static enum err malformed(struct note *note, const char *what)
{
    return note_set(note, ERR_INVALID, "%s is not a protobuf message in canonical encoding", what);
}

/* ---- receipts ----------------------------------------------------------------------------------- */

static bool name_valid(struct bytes name)
{
    char text[LEDGER_NAME_MAX + 1];
    if (name.size > LEDGER_NAME_MAX) {
        return false;
    }
    memcpy(text, name.data == NULL ? (const uint8_t *)"" : name.data, name.size);
    text[name.size] = '\0';
    return ledger_name_valid(text);
}

static enum err fee_parse(struct bytes fee, struct amount *out, struct note *note)
{
    char text[AMOUNT_TEXT_SIZE];
    if (fee.size >= sizeof text) {
        return note_set(note, ERR_INVALID, "receipt.fee has %zu digits", fee.size);
    }
    memcpy(text, fee.data == NULL ? (const uint8_t *)"" : fee.data, fee.size);
    text[fee.size] = '\0';
    return ledger_amount_parse(text, "receipt.fee", out, note);
}

enum err receipt_scan(struct bytes data, struct receipt_view *out, struct note *note)
{
    struct wire wire = {.rest = data};
    struct receipt_view view;
    view.grant = field_bytes(&wire, 1);
    view.lease = (uint32_t)field_number(&wire, 2, UINT32_MAX);
    view.number = field_number(&wire, 3, UINT64_MAX);
    view.request_id = field_bytes(&wire, 4);
    uint64_t kind = field_number(&wire, 5, UINT64_MAX);
    view.adapter = field_text(&wire, 6);
    view.prompt_tokens = (uint32_t)field_number(&wire, 7, UINT32_MAX);
    view.completion_tokens = (uint32_t)field_number(&wire, 8, UINT32_MAX);
    struct bytes fee = field_text(&wire, 9);
    struct bytes prompt = field_bytes(&wire, 10);
    struct bytes answer = field_bytes(&wire, 11);
    view.profile = field_bytes(&wire, 12);
    view.opened_ms = field_number(&wire, 13, UINT64_MAX);
    uint64_t finished_ms = field_number(&wire, 14, UINT64_MAX);
    struct bytes reason = field_text(&wire, 15);
    if (!complete(&wire)) {
        return malformed(note, "receipt");
    }
    if (view.grant.size != DIGEST_SIZE || view.request_id.size != REQUEST_ID_SIZE ||
        view.profile.size != DIGEST_SIZE || prompt.size != DIGEST_SIZE ||
        answer.size != DIGEST_SIZE) {
        return note_set(note, ERR_INVALID,
                        "a digest or the request id of the receipt has another "
                        "size");
    }
    enum err err = fee_parse(fee, &view.fee, note);
    if (err != ERR_OK) {
        return err;
    }
    view.is_void = kind == OPENLEDGER__V1__RECEIPT_KIND__RECEIPT_KIND_VOID;
    if (!view.is_void && kind != OPENLEDGER__V1__RECEIPT_KIND__RECEIPT_KIND_CHARGE) {
        return note_set(note, ERR_INVALID, "receipt.kind %llu is unknown",
                        (unsigned long long)kind);
    }
    if (view.is_void && (!amount_is_zero(view.fee) || view.completion_tokens != 0)) {
        return note_set(note, ERR_INVALID, "a void receipt charges something");
    }
    if (!name_valid(view.adapter)) {
        return note_set(note, ERR_INVALID, "receipt.adapter is not a name");
    }
    if (view.prompt_tokens > LEDGER_TOKENS_MAX || view.completion_tokens > LEDGER_TOKENS_MAX) {
        return note_set(note, ERR_RANGE, "receipt counts %u and %u tokens, allowed are %d",
                        view.prompt_tokens, view.completion_tokens, LEDGER_TOKENS_MAX);
    }
    if (view.number == 0 || view.lease == 0 || finished_ms < view.opened_ms ||
        reason.size > FINISH_REASON_MAX) {
        return note_set(note, ERR_INVALID,
                        "receipt has a lease or number of 0, ends before it begins, or a "
                        "finish_reason above %d bytes",
                        FINISH_REASON_MAX);
    }
    *out = view;
    return ERR_OK;
}

/* ---- shares ------------------------------------------------------------------------------------- */

static enum err share_scan(struct bytes data, struct share_view *out, struct note *note)
{
    struct wire wire = {.rest = data};
    struct bytes account = field_bytes(&wire, 1);
    uint32_t ppb = (uint32_t)field_number(&wire, 2, UINT32_MAX);
    uint64_t influence = field_number(&wire, 3, UINT32_MAX);
    uint64_t span = field_number(&wire, 4, UINT32_MAX);
    if (!complete(&wire)) {
        return malformed(note, "share");
    }
    if (account.size != ACCOUNT_ID_SIZE) {
        return note_set(note, ERR_INVALID, "share's account has %zu bytes, not %d", account.size,
                        ACCOUNT_ID_SIZE);
    }
    if (ppb == 0 || influence + span != ppb) {
        return note_set(note, ERR_INVALID, "a share of %u is 0 or not influence and span", ppb);
    }
    *out = (struct share_view){account.data, ppb};
    return ERR_OK;
}

bool share_next(struct bytes *shares, struct share_view *out)
{
    struct wire wire = {.rest = *shares};
    if (!next_is(&wire, 2, WIRE_BYTES)) {
        return false;
    }
    struct bytes share = take_sized(&wire);
    CHECK(!wire.bad && share_scan(share, out, NULL) == ERR_OK);
    *shares = wire.rest;
    return true;
}

enum err share_set_scan(struct bytes data, struct share_set_view *out, struct note *note)
{
    struct wire wire = {.rest = data};
    struct share_set_view view = {.receipt = field_bytes(&wire, 1)};
    view.shares = wire.rest;
    uint64_t total = 0;
    const uint8_t *before = NULL;
    while (next_is(&wire, 2, WIRE_BYTES)) {
        struct share_view share;
        struct bytes item = take_sized(&wire);
        enum err err = wire.bad ? malformed(note, "share set") : share_scan(item, &share, note);
        if (err != ERR_OK) {
            return err;
        }
        if (before != NULL && memcmp(before, share.account, ACCOUNT_ID_SIZE) >= 0) {
            return note_set(note, ERR_INVALID, "share %zu: accounts do not ascend",
                            view.share_count);
        }
        before = share.account;
        total += share.ppb;
        view.share_count++;
    }
    view.shares.size -= wire.rest.size;
    view.unearned_ppb = (uint32_t)field_number(&wire, 3, UINT32_MAX);
    view.index = field_bytes(&wire, 4);
    if (!complete(&wire)) {
        return malformed(note, "share set");
    }
    if (view.receipt.size != DIGEST_SIZE || view.index.size != DIGEST_SIZE ||
        view.share_count > SHARES_MAX) {
        return note_set(note, ERR_INVALID,
                        "the share set's receipt or index is no digest, or it has more than %d "
                        "shares",
                        SHARES_MAX);
    }
    total += view.unearned_ppb;
    if (total != LEDGER_SHARE_TOTAL) {
        return note_set(note, ERR_INVALID, "shares and the unearned part sum to %llu, not %u",
                        (unsigned long long)total, LEDGER_SHARE_TOTAL);
    }
    *out = view;
    return ERR_OK;
}

/* ---- batches ------------------------------------------------------------------------------------ */

/* Repeated bytes: an empty item is still an item. */
static void take_items(struct wire *wire, unsigned field, struct batch_view *view)
{
    view->items = wire->rest;
    while (next_is(wire, field, WIRE_BYTES)) {
        (void)take_sized(wire);
        view->count++;
    }
    view->items.size -= wire->rest.size;
}

bool batch_next(struct bytes *items, struct bytes *out_item)
{
    struct wire wire = {.rest = *items};
    if (wire.rest.size == 0) {
        return false;
    }
    *out_item = take_sized(&wire);
    CHECK(!wire.bad);
    *items = wire.rest;
    return true;
}

static enum err batch_check(const struct wire *wire, const struct batch_view *view,
                            struct note *note)
{
    if (!complete(wire)) {
        return malformed(note, "batch");
    }
    if (view->account.size != ACCOUNT_ID_SIZE || view->key.size != PUBLIC_KEY_SIZE ||
        view->signature.size != SIGNATURE_SIZE) {
        return note_set(note, ERR_INVALID,
                        "the batch's account, key or signature has a wrong size");
    }
    return view->count >= 1 && view->count <= LEDGER_BATCH_ITEMS_MAX
               ? ERR_OK
               : note_set(note, ERR_RANGE, "the batch has %zu items, allowed are 1 to %d",
                          view->count, LEDGER_BATCH_ITEMS_MAX);
}

enum err receipt_batch_scan(struct bytes data, struct batch_view *out, struct note *note)
{
    struct wire wire = {.rest = data};
    struct batch_view view = {.count = 0};
    view.chain_id = field_bytes(&wire, 1);
    view.account = field_bytes(&wire, 2);
    view.grant = field_bytes(&wire, 3);
    view.lease = (uint32_t)field_number(&wire, 4, UINT32_MAX);
    view.first_number = field_number(&wire, 5, UINT64_MAX);
    take_items(&wire, 6, &view);
    view.key = field_bytes(&wire, 7);
    view.signature = field_bytes(&wire, 8);
    enum err err = batch_check(&wire, &view, note);
    if (err != ERR_OK) {
        return err;
    }
    if (view.grant.size != DIGEST_SIZE || view.lease == 0 || view.first_number == 0 ||
        view.first_number > UINT64_MAX - LEDGER_BATCH_ITEMS_MAX) {
        return note_set(note, ERR_INVALID, "the batch's grant, lease or first number is malformed");
    }
    *out = view;
    return ERR_OK;
}

enum err share_batch_scan(struct bytes data, struct batch_view *out, struct note *note)
{
    struct wire wire = {.rest = data};
    struct batch_view view = {.count = 0};
    view.chain_id = field_bytes(&wire, 1);
    view.account = field_bytes(&wire, 2);
    take_items(&wire, 3, &view);
    view.key = field_bytes(&wire, 4);
    view.signature = field_bytes(&wire, 5);
    enum err err = batch_check(&wire, &view, note);
    if (err == ERR_OK) {
        *out = view;
    }
    return err;
}
