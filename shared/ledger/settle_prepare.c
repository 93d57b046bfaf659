/* settle_prepare.c - a settlement batch's bytes: fetched, checked against their name, scanned, and their
 * signature tried. Needs no state, so it runs on any thread. */
#include <stdlib.h>
#include <string.h>

#include "shared/base/check.h"
#include "shared/crypto/sha256.h"
#include "shared/ledger/batch.h"
#include "shared/ledger/machine.h"
#include "shared/ledger/settle.h"
#include "shared/ledger/tx.h"
#include "shared/merkle/merkle.h"

static enum err batch_fetch(struct settle_batch *batch, const struct ledger_blobs *blobs)
{
    struct digest found;
    struct note *note = &batch->note;
    if (blobs == NULL || blobs->get == NULL) {
        return note_set(note, ERR_NOT_FOUND, "batch %s: no blobs at hand",
                        short_hex(batch->digest.bytes).text);
    }
    enum err err = blobs->get(blobs->context, &batch->digest, &batch->bytes);
    if (err != ERR_OK) {
        return note_set(note, err, "batch %s cannot be read: %s",
                        short_hex(batch->digest.bytes).text, err_name(err));
    }
    sha256(buf_bytes(&batch->bytes), &found);
    return digest_equal(&found, &batch->digest)
               ? ERR_OK
               : note_set(note, ERR_CORRUPT, "batch %s: its bytes have another digest",
                          short_hex(batch->digest.bytes).text);
}

static enum err receipt_take(struct settle_batch *batch, struct bytes item, size_t number)
{
    struct settle_receipt *receipt = &batch->receipts[number];
    enum err err = receipt_scan(item, &receipt->view, &batch->note);
    if (err == ERR_OK && (receipt->view.lease != batch->head.lease ||
                          receipt->view.number != batch->head.first_number + number ||
                          !bytes_equal(receipt->view.grant, batch->head.grant))) {
        err = note_set(&batch->note, ERR_INVALID,
                       "it has number %llu where %llu is due, or another grant or lease",
                       (unsigned long long)receipt->view.number,
                       (unsigned long long)batch->head.first_number + number);
    }
    return err;
}

static enum err item_take(struct settle_batch *batch, struct bytes item, size_t number)
{
    bool receipts = batch->sort == BATCH_RECEIPTS;
    enum err err = receipts ? receipt_take(batch, item, number)
                            : share_set_scan(item, &batch->sets[number], &batch->note);
    return err ? note_wrap(&batch->note, err, "%s %zu of the batch",
                           receipts ? "receipt" : "share set", number)
               : ERR_OK;
}

/* Scans every item; the root of their bytes is what the signature is over. */
static enum err items_take(struct settle_batch *batch, struct digest *out_root)
{
    const size_t count = batch->head.count;
    struct bytes rest = batch->head.items;
    struct bytes *items = calloc(count, sizeof *items);
    struct digest *leaves = calloc(count, sizeof *leaves);
    struct merkle_head head;
    enum err err = ERR_OK;
    CHECK(items != NULL);
    CHECK(leaves != NULL);
    for (size_t i = 0; i < count && err == ERR_OK; i++) {
        CHECK(batch_next(&rest, &items[i]));
        err = item_take(batch, items[i], i);
    }
    if (err == ERR_OK) {
        merkle_leaves(items, count, leaves);
        merkle_head((struct merkle_leaves){leaves, count}, &head);
        *out_root = head.root;
    }
    for (size_t i = 0; i < count && err == ERR_OK && batch->sort == BATCH_RECEIPTS; i++) {
        batch->receipts[i].id = leaves[i];
    }
    free(items);
    free(leaves);
    return err;
}

static enum err batch_take(struct settle_batch *batch, const struct digest *chain_id)
{
    struct digest root;
    bool receipts = batch->sort == BATCH_RECEIPTS;
    struct bytes bytes = buf_bytes(&batch->bytes);
    enum err err = receipts ? receipt_batch_scan(bytes, &batch->head, &batch->note)
                            : share_batch_scan(bytes, &batch->head, &batch->note);
    if (err == ERR_OK && !bytes_equal(batch->head.chain_id, digest_bytes(chain_id))) {
        err = note_set(&batch->note, ERR_INVALID, "the batch is for another chain");
    }
    if (err == ERR_OK) {
        batch->receipts = calloc(receipts ? batch->head.count : 1, sizeof *batch->receipts);
        batch->sets = calloc(receipts ? 1 : batch->head.count, sizeof *batch->sets);
        CHECK(batch->receipts != NULL);
        CHECK(batch->sets != NULL);
        err = items_take(batch, &root);
    }
    if (err == ERR_OK && !batch_signature_fits(&batch->head, batch->sort, &root)) {
        err = note_set(&batch->note, ERR_DENIED, "the batch's signature does not fit its contents");
    }
    return err ? note_wrap(&batch->note, err, "batch %s", short_hex(batch->digest.bytes).text)
               : ERR_OK;
}

void settle_prepare(struct ledger_prepared *prepared, const struct digest *chain_id,
                    const struct ledger_blobs *blobs)
{
    const Openledger__V1__TxBody *body = prepared->body;
    enum batch_sort sort = BATCH_RECEIPTS;
    struct bytes name;
    if (body->action_case == OPENLEDGER__V1__TX_BODY__ACTION_SETTLE_RECEIPTS) {
        name = ledger_bytes(body->settle_receipts->batch);
    } else if (body->action_case == OPENLEDGER__V1__TX_BODY__ACTION_SETTLE_SHARES) {
        name = ledger_bytes(body->settle_shares->batch);
        sort = BATCH_SHARES;
    } else {
        return;
    }
    struct settle_batch *batch = calloc(1, sizeof *batch);
    CHECK(batch != NULL);
    prepared->batch = batch;
    batch->sort = sort;
    buf_init(&batch->bytes, LEDGER_BATCH_BLOB_MAX);
    if (digest_from_bytes(name, &batch->digest) != ERR_OK) {
        batch->err = note_set(&batch->note, ERR_INVALID, "batch has %zu bytes, not %d", name.size,
                              DIGEST_SIZE);
        return;
    }
    batch->err = batch_fetch(batch, blobs);
    batch->err = batch->err ? batch->err : batch_take(batch, chain_id);
}

void settle_prepared_free(struct ledger_prepared *prepared)
{
    if (prepared->batch != NULL) {
        buf_deinit(&prepared->batch->bytes);
        free(prepared->batch->receipts);
        free(prepared->batch->sets);
        free(prepared->batch);
    }
}
