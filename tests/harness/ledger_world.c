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
#include "tests/harness/ledger_tape.h"

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
               "\"validityMaxMs\":\"600000\",\"others\":["
               "{\"name\":\"gas_per_byte\",\"value\":\"%s\"},"
               "{\"name\":\"gas_per_leg\",\"value\":\"%s\"},"
               "{\"name\":\"free_gas_per_block\",\"value\":\"0.01\"},"
               "{\"name\":\"unbonding_ms\",\"value\":\"60000\"},"
               "{\"name\":\"voting_delay_blocks\",\"value\":\"2\"},"
               "{\"name\":\"voting_period_blocks\",\"value\":\"3\"},"
               "{\"name\":\"timelock_ms\",\"value\":\"5000\"},"
               "{\"name\":\"proposal_grace_ms\",\"value\":\"60000\"},"
               "{\"name\":\"challenge_blocks\",\"value\":\"5\"},"
               "{\"name\":\"challenge_window_ms\",\"value\":\"100000\"}"
               "]},\"allocations\":[",
               world->deadline_blocks, world->gas ? "0.000001" : "0", world->gas ? "0.00001" : "0");
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
    return world_create_with(time_ms, deadline_blocks, false);
}

struct world *world_create_with(uint64_t time_ms, uint32_t deadline_blocks, bool gas)
{
    struct world *world = calloc(1, sizeof *world);
    CHECK(world != NULL);
    world->gas = gas;
    world->adapter = "adapter";
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
    world->tape = tape_create(buf_bytes(&world->genesis));
    return world;
}

