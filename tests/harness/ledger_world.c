/* ledger_world.c - see ledger_world.h. */
#include "tests/harness/ledger_world.h"

#include <stdlib.h>
#include <string.h>

#include "openledger/v1/objects.pb-c.h"
#include "shared/base/base64.h"
#include "shared/base/check.h"
#include "shared/crypto/sha256.h"
#include "shared/ledger/rows.h"
#include "shared/merkle/merkle.h"

static const struct {
    const char *name, *amount, *category;
    uint64_t cliff_ms, vest_ms;
} CAST[WORLD_COUNT] = {
    [WORLD_PLATFORM] = {"platform", "300000000", "community", 0, 0},
    [WORLD_PAYER] = {"payer", "301000000", "ecosystem", 0, 0},
    [WORLD_DEV] = {"dev", "100000000", "investors", 0, 0},
    [WORLD_BASE] = {"base", "99000000", "liquidity", 0, 0},
    [WORLD_TEAM] = {"team", "100000000", "team", 1000000, 1000000},
    [WORLD_GATEWAY] = {"gateway", "10000000", "ecosystem", 0, 0},
    [WORLD_TRAINER] = {"trainer", "10000000", "ecosystem", 0, 0},
    [WORLD_ATTRIBUTION] = {"attribution", "10000000", "ecosystem", 0, 0},
    [WORLD_OWNER] = {"owner", "10000000", "ecosystem", 0, 0},
    [WORLD_SERVICE] = {"service", "60000000", "ecosystem", 0, 0},
};

static void put_base64(struct buf *out, const char *key, const uint8_t *data)
{
    buf_printf(out, "\"%s\":\"", key);
    (void)base64_encode(bytes_of(data, 32), out);
    buf_append_text(out, "\",");
}

void world_genesis(struct world *world)
{
    struct buf *out = &world->genesis;
    buf_init(out, LEDGER_GENESIS_MAX);
    buf_printf(out, "{\"chainName\":\"test-chain\",\"timeMs\":\"%llu\",",
               (unsigned long long)world->time_ms);
    put_base64(out, "sequencerKey", key_pair_public(world->sequencer)->bytes);
    put_base64(out, "platformAccount", world->ids[WORLD_PLATFORM].bytes);
    buf_printf(out,
               "\"parameters\":{\"platformBp\":1000,\"modelBp\":2000,\"stakersBp\":1000,"
               "\"contributorsBp\":6000,\"shareDeadlineBlocks\":%u,"
               "\"settlementWindowMs\":\"10000\",\"minimumBond\":\"100\","
               "\"validityMaxMs\":\"600000\"},\"allocations\":[",
               world->deadline_blocks);
    for (int i = 0; CAST[i].name != NULL; i++) {
        buf_append_text(out, i == 0 ? "{" : ",{");
        put_base64(out, "account", world->ids[i].bytes);
        put_base64(out, "key", key_pair_public(world->keys[i])->bytes);
        buf_printf(out,
                   "\"name\":\"%s\",\"amount\":\"%s\",\"category\":\"%s\",\"cliffMs\":\"%llu\","
                   "\"vestMs\":\"%llu\"}",
                   CAST[i].name, CAST[i].amount, CAST[i].category,
                   (unsigned long long)CAST[i].cliff_ms, (unsigned long long)CAST[i].vest_ms);
    }
    buf_append_text(out, "]}\n");
    CHECK(buf_err(out) == ERR_OK);
}

struct world *world_create(void)
{
    return world_create_at(WORLD_TIME_MS, 3);
}

struct world *world_create_at(uint64_t time_ms, uint32_t deadline_blocks)
{
    struct world *world = calloc(1, sizeof *world);
    CHECK(world != NULL);
    crypto_start();
    uint8_t seed[KEY_SEED_SIZE] = {0x77};
    world->sequencer = key_pair_from_seed(seed);
    for (int i = 0; i < WORLD_COUNT; i++) {
        seed[1] = (uint8_t)(i + 1);
        world->keys[i] = key_pair_from_seed(seed);
        CHECK(world->keys[i] != NULL);
        account_id_from_key(key_pair_public(world->keys[i]), &world->ids[i]);
    }
    world->time_ms = time_ms;
    world->deadline_blocks = deadline_blocks;
    world->now_ms = time_ms + 1000;
    ledger_effects_init(&world->effects);
    world_genesis(world);
    enum err err = ledger_create(buf_bytes(&world->genesis), &world->ledger, &world->note);
    CHECK(err == ERR_OK);
    return world;
}

