/* ledger_receipts.c - settling receipts of an adapter with 8 contributors: see ledger_bench.h. The batches are
 * published (in the blob store) before the clock starts; it stops when charges and payouts are in a durable block. */
#include <stdlib.h>
#include <string.h>

#include "shared/base/check.h"
#include "tests/bench/ledger_bench.h"

enum { ROWS = 10 };

static const uint8_t SOME[DIGEST_SIZE] = {0x3d}; /* a digest of bytes that nobody asks for */

/* The signers 0..7 by ascending account id, as version and share sets list them. */
static int by_id(const void *a, const void *b)
{
    return account_id_compare(a, b);
}

static void run(struct rig *rig, struct signed_txs *txs)
{
    (void)rig_run(rig, txs, 1);
    signed_txs_free(txs);
}

static void contribute(struct rig *rig, uint32_t who)
{
    struct signed_txs txs = {.count = 0};
    Openledger__V1__CommitRows commit = OPENLEDGER__V1__COMMIT_ROWS__INIT;
    commit.datanet = world_text("net");
    commit.root = ledger_binary(SOME, DIGEST_SIZE);
    commit.row_count = ROWS;
    commit.byte_count = 100;
    WORLD_ACTION(body, COMMIT_ROWS, commit_rows, &commit);
    rig_build(rig, who, &body, &txs);
    struct digest id = rig->world->tx;
    Openledger__V1__ReviewContribution review = OPENLEDGER__V1__REVIEW_CONTRIBUTION__INIT;
    review.contribution = ledger_binary(id.bytes, DIGEST_SIZE);
    review.accept = true;
    review.content = ledger_binary(SOME, DIGEST_SIZE);
    review.accepted_rows = ROWS;
    WORLD_ACTION(body2, REVIEW_CONTRIBUTION, review_contribution, &review);
    rig_build_world(rig, WORLD_OWNER, &body2, &txs);
    run(rig, &txs);
}

static void publish_version(struct rig *rig, struct account_id *ids)
{
    struct signed_txs txs = {.count = 0};
    Openledger__V1__VersionContributor items[BENCH_CONTRIBUTORS];
    Openledger__V1__VersionContributor *pointers[BENCH_CONTRIBUTORS];
    for (uint32_t i = 0; i < BENCH_CONTRIBUTORS; i++) {
        openledger__v1__version_contributor__init(&items[i]);
        items[i].account = ledger_binary(ids[i].bytes, ACCOUNT_ID_SIZE);
        items[i].row_count = ROWS;
        pointers[i] = &items[i];
    }
    Openledger__V1__PublishVersion version = OPENLEDGER__V1__PUBLISH_VERSION__INIT;
    version.datanet = world_text("net");
    version.version = 2;
    version.root = ledger_binary(SOME, DIGEST_SIZE);
    version.manifest = ledger_binary(SOME, DIGEST_SIZE);
    version.row_count = ROWS * BENCH_CONTRIBUTORS;
    version.n_contributors = BENCH_CONTRIBUTORS;
    version.contributors = pointers;
    WORLD_ACTION(body, PUBLISH_VERSION, publish_version, &version);
    rig_build_world(rig, WORLD_OWNER, &body, &txs);
    run(rig, &txs);
}

