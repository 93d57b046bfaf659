/* ledger_world_batches.c - see ledger_world_batches.h. */
#include "tests/harness/ledger_world_batches.h"

#include "shared/base/check.h"

enum { ITEMS_MAX = 16 };

static struct bytes *items_of(const ProtobufCBinaryData *fields, size_t count, struct bytes *out)
{
    CHECK(count > 0 && count <= ITEMS_MAX);
    for (size_t i = 0; i < count; i++) {
        out[i] = ledger_bytes(fields[i]);
    }
    return out;
}

void world_batch_item(struct bytes batch, bool of_shares, struct buf *out)
{
    if (of_shares) {
        Openledger__V1__ShareBatch *message =
            openledger__v1__share_batch__unpack(NULL, batch.size, batch.data);
        buf_append_bytes(out, ledger_bytes(message->sets[0]));
        openledger__v1__share_batch__free_unpacked(message, NULL);
    } else {
        Openledger__V1__ReceiptBatch *message =
            openledger__v1__receipt_batch__unpack(NULL, batch.size, batch.data);
        buf_append_bytes(out, ledger_bytes(message->receipts[0]));
        openledger__v1__receipt_batch__free_unpacked(message, NULL);
    }
    CHECK(buf_err(out) == ERR_OK);
}

struct digest world_batch_with(struct world *world, struct bytes batch, bool of_shares,
                               struct bytes item)
{
    struct bytes items[ITEMS_MAX];
    struct ledger_head head;
    struct buf out;
    buf_init(&out, LEDGER_BATCH_BLOB_MAX);
    ledger_head(world->ledger, &head);
    if (of_shares) {
        Openledger__V1__ShareBatch *message =
            openledger__v1__share_batch__unpack(NULL, batch.size, batch.data);
        items_of(message->sets, message->n_sets, items)[0] = item;
        const struct ledger_share_batch parts = {.chain_id = &head.chain_id,
                                                 .account = &world->ids[WORLD_ATTRIBUTION],
                                                 .sets = items,
                                                 .count = (uint32_t)message->n_sets};
        CHECK(ledger_share_batch_sign(&parts, world->keys[WORLD_ATTRIBUTION], &out) == ERR_OK);
        openledger__v1__share_batch__free_unpacked(message, NULL);
    } else {
        Openledger__V1__ReceiptBatch *message =
            openledger__v1__receipt_batch__unpack(NULL, batch.size, batch.data);
        items_of(message->receipts, message->n_receipts, items)[0] = item;
        const struct ledger_receipt_batch parts = {.chain_id = &head.chain_id,
                                                   .gateway = &world->ids[WORLD_GATEWAY],
                                                   .grant = &world->grant,
                                                   .lease = message->lease,
                                                   .first_number = message->first_number,
                                                   .receipts = items,
                                                   .count = (uint32_t)message->n_receipts};
        CHECK(ledger_receipt_batch_sign(&parts, world->keys[WORLD_GATEWAY], &out) == ERR_OK);
        openledger__v1__receipt_batch__free_unpacked(message, NULL);
    }
    struct digest name = world_blob(world, buf_bytes(&out));
    buf_deinit(&out);
    return name;
}