void world_destroy(struct world *world)
{
    ledger_destroy(world->ledger);
    ledger_effects_deinit(&world->effects);
    key_pair_destroy(world->sequencer);
    for (int i = 0; i < WORLD_COUNT; i++) {
        key_pair_destroy(world->keys[i]);
    }
    for (size_t i = 0; i < world->blob_count; i++) {
        buf_deinit(&world->blobs[i]);
    }
    for (size_t i = 0; i < world->entry_count; i++) {
        buf_deinit(&world->entries[i]);
    }
    buf_deinit(&world->genesis);
    free(world);
}

static enum err blob_find(void *context, const struct digest *digest, struct buf *out)
{
    struct world *world = context;
    for (size_t i = 0; i < world->blob_count; i++) {
        if (digest_equal(&world->blob_names[i], digest)) {
            return buf_append_bytes(out, buf_bytes(&world->blobs[i]));
        }
    }
    return ERR_NOT_FOUND;
}

struct ledger_blobs world_blobs(struct world *world)
{
    return (struct ledger_blobs){.get = blob_find, .context = world};
}

struct digest world_blob(struct world *world, struct bytes bytes)
{
    CHECK(world->blob_count < WORLD_BLOBS_MAX);
    size_t i = world->blob_count++;
    buf_init(&world->blobs[i], LEDGER_BATCH_BLOB_MAX);
    CHECK(buf_append_bytes(&world->blobs[i], bytes) == ERR_OK);
    sha256(bytes, &world->blob_names[i]);
    return world->blob_names[i];
}

void world_build(struct world *world, enum world_who who, Openledger__V1__TxBody *action,
                 struct buf *out)
{
    uint8_t nonce[LEDGER_NONCE_SIZE] = {0};
    struct ledger_head head;
    ledger_head(world->ledger, &head);
    world->nonce++;
    memcpy(nonce, &world->nonce, sizeof world->nonce);
    struct ledger_tx tx =
        ledger_tx_at(&head.chain_id, &world->ids[who], world->now_ms, LEDGER_TX_VALIDITY_MS, nonce);
    CHECK(ledger_tx_build(&tx, action, world->keys[who], out, &world->tx) == ERR_OK);
}

static enum err apply_entry(struct world *world, struct buf *entry)
{
    struct ledger_blobs blobs = world_blobs(world);
    world->note = (struct note){{0}};
    enum err err =
        ledger_apply(world->ledger, buf_bytes(entry), &blobs, &world->effects, &world->note);
    if (err == ERR_OK) {
        CHECK(world->entry_count < WORLD_ENTRIES_MAX);
        world->entries[world->entry_count++] = *entry;
    } else {
        buf_deinit(entry);
    }
    return err;
}

enum err world_apply_signed(struct world *world, struct bytes signed_tx)
{
    struct buf entry;
    buf_init(&entry, LEDGER_ENTRY_MAX);
    CHECK(ledger_make_entry(world->ledger, signed_tx, world->now_ms, &entry) == ERR_OK);
    return apply_entry(world, &entry);
}

enum err world_try(struct world *world, enum world_who who, Openledger__V1__TxBody *action)
{
    struct buf signed_tx;
    buf_init(&signed_tx, LEDGER_ENTRY_MAX);
    world_build(world, who, action, &signed_tx);
    enum err err = world_apply_signed(world, buf_bytes(&signed_tx));
    buf_deinit(&signed_tx);
    return err;
}

enum err world_seal(struct world *world)
{
    struct buf entry;
    buf_init(&entry, LEDGER_ENTRY_MAX);
    CHECK(ledger_make_seal(world->ledger, world->now_ms, &entry) == ERR_OK);
    return apply_entry(world, &entry);
}

static ProtobufCBinaryData id_field(const struct world *world, enum world_who who)
{
    return ledger_binary(world->ids[who].bytes, ACCOUNT_ID_SIZE);
}

static char *text(const char *constant)
{
    union {
        const char *in;
        char *out;
    } pointer = {.in = constant};
    return pointer.out;
}