void world_destroy(struct world *world)
{
    tape_destroy(world->tape);
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

void world_mark(const struct world *world, struct world_mark *out)
{
    *out = (struct world_mark){.entry_count = world->entry_count,
                               .blob_count = world->blob_count,
                               .now_ms = world->now_ms,
                               .nonce = world->nonce};
    buf_init(&out->snapshot, WORLD_SNAPSHOT_MAX);
    CHECK(ledger_snapshot(world->ledger, &out->snapshot) == ERR_OK);
}

void world_return(struct world *world, const struct world_mark *mark)
{
    tape_destroy(world->tape); /* it tells one history, from its beginning */
    world->tape = NULL;
    ledger_destroy(world->ledger);
    CHECK(ledger_restore(buf_bytes(&world->genesis), buf_bytes(&mark->snapshot), &world->ledger,
                         &world->note) == ERR_OK);
    while (world->entry_count > mark->entry_count) {
        buf_deinit(&world->entries[--world->entry_count]);
    }
    while (world->blob_count > mark->blob_count) {
        buf_deinit(&world->blobs[--world->blob_count]);
    }
    world->now_ms = mark->now_ms;
    world->nonce = mark->nonce;
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
    tape_blob(world->tape, bytes);
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
    tape_entry(world->tape, world->ledger, buf_bytes(entry), err);
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

ProtobufCBinaryData world_id_field(const struct world *world, enum world_who who)
{
    return ledger_binary(world->ids[who].bytes, ACCOUNT_ID_SIZE);
}

char *world_text(const char *constant)
{
    union {
        const char *in;
        char *out;
    } pointer = {.in = constant};
    return pointer.out;
}

enum err world_open(struct world *world, enum world_who who)
{
    Openledger__V1__OpenAccount open = OPENLEDGER__V1__OPEN_ACCOUNT__INIT;
    open.key = ledger_binary(key_pair_public(world->keys[who])->bytes, PUBLIC_KEY_SIZE);
    open.name = world_text("contributor");
    WORLD_ACTION(body, OPEN_ACCOUNT, open_account, &open);
    return world_try(world, who, &body);
}

enum err world_transfer(struct world *world, enum world_who from, enum world_who to,
                        const char *amount)
{
    Openledger__V1__Transfer transfer = OPENLEDGER__V1__TRANSFER__INIT;
    transfer.to = world_id_field(world, to);
    transfer.amount = world_text(amount);
    WORLD_ACTION(body, TRANSFER, transfer, &transfer);
    return world_try(world, from, &body);
}

enum err world_bond(struct world *world, enum world_who who, enum ledger_role role,
                    const char *amount)
{
    Openledger__V1__Bond bond = OPENLEDGER__V1__BOND__INIT;
    bond.role = (Openledger__V1__Role)role;
    bond.amount = world_text(amount);
    WORLD_ACTION(body, BOND, bond, &bond);
    return world_try(world, who, &body);
}

enum err world_grant(struct world *world, const char *limit)
{
    Openledger__V1__OpenGrant grant = OPENLEDGER__V1__OPEN_GRANT__INIT;
    grant.gateway = world_id_field(world, WORLD_GATEWAY);
    grant.limit = world_text(limit);
    grant.expires_ms = world->now_ms + 3600000;
    WORLD_ACTION(body, OPEN_GRANT, open_grant, &grant);
    enum err err = world_try(world, WORLD_PAYER, &body);
    if (err != ERR_OK) {
        return err;
    }
    world->grant = world->tx;
    Openledger__V1__OpenLease lease = OPENLEDGER__V1__OPEN_LEASE__INIT;
    lease.grant = ledger_binary(world->grant.bytes, DIGEST_SIZE);
    lease.lease = 1;
    lease.amount = world_text(limit);
    WORLD_ACTION(body2, OPEN_LEASE, open_lease, &lease);
    return world_try(world, WORLD_GATEWAY, &body2);
}

/* NOLINTNEXTLINE(readability-function-size): the parameters are the message */
struct digest world_receipts(struct world *world, uint64_t first, size_t count, uint32_t prompt,
                             uint32_t completion, const char *fee, struct digest *out_ids)
{
    static const uint8_t profile[DIGEST_SIZE] = {0x3d};
    struct amount price_prompt;
    struct amount price_completion;
    struct amount due;
    char due_text[AMOUNT_TEXT_SIZE];
    CHECK(amount_parse("0.001", &price_prompt) == ERR_OK);
    CHECK(amount_parse("0.002", &price_completion) == ERR_OK);
    CHECK(ledger_fee(price_prompt, price_completion, prompt, completion, &due) == ERR_OK);
    (void)amount_format(due, due_text);
    struct buf items;
    struct buf out;
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
        receipt.adapter = world_text(world->adapter);
        receipt.prompt_tokens = prompt;
        receipt.completion_tokens = completion;
        receipt.fee = world_text(fee == NULL ? due_text : fee);
        receipt.prompt_commitment = ledger_binary(profile, sizeof profile);
        receipt.answer_commitment = ledger_binary(profile, sizeof profile);
        receipt.profile = ledger_binary(profile, sizeof profile);
        receipt.opened_ms = world->now_ms;
        receipt.finished_ms = world->now_ms + 5;
        receipt.finish_reason = world_text("stop");
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
    WORLD_ACTION(body, SETTLE_RECEIPTS, settle_receipts, &settle);
    return world_try(world, WORLD_SERVICE, &body);
}

static void share_fill(struct world *world, enum world_who who, uint32_t ppb,
                       Openledger__V1__Share *out)
{
    *out = (Openledger__V1__Share)OPENLEDGER__V1__SHARE__INIT;
    out->account = world_id_field(world, who);
    out->share_ppb = ppb;
    out->influence_ppb = ppb / 3;
    out->span_ppb = ppb - ppb / 3;
}

struct digest world_shares(struct world *world, const struct digest *receipts, size_t count,
                           uint32_t alice_ppb, uint32_t bob_ppb)
{
    struct buf items;
    struct buf out;
    buf_init(&items, LEDGER_BATCH_BLOB_MAX);
    buf_init(&out, LEDGER_BATCH_BLOB_MAX);
    size_t *ends = calloc(count, sizeof *ends);
    struct bytes *sets = calloc(count, sizeof *sets);
    bool alice_first = account_id_compare(&world->ids[WORLD_ALICE], &world->ids[WORLD_BOB]) < 0;
    for (size_t i = 0; i < count; i++) {
        Openledger__V1__Share alice;
        Openledger__V1__Share bob;
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
    WORLD_ACTION(body, SETTLE_SHARES, settle_shares, &settle);
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
