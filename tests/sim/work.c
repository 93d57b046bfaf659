/* work.c - see work.h. */
#include "tests/sim/work.h"

#include <string.h>

#include "shared/base/check.h"

static void add(struct work *work, enum work_kind kind, struct bytes signed_tx, size_t batch)
{
    struct ledger_head head;
    CHECK(work->count < WORK_TASKS_MAX);
    struct work_task *task = &work->tasks[work->count++];
    *task = (struct work_task){.kind = kind, .batch = batch};
    buf_init(&task->tx, LEDGER_ENTRY_MAX);
    CHECK(buf_append_bytes(&task->tx, signed_tx) == ERR_OK);
    ledger_head(work->world->ledger, &head);
    CHECK(ledger_signed_tx_id(&head.chain_id, signed_tx, &task->id, NULL) == ERR_OK);
}

static void add_action(struct work *work, enum work_kind kind, enum world_who who,
                       Openledger__V1__TxBody *body, size_t batch)
{
    struct buf tx;
    buf_init(&tx, LEDGER_ENTRY_MAX);
    world_build(work->world, who, body, &tx);
    add(work, kind, buf_bytes(&tx), batch);
    buf_deinit(&tx);
}

static struct bytes blob_of(const struct world *world, const struct digest *name)
{
    size_t i = 0;
    while (i < world->blob_count && !digest_equal(&world->blob_names[i], name)) {
        i++;
    }
    CHECK(i < world->blob_count);
    return buf_bytes(&world->blobs[i]);
}

/* Every batch is submitted by two feeders, as after a takeover: it must be settled once. */
static void add_batch(struct work *work, size_t batch)
{
    struct world *world = work->world;
    struct digest ids[WORK_BATCH_ITEMS];
    work->receipts[batch] =
        world_receipts(world, 1 + batch * WORK_BATCH_ITEMS, WORK_BATCH_ITEMS, 10, 20, NULL, ids);
    work->shares[batch] = world_shares(world, ids, WORK_BATCH_ITEMS, 300000000, 200000000);
    for (int twice = 0; twice < 2; twice++) {
        Openledger__V1__SettleReceipts receipts = OPENLEDGER__V1__SETTLE_RECEIPTS__INIT;
        receipts.batch = ledger_binary(work->receipts[batch].bytes, DIGEST_SIZE);
        WORLD_ACTION(charge, SETTLE_RECEIPTS, settle_receipts, &receipts);
        add_action(work, WORK_RECEIPTS, WORLD_SERVICE, &charge, batch);
        Openledger__V1__SettleShares shares = OPENLEDGER__V1__SETTLE_SHARES__INIT;
        shares.batch = ledger_binary(work->shares[batch].bytes, DIGEST_SIZE);
        WORLD_ACTION(share, SETTLE_SHARES, settle_shares, &shares);
        add_action(work, WORK_SHARES, WORLD_SERVICE, &share, batch);
    }
}

/* What the gateways draw from: one that lasts, one that expires while answers are under way. */
static void add_grants(struct work *work)
{
    struct world *world = work->world;
    for (size_t i = 0; i < WORK_GRANTS; i++) {
        Openledger__V1__OpenGrant grant = OPENLEDGER__V1__OPEN_GRANT__INIT;
        grant.gateway = world_id_field(world, WORLD_GATEWAY);
        grant.limit = world_text("50");
        grant.expires_ms = world->now_ms + WORK_CLOCK_MS + (i == 0 ? 3600000 : WORK_BRIEF_MS);
        WORLD_ACTION(body, OPEN_GRANT, open_grant, &grant);
        add_action(work, WORK_GRANT, WORLD_PAYER, &body, i);
        work->grants[i] = work->tasks[work->count - 1].id;
        work->tasks[work->count - 1].grant = work->grants[i];
    }
    Openledger__V1__CloseGrant close = OPENLEDGER__V1__CLOSE_GRANT__INIT;
    close.grant = ledger_binary(work->grants[1].bytes, DIGEST_SIZE);
    WORLD_ACTION(body, CLOSE_GRANT, close_grant, &close);
    add_action(work, WORK_CLOSE, WORLD_PAYER, &body, 1);
}