#define ACTION(body, UPPER, member, value)                                                         \
    Openledger__V1__TxBody body = OPENLEDGER__V1__TX_BODY__INIT;                                   \
    body.action_case = OPENLEDGER__V1__TX_BODY__ACTION_##UPPER;                                    \
    body.member = value

enum err world_open(struct world *world, enum world_who who)
{
    Openledger__V1__OpenAccount open = OPENLEDGER__V1__OPEN_ACCOUNT__INIT;
    open.key = ledger_binary(key_pair_public(world->keys[who])->bytes, PUBLIC_KEY_SIZE);
    open.name = text("contributor");
    ACTION(body, OPEN_ACCOUNT, open_account, &open);
    return world_try(world, who, &body);
}

enum err world_transfer(struct world *world, enum world_who from, enum world_who to,
                        const char *amount)
{
    Openledger__V1__Transfer transfer = OPENLEDGER__V1__TRANSFER__INIT;
    transfer.to = id_field(world, to);
    transfer.amount = text(amount);
    ACTION(body, TRANSFER, transfer, &transfer);
    return world_try(world, from, &body);
}

enum err world_bond(struct world *world, enum world_who who, enum ledger_role role,
                    const char *amount)
{
    Openledger__V1__Bond bond = OPENLEDGER__V1__BOND__INIT;
    bond.role = (Openledger__V1__Role)role;
    bond.amount = text(amount);
    ACTION(body, BOND, bond, &bond);
    return world_try(world, who, &body);
}

/* What the world keeps of a contribution to make a version of it. */
struct part {
    struct digest id, content;
    struct digest leaves[WORLD_ROWS_MAX];
    uint32_t rows;
};

static struct digest pack_blob(struct world *world, const ProtobufCMessage *message)
{
    struct buf bytes;
    buf_init(&bytes, 1U << 24);
    CHECK(ledger_pack(message, &bytes) == ERR_OK);
    struct digest digest = world_blob(world, buf_bytes(&bytes));
    buf_deinit(&bytes);
    return digest;
}

static void contribute(struct world *world, enum world_who who, uint32_t rows, struct part *out)
{
    static const uint8_t salt[SALT_SIZE] = {0x5a};
    Openledger__V1__Row items[WORLD_ROWS_MAX];
    Openledger__V1__Row *pointers[WORLD_ROWS_MAX];
    char texts[WORLD_ROWS_MAX][64];
    CHECK(rows <= WORLD_ROWS_MAX);
    for (uint32_t i = 0; i < rows; i++) {
        struct buf row = {.limit = 64};
        buf_printf(&row, "{\"text\":\"row %u of %d\"}", i, (int)who);
        memcpy(texts[i], row.data, row.size);
        openledger__v1__row__init(&items[i]);
        items[i].salt = ledger_binary(salt, sizeof salt);
        items[i].data = ledger_binary(texts[i], row.size);
        pointers[i] = &items[i];
        buf_deinit(&row);
    }
    Openledger__V1__Contribution content = OPENLEDGER__V1__CONTRIBUTION__INIT;
    content.datanet = text("net");
    content.contributor = id_field(world, who);
    content.licence = text("CC0-1.0");
    content.permission = OPENLEDGER__V1__PERMISSION__PERMISSION_ALLOWED;
    content.n_rows = rows;
    content.rows = pointers;
    struct digest root;
    uint64_t byte_count;
    out->rows = rows;
    CHECK(ledger_contribution_root(&content, &root, &byte_count, out->leaves, NULL) == ERR_OK);
    out->content = pack_blob(world, &content.base);
    Openledger__V1__CommitRows commit = OPENLEDGER__V1__COMMIT_ROWS__INIT;
    commit.datanet = text("net");
    commit.root = ledger_binary(root.bytes, DIGEST_SIZE);
    commit.row_count = rows;
    commit.byte_count = byte_count;
    ACTION(body, COMMIT_ROWS, commit_rows, &commit);
    CHECK(world_try(world, who, &body) == ERR_OK);
    out->id = world->tx;
    Openledger__V1__ReviewContribution review = OPENLEDGER__V1__REVIEW_CONTRIBUTION__INIT;
    review.contribution = ledger_binary(out->id.bytes, DIGEST_SIZE);
    review.accept = true;
    review.content = ledger_binary(out->content.bytes, DIGEST_SIZE);
    review.accepted_rows = rows;
    ACTION(body2, REVIEW_CONTRIBUTION, review_contribution, &review);
    CHECK(world_try(world, WORLD_OWNER, &body2) == ERR_OK);
}