static void publish_adapter(struct rig *rig)
{
    struct signed_txs txs = {.count = 0};
    Openledger__V1__TrainSettings settings = OPENLEDGER__V1__TRAIN_SETTINGS__INIT;
    settings.rank = 8;
    settings.alpha = 16;
    settings.steps = 10;
    settings.batch_rows = 4;
    settings.learning_rate_ppm = 1000;
    settings.context = 64;
    Openledger__V1__SubmitJob job = OPENLEDGER__V1__SUBMIT_JOB__INIT;
    job.datanet = world_text("net");
    job.version = 2;
    job.model = world_text("base");
    job.settings = &settings;
    job.fee = world_text("5");
    WORLD_ACTION(body, SUBMIT_JOB, submit_job, &job);
    rig_build_world(rig, WORLD_DEV, &body, &txs);
    struct digest id = rig->world->tx;
    Openledger__V1__ClaimJob claim = OPENLEDGER__V1__CLAIM_JOB__INIT;
    claim.job = ledger_binary(id.bytes, DIGEST_SIZE);
    WORLD_ACTION(body2, CLAIM_JOB, claim_job, &claim);
    rig_build_world(rig, WORLD_TRAINER, &body2, &txs);
    Openledger__V1__CompleteJob complete = OPENLEDGER__V1__COMPLETE_JOB__INIT;
    complete.job = claim.job;
    complete.transcript_root = ledger_binary(SOME, DIGEST_SIZE);
    complete.transcript = ledger_binary(SOME, DIGEST_SIZE);
    complete.adapter = ledger_binary(SOME, DIGEST_SIZE);
    WORLD_ACTION(body3, COMPLETE_JOB, complete_job, &complete);
    rig_build_world(rig, WORLD_TRAINER, &body3, &txs);
    Openledger__V1__PublishAdapter adapter = OPENLEDGER__V1__PUBLISH_ADAPTER__INIT;
    adapter.name = world_text("eight");
    adapter.job = claim.job;
    adapter.price_prompt = world_text("0.001");
    adapter.price_completion = world_text("0.002");
    WORLD_ACTION(body4, PUBLISH_ADAPTER, publish_adapter, &adapter);
    rig_build_world(rig, WORLD_DEV, &body4, &txs);
    Openledger__V1__PublishIndex index = OPENLEDGER__V1__PUBLISH_INDEX__INIT;
    index.adapter = world_text("eight");
    index.index = ledger_binary(SOME, DIGEST_SIZE);
    WORLD_ACTION(body5, PUBLISH_INDEX, publish_index, &index);
    rig_build_world(rig, WORLD_ATTRIBUTION, &body5, &txs);
    run(rig, &txs);
}

static void open_grant(struct rig *rig)
{
    struct signed_txs txs = {.count = 0};
    Openledger__V1__OpenGrant grant = OPENLEDGER__V1__OPEN_GRANT__INIT;
    grant.gateway = world_id_field(rig->world, WORLD_GATEWAY);
    grant.limit = world_text("100000");
    grant.expires_ms = rig->world->now_ms + 3600000;
    WORLD_ACTION(body, OPEN_GRANT, open_grant, &grant);
    rig_build_world(rig, WORLD_PAYER, &body, &txs);
    rig->world->grant = rig->world->tx;
    Openledger__V1__OpenLease lease = OPENLEDGER__V1__OPEN_LEASE__INIT;
    lease.grant = ledger_binary(rig->world->grant.bytes, DIGEST_SIZE);
    lease.lease = 1;
    lease.amount = world_text("100000");
    WORLD_ACTION(body2, OPEN_LEASE, open_lease, &lease);
    rig_build_world(rig, WORLD_GATEWAY, &body2, &txs);
    run(rig, &txs);
}

/* A signed batch of share sets: 8 unequal shares, the rest unearned. */
static struct digest publish_shares(struct rig *rig, const struct account_id *ids,
                                    const struct digest *receipts)
{
    struct buf items;
    struct buf out;
    struct bytes sets[BENCH_RECEIPTS];
    size_t ends[BENCH_RECEIPTS + 1] = {0};
    buf_init(&items, LEDGER_BATCH_BLOB_MAX);
    buf_init(&out, LEDGER_BATCH_BLOB_MAX);
    for (size_t r = 0; r < BENCH_RECEIPTS; r++) {
        Openledger__V1__Share shares[BENCH_CONTRIBUTORS];
        Openledger__V1__Share *pointers[BENCH_CONTRIBUTORS];
        uint32_t left = LEDGER_SHARE_TOTAL;
        for (uint32_t i = 0; i < BENCH_CONTRIBUTORS; i++) {
            openledger__v1__share__init(&shares[i]);
            uint32_t ppb = 50000000 + (uint32_t)(r * 7919 + i * UINT64_C(104729)) % 60000000;
            shares[i].account = ledger_binary(ids[i].bytes, ACCOUNT_ID_SIZE);
            shares[i].share_ppb = ppb;
            shares[i].influence_ppb = ppb / 3;
            shares[i].span_ppb = ppb - ppb / 3;
            left -= ppb;
            pointers[i] = &shares[i];
        }
        Openledger__V1__ShareSet set = OPENLEDGER__V1__SHARE_SET__INIT;
        set.receipt = ledger_binary(receipts[r].bytes, DIGEST_SIZE);
        set.n_shares = BENCH_CONTRIBUTORS;
        set.shares = pointers;
        set.unearned_ppb = left;
        set.index = ledger_binary(SOME, DIGEST_SIZE);
        CHECK(ledger_pack(&set.base, &items) == ERR_OK);
        ends[r + 1] = items.size;
    }
    for (size_t r = 0; r < BENCH_RECEIPTS; r++) {
        sets[r] = bytes_of(items.data + ends[r], ends[r + 1] - ends[r]);
    }
    struct ledger_head head;
    ledger_head(rig->world->ledger, &head);
    const struct ledger_share_batch batch = {.chain_id = &head.chain_id,
                                             .account = &rig->world->ids[WORLD_ATTRIBUTION],
                                             .sets = sets,
                                             .count = BENCH_RECEIPTS};
    CHECK(ledger_share_batch_sign(&batch, rig->world->keys[WORLD_ATTRIBUTION], &out) == ERR_OK);
    struct digest name;
    CHECK(blob_put(rig->blobs, buf_bytes(&out), &name, NULL) == ERR_OK);
    buf_deinit(&items);
    buf_deinit(&out);
    return name;
}

