/* fuzz_ledger_batches.c - batches of receipts and of shares with edits.
 *
 * Byte 0 chooses the batch and whether its signed bytes are edited, or an item of it that is then signed again
 * and settled, so that the rules are reached. Oracles: no changed bytes carry the signature; an item that decodes
 * is written back the same; a refusal changes nothing; what a settlement moves is the sum of what its receipts'
 * records say, and the cached root is the slow one. */
#include <stdlib.h>
#include <string.h>

#include "shared/base/check.h"
#include "tests/harness/edits.h"
#include "tests/harness/ledger_world_batches.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t data_size);

enum { ITEMS = 2 };

static struct world *world;
static struct digest chain_id;
static struct world_mark mark;      /* receipts 1 and 2 are charged and wait for shares */
static struct buf receipts, shares; /* batches that fit: receipts 3 and 4; shares of 1 and 2 */

static void blob_take(const struct digest *name, struct buf *out)
{
    struct ledger_blobs blobs = world_blobs(world);
    buf_init(out, LEDGER_BATCH_BLOB_MAX);
    CHECK(blobs.get(blobs.context, name, out) == ERR_OK);
}

static void start(void)
{
    struct digest ids[ITEMS];
    struct ledger_head head;
    world = world_create();
    world_setup(world);
    CHECK(world_grant(world, "10") == ERR_OK);
    struct digest batch = world_receipts(world, 1, ITEMS, 101, 7, NULL, ids);
    CHECK(world_settle_receipts(world, &batch) == ERR_OK);
    CHECK(world_seal(world) == ERR_OK);
    batch = world_receipts(world, 1 + ITEMS, ITEMS, 13, 5, NULL, NULL);
    blob_take(&batch, &receipts);
    batch = world_shares(world, ids, ITEMS, 333333333, 333333334);
    blob_take(&batch, &shares);
    world_mark(world, &mark);
    ledger_head(world->ledger, &head);
    chain_id = head.chain_id;
}

static void signature(struct bytes edited, bool of_shares)
{
    ProtobufCMessage *message = NULL;
    Openledger__V1__ReceiptBatch *receipt_batch = NULL;
    Openledger__V1__ShareBatch *share_batch = NULL;
    enum err err = of_shares ? ledger_share_batch_verify(edited, &chain_id, &share_batch, NULL)
                             : ledger_receipt_batch_verify(edited, &chain_id, &receipt_batch, NULL);
    CHECK((err == ERR_OK) == bytes_equal(edited, buf_bytes(of_shares ? &shares : &receipts)));
    if (err == ERR_OK) {
        message = of_shares ? &share_batch->base : &receipt_batch->base;
        protobuf_c_message_free_unpacked(message, NULL);
    }
}

static void item(struct bytes edited, bool of_shares)
{
    struct buf again;
    Openledger__V1__Receipt *receipt = NULL;
    Openledger__V1__ShareSet *set = NULL;
    enum err err = of_shares ? ledger_share_set_decode(edited, &set, NULL)
                             : ledger_receipt_decode(edited, &receipt, NULL);
    if (err == ERR_OK) {
        ProtobufCMessage *message = of_shares ? &set->base : &receipt->base;
        buf_init(&again, LEDGER_BATCH_BLOB_MAX);
        CHECK(ledger_pack(message, &again) == ERR_OK);
        CHECK(bytes_equal(buf_bytes(&again), edited));
        buf_deinit(&again);
        protobuf_c_message_free_unpacked(message, NULL);
    }
}

/* What was debited for reason by the entry just applied. */
static struct amount debited(const char *reason)
{
    struct amount sum = AMOUNT_ZERO;
    for (size_t i = 0; i < world->effects.leg_count; i++) {
        const struct ledger_leg *leg = &world->effects.legs[i];
        if (!leg->credit && strcmp(leg->reason, reason) == 0) {
            CHECK(amount_add(sum, leg->amount, &sum) == ERR_OK);
        }
    }
    return sum;
}

static void settled(bool of_shares)
{
    struct amount charged = AMOUNT_ZERO;
    for (size_t i = 0; i < world->effects.receipt_count; i++) {
        const struct ledger_receipt *receipt =
            ledger_receipt(world->ledger, &world->effects.receipts[i]);
        CHECK(receipt != NULL);
        CHECK(of_shares ? !receipt->waiting : receipt->waiting || amount_is_zero(receipt->fee));
        CHECK(amount_add(charged, receipt->fee, &charged) == ERR_OK);
    }
    if (of_shares) { /* contributors have 6,000 of 10,000 parts; a fee of 0.115 OPEN divides exactly */
        struct amount released = debited("fee.contributors.release");
        struct amount ten = AMOUNT_ZERO;
        struct amount six = AMOUNT_ZERO;
        for (int i = 0; i < 10; i++) {
            CHECK(amount_add(ten, released, &ten) == ERR_OK);
        }
        for (int i = 0; i < 6; i++) {
            CHECK(amount_add(six, charged, &six) == ERR_OK);
        }
        CHECK(world->effects.receipt_count == ITEMS && amount_equal(ten, six));
    } else {
        CHECK(amount_equal(debited("fee.charge"), charged));
    }
}

static void settle(struct bytes edited, bool of_shares)
{
    struct digest before;
    struct digest after;
    struct digest slow;
    world_return(world, &mark);
    ledger_state_root(world->ledger, &before);
    struct digest name =
        world_batch_with(world, buf_bytes(of_shares ? &shares : &receipts), of_shares, edited);
    enum err err =
        of_shares ? world_settle_shares(world, &name) : world_settle_receipts(world, &name);
    ledger_state_root(world->ledger, &after);
    ledger_state_root_slow(world->ledger, &slow);
    CHECK(digest_equal(&after, &slow));
    (void)ledger_supply(world->ledger);
    if (err == ERR_OK) {
        settled(of_shares);
    } else {
        CHECK(digest_equal(&before, &after));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t data_size)
{
    struct buf edited;
    if (world == NULL) {
        start();
    }
    if (data_size == 0) {
        return 0;
    }
    struct bytes edits = bytes_of(data + 1, data_size - 1);
    bool of_shares = data[0] % 2 == 1;
    buf_init(&edited, LEDGER_BATCH_BLOB_MAX);
    if (data[0] % 4 < 2) {
        buf_append_bytes(&edited, buf_bytes(of_shares ? &shares : &receipts));
        CHECK(buf_err(&edited) == ERR_OK);
        edits_make(edits, &edited);
        signature(buf_bytes(&edited), of_shares);
    } else {
        world_batch_item(buf_bytes(of_shares ? &shares : &receipts), of_shares, &edited);
        edits_make(edits, &edited);
        item(buf_bytes(&edited), of_shares);
        settle(buf_bytes(&edited), of_shares);
    }
    buf_deinit(&edited);
    return 0;
}