/* The manifest's blob, and the version's root: all rows of both parts in order. */
static struct digest publish_manifest(struct world *world, const struct part parts[2],
                                      struct digest *out_root)
{
    uint32_t which[2 * WORLD_ROWS_MAX], row[2 * WORLD_ROWS_MAX];
    ProtobufCBinaryData ids[2], contents[2];
    struct merkle_tree tree = {0};
    struct merkle_head head;
    size_t count = 0;
    for (uint32_t p = 0; p < 2; p++) {
        ids[p] = ledger_binary(parts[p].id.bytes, DIGEST_SIZE);
        contents[p] = ledger_binary(parts[p].content.bytes, DIGEST_SIZE);
        for (uint32_t i = 0; i < parts[p].rows; i++) {
            which[count] = p;
            row[count++] = i;
            CHECK(merkle_tree_append(&tree, &parts[p].leaves[i]) == ERR_OK);
        }
    }
    merkle_tree_head(&tree, &head);
    *out_root = head.root;
    Openledger__V1__DatasetVersion manifest = OPENLEDGER__V1__DATASET_VERSION__INIT;
    manifest.datanet = text("net");
    manifest.version = 1;
    manifest.n_contribution_ids = 2;
    manifest.contribution_ids = ids;
    manifest.n_contribution_contents = 2;
    manifest.contribution_contents = contents;
    manifest.n_contribution_index = count;
    manifest.contribution_index = which;
    manifest.n_row_index = count;
    manifest.row_index = row;
    return pack_blob(world, &manifest.base);
}

static void publish_data(struct world *world, struct digest *out_root)
{
    struct part parts[2];
    Openledger__V1__CreateDatanet create = OPENLEDGER__V1__CREATE_DATANET__INIT;
    create.name = text("net");
    create.title = text("A net");
    create.licence = text("CC0-1.0");
    create.permission = OPENLEDGER__V1__PERMISSION__PERMISSION_ALLOWED;
    ACTION(body, CREATE_DATANET, create_datanet, &create);
    CHECK(world_try(world, WORLD_OWNER, &body) == ERR_OK);
    contribute(world, WORLD_ALICE, 30, &parts[0]);
    contribute(world, WORLD_BOB, 70, &parts[1]);
    struct digest manifest = publish_manifest(world, parts, out_root);
    bool alice_first = account_id_compare(&world->ids[WORLD_ALICE], &world->ids[WORLD_BOB]) < 0;
    Openledger__V1__VersionContributor items[2] = {OPENLEDGER__V1__VERSION_CONTRIBUTOR__INIT,
                                                   OPENLEDGER__V1__VERSION_CONTRIBUTOR__INIT};
    items[0].account = id_field(world, alice_first ? WORLD_ALICE : WORLD_BOB);
    items[0].row_count = alice_first ? 30 : 70;
    items[1].account = id_field(world, alice_first ? WORLD_BOB : WORLD_ALICE);
    items[1].row_count = alice_first ? 70 : 30;
    Openledger__V1__VersionContributor *pointers[2] = {&items[0], &items[1]};
    Openledger__V1__PublishVersion version = OPENLEDGER__V1__PUBLISH_VERSION__INIT;
    version.datanet = text("net");
    version.version = 1;
    version.root = ledger_binary(out_root->bytes, DIGEST_SIZE);
    version.manifest = ledger_binary(manifest.bytes, DIGEST_SIZE);
    version.row_count = 100;
    version.n_contributors = 2;
    version.contributors = pointers;
    ACTION(body2, PUBLISH_VERSION, publish_version, &version);
    CHECK(world_try(world, WORLD_OWNER, &body2) == ERR_OK);
}