static void batches_publish(struct rig *rig, const struct account_id *ids, size_t batches,
                            struct signed_txs *txs)
{
    static struct digest receipts[BENCH_RECEIPTS];
    rig->world->adapter = "eight";
    for (size_t i = 0; i < batches; i++) {
        struct digest charged = world_receipts(rig->world, 1 + i * BENCH_RECEIPTS, BENCH_RECEIPTS,
                                               12, 40, NULL, receipts);
        struct buf *blob =
            &rig->world->blobs[--rig->world->blob_count]; /* into the store instead */
        CHECK(blob_put(rig->blobs, buf_bytes(blob), &charged, NULL) == ERR_OK);
        buf_deinit(blob);
        struct digest shared = publish_shares(rig, ids, receipts);
        Openledger__V1__SettleReceipts charge = OPENLEDGER__V1__SETTLE_RECEIPTS__INIT;
        charge.batch = ledger_binary(charged.bytes, DIGEST_SIZE);
        WORLD_ACTION(body, SETTLE_RECEIPTS, settle_receipts, &charge);
        rig_build_world(rig, WORLD_SERVICE, &body, txs);
        Openledger__V1__SettleShares share = OPENLEDGER__V1__SETTLE_SHARES__INIT;
        share.batch = ledger_binary(shared.bytes, DIGEST_SIZE);
        WORLD_ACTION(body2, SETTLE_SHARES, settle_shares, &share);
        rig_build_world(rig, WORLD_SERVICE, &body2, txs);
    }
}

/* The world's own set-up (datanet, model, bonds), which it made on its own ledger, taken over. */
static void world_take(struct rig *rig)
{
    struct signed_txs txs = {.count = 0};
    world_setup(rig->world);
    for (size_t i = 0; i < rig->world->entry_count; i++) {
        Openledger__V1__Entry *entry = NULL;
        struct settlement_result result;
        struct bytes tx = world_signed_tx(&rig->world->entries[i], &entry);
        CHECK(settlement_submit(rig->settlement, tx, rig->world->now_ms, &result, NULL) == ERR_OK);
        openledger__v1__entry__free_unpacked(entry, NULL);
    }
    run(rig, &txs);
}

void bench_receipts(struct rig *rig, size_t batches, struct receipts_result *out)
{
    struct signed_txs txs = {.count = 0};
    struct account_id ids[BENCH_CONTRIBUTORS];
    world_take(rig);
    for (uint32_t i = 0; i < BENCH_CONTRIBUTORS; i++) {
        contribute(rig, i);
        ids[i] = rig->ids[i];
    }
    qsort(ids, BENCH_CONTRIBUTORS, sizeof *ids, by_id);
    publish_version(rig, ids);
    publish_adapter(rig);
    open_grant(rig);
    uint64_t blobs = rig_size(rig, "blobs");
    batches_publish(rig, ids, batches, &txs);
    blobs = rig_size(rig, "blobs") - blobs;
    uint64_t entries = 0;
    for (size_t i = 0; i < txs.count; i++) {
        entries += txs.items[i].size;
    }
    double count = (double)(batches * BENCH_RECEIPTS);
    out->per_s = count / rig_run(rig, &txs, 8);
    out->bytes_log = (double)entries / count;
    out->bytes_blobs = (double)blobs / count;
    signed_txs_free(&txs);
}
