/* attributions.c - see attributions.h. What it publishes for a batch of receipts that was charged: shares in
 * time, shares after their deadline, none, two sets that disagree (the first one counts), or false ones,
 * which nothing may be paid by. */
#include "tests/sim/attributions.h"

#include <stdbool.h>
#include <string.h>

#include "shared/base/check.h"
#include "shared/crypto/sha256.h"
#include "shared/ledger/tx.h"
#include "tests/sim/inside.h"

enum { SETS_MAX = 64, SET_SIZE = 512 };

/* Which wrong a set has. */
enum fault { NONE, OTHER_INDEX, STRANGER, FAULTS };

static void set_pack(const struct digest *receipt, uint32_t alice_ppb, enum fault fault,
                     struct buf *out)
{
    const struct world *world = sim.work->world;
    enum world_who other = fault == STRANGER ? WORLD_TEAM : WORLD_BOB;
    uint32_t other_ppb = LEDGER_SHARE_TOTAL / 4;
    bool first = account_id_compare(&world->ids[WORLD_ALICE], &world->ids[other]) < 0;
    Openledger__V1__Share shares[2] = {OPENLEDGER__V1__SHARE__INIT, OPENLEDGER__V1__SHARE__INIT};
    Openledger__V1__Share *pointers[2] = {&shares[first ? 0 : 1], &shares[first ? 1 : 0]};
    shares[0].account = world_id_field(world, WORLD_ALICE);
    shares[0].share_ppb = alice_ppb;
    shares[0].influence_ppb = alice_ppb;
    shares[1].account = world_id_field(world, other);
    shares[1].share_ppb = other_ppb;
    shares[1].span_ppb = other_ppb;
    Openledger__V1__ShareSet set = OPENLEDGER__V1__SHARE_SET__INIT;
    struct digest index = world->files;
    index.bytes[0] ^= fault == OTHER_INDEX ? 1 : 0;
    set.receipt = ledger_binary(receipt->bytes, DIGEST_SIZE);
    set.n_shares = 2;
    set.shares = pointers;
    set.unearned_ppb = LEDGER_SHARE_TOTAL - alice_ppb - other_ppb;
    set.index = ledger_binary(index.bytes, DIGEST_SIZE);
    CHECK(ledger_pack(&set.base, out) == ERR_OK);
}

/* Shares of the receipts of a charge that still wait. */
static void publish(const struct ledger_effects *charge, uint32_t alice_ppb, enum fault fault,
                    uint64_t delay_ms)
{
    struct bytes sets[SETS_MAX];
    size_t ends[SETS_MAX] = {0};
    size_t count = 0;
    struct buf items;
    struct buf out;
    struct digest first = {{0}};
    struct ledger_head head;
    buf_init(&items, (size_t)SETS_MAX * SET_SIZE);
    buf_init(&out, LEDGER_BATCH_BLOB_MAX);
    for (size_t i = 0; i < charge->receipt_count && count < SETS_MAX; i++) {
        const struct ledger_receipt *receipt =
            ledger_receipt(sim.truth.witness, &charge->receipts[i]);
        if (receipt != NULL && receipt->waiting) {
            first = count == 0 ? receipt->id : first;
            set_pack(&receipt->id, alice_ppb, fault, &items);
            ends[count++] = items.size;
        }
    }
    for (size_t i = 0; i < count; i++) {
        size_t begin = i == 0 ? 0 : ends[i - 1];
        sets[i] = bytes_of(items.data + begin, ends[i] - begin);
    }
    if (count > 0) {
        struct digest digest;
        ledger_head(sim.work->world->ledger, &head);
        const struct ledger_share_batch batch = {.chain_id = &head.chain_id,
                                                 .account =
                                                     &sim.work->world->ids[WORLD_ATTRIBUTION],
                                                 .sets = sets,
                                                 .count = count};
        CHECK(ledger_share_batch_sign(&batch, sim.work->world->keys[WORLD_ATTRIBUTION], &out) ==
              ERR_OK);
        sha256(buf_bytes(&out), &digest);
        Openledger__V1__SettleShares settle = OPENLEDGER__V1__SETTLE_SHARES__INIT;
        settle.batch = ledger_binary(digest.bytes, DIGEST_SIZE);
        WORLD_ACTION(body, SETTLE_SHARES, settle_shares, &settle);
        struct work_task *task = work_make(sim.work, fault == NONE ? WORK_SHARE : WORK_FALSE,
                                           WORLD_SERVICE, sim_draw(), &body);
        if (task != NULL) {
            task->blob = digest;
            task->receipt = first;
            sim.tasks[sim.work->count - 1].next_ms = sim.now_ms + delay_ms;
            sim_push((struct event){.kind = BLOB, .data = sim_copy(buf_bytes(&out))},
                     sim_draw() % 300);
        }
    }
    buf_deinit(&out);
    buf_deinit(&items);
}

void attributions_charged(const struct ledger_effects *effects, size_t task)
{
    if (sim.work->tasks[task].kind != WORK_CHARGE) {
        return;
    }
    uint64_t what = sim_draw() % 100;
    uint32_t part = (uint32_t)(1 + sim_draw() % (LEDGER_SHARE_TOTAL / 2));
    if (what < 55) {
        publish(effects, part, NONE, sim_draw() % 300);
    } else if (what < 70) {
        publish(effects, part, NONE, 900 + sim_draw() % 3000);
    } else if (what < 80) {
        publish(effects, part, NONE, sim_draw() % 300);
        publish(effects, part / 2 + 1, NONE, sim_draw() % 300);
    } else if (what < 90) {
        publish(effects, part, (enum fault)(1 + sim_draw() % (FAULTS - 1)), sim_draw() % 300);
    }
}