static void publish_adapter(struct world *world, const struct digest *files)
{
    Openledger__V1__PublishAdapter adapter = OPENLEDGER__V1__PUBLISH_ADAPTER__INIT;
    adapter.name = text("adapter");
    adapter.job = ledger_binary(world->job.bytes, DIGEST_SIZE);
    adapter.price_prompt = text("0.001");
    adapter.price_completion = text("0.002");
    ACTION(body, PUBLISH_ADAPTER, publish_adapter, &adapter);
    CHECK(world_try(world, WORLD_DEV, &body) == ERR_OK);
    Openledger__V1__PublishIndex index = OPENLEDGER__V1__PUBLISH_INDEX__INIT;
    index.adapter = text("adapter");
    index.index = ledger_binary(files->bytes, DIGEST_SIZE);
    ACTION(body2, PUBLISH_INDEX, publish_index, &index);
    CHECK(world_try(world, WORLD_ATTRIBUTION, &body2) == ERR_OK);
}

static void publish_model(struct world *world, const struct digest *dataset_root)
{
    static const uint8_t profile[DIGEST_SIZE] = {0x3d};
    world->files = world_blob(world, bytes_of_text("files of a model, an adapter, an index"));
    Openledger__V1__RegisterModel model = OPENLEDGER__V1__REGISTER_MODEL__INIT;
    model.name = text("base");
    model.content = ledger_binary(world->files.bytes, DIGEST_SIZE);
    model.profile = ledger_binary(profile, sizeof profile);
    model.licence = text("Apache-2.0");
    ACTION(body, REGISTER_MODEL, register_model, &model);
    CHECK(world_try(world, WORLD_BASE, &body) == ERR_OK);
    Openledger__V1__TrainSettings settings = OPENLEDGER__V1__TRAIN_SETTINGS__INIT;
    settings.rank = 8;
    settings.alpha = 16;
    settings.steps = 10;
    settings.batch_rows = 4;
    settings.learning_rate_ppm = 1000;
    settings.context = 64;
    Openledger__V1__SubmitJob submit = OPENLEDGER__V1__SUBMIT_JOB__INIT;
    submit.datanet = text("net");
    submit.version = 1;
    submit.model = text("base");
    submit.settings = &settings;
    submit.fee = text("5");
    ACTION(body2, SUBMIT_JOB, submit_job, &submit);
    CHECK(world_try(world, WORLD_DEV, &body2) == ERR_OK);
    world->job = world->tx;
    Openledger__V1__ClaimJob claim = OPENLEDGER__V1__CLAIM_JOB__INIT;
    claim.job = ledger_binary(world->job.bytes, DIGEST_SIZE);
    ACTION(body3, CLAIM_JOB, claim_job, &claim);
    CHECK(world_try(world, WORLD_TRAINER, &body3) == ERR_OK);
    ProtobufCBinaryData step = ledger_binary("step", 4);
    struct digest leaf, files = world->files;
    struct merkle_head steps;
    merkle_leaf("step", 4, &leaf);
    merkle_head((struct merkle_leaves){&leaf, 1}, &steps);
    Openledger__V1__Transcript transcript = OPENLEDGER__V1__TRANSCRIPT__INIT;
    transcript.job = claim.job;
    transcript.model = model.content;
    transcript.dataset_root = ledger_binary(dataset_root->bytes, DIGEST_SIZE);
    transcript.n_steps = 1;
    transcript.steps = &step;
    struct digest transcript_blob = pack_blob(world, &transcript.base);
    Openledger__V1__CompleteJob complete = OPENLEDGER__V1__COMPLETE_JOB__INIT;
    complete.job = claim.job;
    complete.transcript_root = ledger_binary(steps.root.bytes, DIGEST_SIZE);
    complete.transcript = ledger_binary(transcript_blob.bytes, DIGEST_SIZE);
    complete.adapter = ledger_binary(files.bytes, DIGEST_SIZE);
    ACTION(body4, COMPLETE_JOB, complete_job, &complete);
    CHECK(world_try(world, WORLD_TRAINER, &body4) == ERR_OK);
    publish_adapter(world, &files);
}

void world_setup(struct world *world)
{
    struct digest dataset_root;
    CHECK(world_open(world, WORLD_ALICE) == ERR_OK);
    CHECK(world_open(world, WORLD_BOB) == ERR_OK);
    CHECK(world_bond(world, WORLD_TRAINER, LEDGER_ROLE_TRAINER, "1000") == ERR_OK);
    CHECK(world_bond(world, WORLD_ATTRIBUTION, LEDGER_ROLE_ATTRIBUTION, "2000") == ERR_OK);
    publish_data(world, &dataset_root);
    publish_model(world, &dataset_root);
}