void work_create(struct work *work, const char *blob_folder)
{
    *work = (struct work){.world = world_create_at(WORLD_TIME_MS, WORK_DEADLINE)};
    struct world *world = work->world;
    CHECK(blob_open(blob_folder, &work->blobs, NULL) == ERR_OK);
    world_setup(world);
    CHECK(world_grant(world, "1000") == ERR_OK);
    for (size_t i = 0; i < world->entry_count; i++) {
        Openledger__V1__Entry *entry = NULL;
        struct bytes tx = world_signed_tx(&world->entries[i], &entry);
        if (tx.size > 0) {
            add(work, WORK_SETUP, tx, 0);
        }
        openledger__v1__entry__free_unpacked(entry, NULL);
    }
    work->setup_count = work->count;
    for (size_t i = 0; i < WORK_TRANSFERS; i++) {
        Openledger__V1__Transfer transfer = OPENLEDGER__V1__TRANSFER__INIT;
        transfer.to = world_id_field(world, i % 2 == 0 ? WORLD_ALICE : WORLD_BOB);
        transfer.amount = world_text("1.25");
        WORLD_ACTION(body, TRANSFER, transfer, &transfer);
        add_action(work, WORK_TRANSFER, WORLD_PAYER, &body, 0);
    }
    add_grants(work);
    for (size_t batch = 0; batch < WORK_BATCHES; batch++) {
        add_batch(work, batch);
    }
    for (size_t batch = 0; batch < WORK_BATCHES; batch++) { /* the world has all its blobs now */
        work->receipt_bytes[batch] = blob_of(world, &work->receipts[batch]);
        work->share_bytes[batch] = blob_of(world, &work->shares[batch]);
    }
    work->fixed_count = work->count;
    for (size_t i = 0; i < WORK_WITNESSES; i++) {
        uint8_t seed[KEY_SEED_SIZE] = {0x31, (uint8_t)i};
        work->witnesses[i] = key_pair_from_seed(seed);
        CHECK(work->witnesses[i] != NULL);
    }
}

struct work_task *work_make(struct work *work, enum work_kind kind, enum world_who who,
                            uint64_t random, Openledger__V1__TxBody *body)
{
    const struct world *world = work->world;
    uint8_t nonce[LEDGER_NONCE_SIZE] = {0x51};
    struct ledger_head head;
    struct buf tx;
    struct digest id;
    if (work->count == WORK_TASKS_MAX) {
        return NULL;
    }
    memcpy(nonce + 1, &random, sizeof random);
    nonce[9] = (uint8_t)work->count;
    nonce[10] = (uint8_t)(work->count >> 8);
    ledger_head(world->ledger, &head);
    const struct ledger_tx about =
        ledger_tx_at(&head.chain_id, &world->ids[who], world->now_ms, LEDGER_TX_VALIDITY_MS, nonce);
    buf_init(&tx, LEDGER_ENTRY_MAX);
    CHECK(ledger_tx_build(&about, body, world->keys[who], &tx, &id) == ERR_OK);
    add(work, kind, buf_bytes(&tx), 0);
    buf_deinit(&tx);
    return &work->tasks[work->count - 1];
}

void work_forget(struct work *work)
{
    while (work->count > work->fixed_count) {
        struct work_task *task = &work->tasks[--work->count];
        (void)!blob_remove(work->blobs, &task->blob, NULL);
        buf_deinit(&task->tx);
    }
}

void work_destroy(struct work *work)
{
    for (size_t i = 0; i < work->count; i++) {
        buf_deinit(&work->tasks[i].tx);
    }
    for (size_t i = 0; i < WORK_WITNESSES; i++) {
        key_pair_destroy(work->witnesses[i]);
    }
    blob_close(work->blobs);
    world_destroy(work->world);
}