enum err world_grant(struct world *world, const char *limit)
{
    Openledger__V1__OpenGrant grant = OPENLEDGER__V1__OPEN_GRANT__INIT;
    grant.gateway = id_field(world, WORLD_GATEWAY);
    grant.limit = text(limit);
    grant.expires_ms = world->now_ms + 3600000;
    ACTION(body, OPEN_GRANT, open_grant, &grant);
    enum err err = world_try(world, WORLD_PAYER, &body);
    if (err != ERR_OK) {
        return err;
    }
    world->grant = world->tx;
    Openledger__V1__OpenLease lease = OPENLEDGER__V1__OPEN_LEASE__INIT;
    lease.grant = ledger_binary(world->grant.bytes, DIGEST_SIZE);
    lease.lease = 1;
    lease.amount = text(limit);
    ACTION(body2, OPEN_LEASE, open_lease, &lease);
    return world_try(world, WORLD_GATEWAY, &body2);
}

struct digest world_receipts(struct world *world, uint64_t first, size_t count, uint32_t prompt,
                             uint32_t completion, const char *fee, struct digest *out_ids)
{
    static const uint8_t profile[DIGEST_SIZE] = {0x3d};
    struct amount price_prompt, price_completion, due;
    char due_text[AMOUNT_TEXT_SIZE];
    CHECK(amount_parse("0.001", &price_prompt) == ERR_OK);
    CHECK(amount_parse("0.002", &price_completion) == ERR_OK);
    CHECK(ledger_fee(price_prompt, price_completion, prompt, completion, &due) == ERR_OK);
    (void)amount_format(due, due_text);
    struct buf items, out;
    buf_init(&items, LEDGER_BATCH_BLOB_MAX);
    buf_init(&out, LEDGER_BATCH_BLOB_MAX);
    size_t *ends = calloc(count, sizeof *ends);
    struct bytes *receipts = calloc(count, sizeof *receipts);
    for (size_t i = 0; i < count; i++) {
        uint8_t request[16] = {0};
        memcpy(request, &(uint64_t){first + i}, 8);
        Openledger__V1__Receipt receipt = OPENLEDGER__V1__RECEIPT__INIT;
        receipt.grant = ledger_binary(world->grant.bytes, DIGEST_SIZE);
        receipt.lease = 1;
        receipt.number = first + i;
        receipt.request_id = ledger_binary(request, sizeof request);
        receipt.kind = OPENLEDGER__V1__RECEIPT_KIND__RECEIPT_KIND_CHARGE;
        receipt.adapter = text("adapter");
        receipt.prompt_tokens = prompt;
        receipt.completion_tokens = completion;
        receipt.fee = text(fee == NULL ? due_text : fee);
        receipt.prompt_commitment = ledger_binary(profile, sizeof profile);
        receipt.answer_commitment = ledger_binary(profile, sizeof profile);
        receipt.profile = ledger_binary(profile, sizeof profile);
        receipt.opened_ms = world->now_ms;
        receipt.finished_ms = world->now_ms + 5;
        receipt.finish_reason = text("stop");
        CHECK(ledger_pack(&receipt.base, &items) == ERR_OK);
        ends[i] = items.size;
    }
    for (size_t i = 0; i < count; i++) {
        size_t begin = i == 0 ? 0 : ends[i - 1];
        receipts[i] = bytes_of(items.data + begin, ends[i] - begin);
        if (out_ids != NULL) {
            ledger_receipt_id(receipts[i], &out_ids[i]);
        }
    }
    struct ledger_head head;
    ledger_head(world->ledger, &head);
    const struct ledger_receipt_batch batch = {.chain_id = &head.chain_id,
                                               .gateway = &world->ids[WORLD_GATEWAY],
                                               .grant = &world->grant,
                                               .lease = 1,
                                               .first_number = first,
                                               .receipts = receipts,
                                               .count = count};
    CHECK(ledger_receipt_batch_sign(&batch, world->keys[WORLD_GATEWAY], &out) == ERR_OK);
    struct digest digest = world_blob(world, buf_bytes(&out));
    buf_deinit(&out);
    buf_deinit(&items);
    free(ends);
    free(receipts);
    return digest;
}

enum err world_settle_receipts(struct world *world, const struct digest *batch)
{
    Openledger__V1__SettleReceipts settle = OPENLEDGER__V1__SETTLE_RECEIPTS__INIT;
    settle.batch = ledger_binary(batch->bytes, DIGEST_SIZE);
    ACTION(body, SETTLE_RECEIPTS, settle_receipts, &settle);
    return world_try(world, WORLD_SERVICE, &body);
}

static void share_fill(struct world *world, enum world_who who, uint32_t ppb,
                       Openledger__V1__Share *out)
{
    *out = (Openledger__V1__Share)OPENLEDGER__V1__SHARE__INIT;
    out->account = id_field(world, who);
    out->share_ppb = ppb;
    out->influence_ppb = ppb / 3;
    out->span_ppb = ppb - ppb / 3;
}

struct digest world_shares(struct world *world, const struct digest *receipts, size_t count,
                           uint32_t alice_ppb, uint32_t bob_ppb)
{
    struct buf items, out;
    buf_init(&items, LEDGER_BATCH_BLOB_MAX);
    buf_init(&out, LEDGER_BATCH_BLOB_MAX);
    size_t *ends = calloc(count, sizeof *ends);
    struct bytes *sets = calloc(count, sizeof *sets);
    bool alice_first = account_id_compare(&world->ids[WORLD_ALICE], &world->ids[WORLD_BOB]) < 0;
    for (size_t i = 0; i < count; i++) {
        Openledger__V1__Share alice, bob;
        share_fill(world, WORLD_ALICE, alice_ppb, &alice);
        share_fill(world, WORLD_BOB, bob_ppb, &bob);
        Openledger__V1__Share *pointers[2];
        size_t n = 0;
        if (alice_first && alice_ppb > 0) {
            pointers[n++] = &alice;
        }
        if (bob_ppb > 0) {
            pointers[n++] = &bob;
        }
        if (!alice_first && alice_ppb > 0) {
            pointers[n++] = &alice;
        }
        Openledger__V1__ShareSet set = OPENLEDGER__V1__SHARE_SET__INIT;
        set.receipt = ledger_binary(receipts[i].bytes, DIGEST_SIZE);
        set.n_shares = n;
        set.shares = pointers;
        set.unearned_ppb = LEDGER_SHARE_TOTAL - alice_ppb - bob_ppb;
        set.index = ledger_binary(world->files.bytes, DIGEST_SIZE);
        CHECK(ledger_pack(&set.base, &items) == ERR_OK);
        ends[i] = items.size;
    }
    for (size_t i = 0; i < count; i++) {
        size_t begin = i == 0 ? 0 : ends[i - 1];
        sets[i] = bytes_of(items.data + begin, ends[i] - begin);
    }
    struct ledger_head head;
    ledger_head(world->ledger, &head);
    const struct ledger_share_batch batch = {.chain_id = &head.chain_id,
                                             .account = &world->ids[WORLD_ATTRIBUTION],
                                             .sets = sets,
                                             .count = count};
    CHECK(ledger_share_batch_sign(&batch, world->keys[WORLD_ATTRIBUTION], &out) == ERR_OK);
    struct digest digest = world_blob(world, buf_bytes(&out));
    buf_deinit(&out);
    buf_deinit(&items);
    free(ends);
    free(sets);
    return digest;
}

enum err world_settle_shares(struct world *world, const struct digest *batch)
{
    Openledger__V1__SettleShares settle = OPENLEDGER__V1__SETTLE_SHARES__INIT;
    settle.batch = ledger_binary(batch->bytes, DIGEST_SIZE);
    ACTION(body, SETTLE_SHARES, settle_shares, &settle);
    return world_try(world, WORLD_SERVICE, &body);
}

const char *world_balance(struct world *world, const struct account_id *id,
                          char out[AMOUNT_TEXT_SIZE])
{
    const struct ledger_account *account = ledger_account(world->ledger, id);
    return amount_format(account == NULL ? AMOUNT_ZERO : account->balance, out);
}

struct bytes world_signed_tx(const struct buf *entry, Openledger__V1__Entry **out_decoded)
{
    *out_decoded = openledger__v1__entry__unpack(NULL, entry->size, entry->data);
    CHECK(*out_decoded != NULL);
    return (*out_decoded)->content_case == OPENLEDGER__V1__ENTRY__CONTENT_SIGNED_TX
               ? ledger_bytes((*out_decoded)->signed_tx)
               : (struct bytes){0};
}
