/* test_ledger.c - the ledger's rules: genesis, each kind of transaction good and bad, settlement,
 * replay, proofs and snapshots. Money that appears or vanishes aborts inside the ledger. */
#include "shared/ledger/ledger.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "shared/ledger/proof.h"
#include "shared/ledger/stake.h"
#include "shared/merkle/merkle.h"
#include "tests/harness/ledger_world.h"
#include "tests/harness/seed.h"

static struct world *world;

static void setup(void)
{
    world = world_create();
}

static void teardown(void)
{
    world_destroy(world);
}

static void refused(enum err err, enum err expected, const char *words)
{
    ck_assert_msg(err == expected, "%s: %s", err_name(err), world->note.text);
    ck_assert_msg(strstr(world->note.text, words) != NULL, "note: %s", world->note.text);
}

static void accepted(enum err err)
{
    ck_assert_msg(err == ERR_OK, "%s: %s", err_name(err), world->note.text);
}

static void balance_is(const struct account_id *id, const char *expected)
{
    char text[AMOUNT_TEXT_SIZE];
    ck_assert_str_eq(world_balance(world, id, text), expected);
}

START_TEST(test_genesis)
{
    struct ledger *ledger = NULL;
    struct note note;
    ck_assert(amount_equal(ledger_supply(world->ledger), amount_from_open(1000000000)));
    static const struct {
        const char *from, *to, *words;
    } BAD[] = {
        {"\"300000000\"", "\"300000001\"", "sum to"},
        {"\"300000000\"", "\"0300000000\"", "canonical"},
        {"\"community\"", "\"team\"", "not above 60"},
        {"\"community\"", "\"friends\"", "unknown"},
        {"\"platformBp\":1000", "\"platformBp\":1001", "fee parts"},
        {"\"minimumBond\":\"100\"", "\"minimumBond\":\"0\"", "minimum_bond"},
        {"\"test-chain\"", "\"Test\"", "chainName"},
        {"\"chainName\"", "\"chainNames\"", "genesis"},
    };
    for (size_t i = 0; i < sizeof BAD / sizeof BAD[0]; i++) {
        struct buf copy;
        buf_init(&copy, LEDGER_GENESIS_MAX);
        const char *whole = buf_text(&world->genesis);
        const char *at = strstr(whole, BAD[i].from);
        ck_assert_ptr_nonnull(at);
        buf_append(&copy, whole, (size_t)(at - whole));
        buf_append_text(&copy, BAD[i].to);
        buf_append_text(&copy, at + strlen(BAD[i].from));
        ck_assert(ledger_create(buf_bytes(&copy), &ledger, &note) != ERR_OK);
        ck_assert_msg(strstr(note.text, BAD[i].words) != NULL, "note: %s", note.text);
        buf_deinit(&copy);
    }
    ck_assert_ptr_null(ledger);
}
END_TEST

START_TEST(test_transfer)
{
    accepted(world_transfer(world, WORLD_PAYER, WORLD_ALICE, "12.5"));
    balance_is(&world->ids[WORLD_ALICE], "12.5");
    ck_assert_uint_eq(world->effects.leg_count, 2);
    refused(world_transfer(world, WORLD_PAYER, WORLD_ALICE, "301000000"), ERR_FUNDS, "can spend");
    refused(world_transfer(world, WORLD_PAYER, WORLD_ALICE, "1.50"), ERR_INVALID, "canonical");
    refused(world_transfer(world, WORLD_PAYER, WORLD_ALICE, "0"), ERR_INVALID, "is 0");
    refused(world_transfer(world, WORLD_PAYER, WORLD_PAYER, "1"), ERR_INVALID, "oneself");
    refused(world_transfer(world, WORLD_ALICE, WORLD_BOB, "1"), ERR_DENIED, "not a current key");
    accepted(world_open(world, WORLD_ALICE));
    refused(world_open(world, WORLD_ALICE), ERR_CONFLICT, "open already");
    accepted(world_transfer(world, WORLD_ALICE, WORLD_BOB, "12.5"));
    balance_is(&world->ids[WORLD_ALICE], "0");
    (void)ledger_supply(world->ledger);
}
END_TEST

START_TEST(test_envelope)
{
    struct buf signed_tx;
    buf_init(&signed_tx, LEDGER_ENTRY_MAX);
    Openledger__V1__Transfer transfer = OPENLEDGER__V1__TRANSFER__INIT;
    char amount[] = "1";
    transfer.to = ledger_binary(world->ids[WORLD_BOB].bytes, ACCOUNT_ID_SIZE);
    transfer.amount = amount;
    Openledger__V1__TxBody body = OPENLEDGER__V1__TX_BODY__INIT;
    body.action_case = OPENLEDGER__V1__TX_BODY__ACTION_TRANSFER;
    body.transfer = &transfer;
    world_build(world, WORLD_PAYER, &body, &signed_tx);
    struct digest root;
    struct digest again;
    ledger_state_root(world->ledger, &root);
    for (size_t i = 0; i < signed_tx.size; i++) { /* any flipped bit is refused, nothing changes */
        signed_tx.data[i] ^= (uint8_t)(1U << (test_rand() % 8));
        ck_assert(world_apply_signed(world, buf_bytes(&signed_tx)) != ERR_OK);
        signed_tx.data[i] = 0;
        buf_clear(&signed_tx);
        world->nonce = 0;
        world_build(world, WORLD_PAYER, &body, &signed_tx);
    }
    ledger_state_root(world->ledger, &again);
    ck_assert(digest_equal(&root, &again));
    accepted(world_apply_signed(world, buf_bytes(&signed_tx)));
    refused(world_apply_signed(world, buf_bytes(&signed_tx)), ERR_CONFLICT, "already");
    buf_append_byte(&signed_tx, 0x18); /* an unknown field behind a valid transaction */
    buf_append_byte(&signed_tx, 0x01);
    refused(world_apply_signed(world, buf_bytes(&signed_tx)), ERR_INVALID, "canonical");
    buf_clear(&signed_tx);
    world_build(world, WORLD_PAYER, &body, &signed_tx);
    world->now_ms += LEDGER_TX_VALIDITY_MS;
    refused(world_apply_signed(world, buf_bytes(&signed_tx)), ERR_RANGE, "valid from");
    world->now_ms -= LEDGER_TX_VALIDITY_MS;
    accepted(world_apply_signed(world, buf_bytes(&signed_tx)));
    /* Replayed after its id was forgotten: the interval is over by then. */
    world->now_ms += LEDGER_TX_VALIDITY_MS;
    accepted(world_seal(world));
    refused(world_apply_signed(world, buf_bytes(&signed_tx)), ERR_RANGE, "valid from");
    buf_deinit(&signed_tx);
}
END_TEST

START_TEST(test_entry_order)
{
    accepted(world_transfer(world, WORLD_PAYER, WORLD_BOB, "1"));
    accepted(world_seal(world));
    struct ledger_blobs blobs = world_blobs(world);
    struct note note;
    for (size_t i = 0; i < world->entry_count; i++) { /* an old entry does not fit again */
        ck_assert_int_eq(ledger_apply(world->ledger, buf_bytes(&world->entries[i]), &blobs,
                                      &world->effects, &note),
                         ERR_INVALID);
    }
    world->now_ms = LEDGER_TIME_MS_MAX + 1;
    refused(world_seal(world), ERR_INVALID, "at most 253402300799999");
    world->now_ms = LEDGER_TIME_MS_MAX;
    accepted(world_seal(world));
    struct buf entry;
    buf_init(&entry, LEDGER_ENTRY_MAX);
    accepted(ledger_make_seal(world->ledger, 0, &entry)); /* time is raised, not turned back */
    ck_assert_int_eq(ledger_apply(world->ledger, buf_bytes(&entry), &blobs, &world->effects, &note),
                     ERR_OK);
    buf_deinit(&entry);
}
END_TEST

START_TEST(test_settlement)
{
    struct digest ids[4];
    struct account_id treasury;
    struct account_id pool;
    world_setup(world);
    accepted(world_grant(world, "10"));
    balance_is(&world->ids[WORLD_PAYER], "300999990");
    struct digest batch = world_receipts(world, 1, 4, 100, 50, NULL, ids); /* 0.2 OPEN each */
    struct digest before;
    struct digest after;
    ledger_state_root(world->ledger, &before);
    struct digest late = world_receipts(world, 2, 1, 1, 1, NULL, NULL);
    refused(world_settle_receipts(world, &late), ERR_CONFLICT, "1 is next");
    struct digest dear = world_receipts(world, 1, 1, 100, 50, "0.3", NULL);
    refused(world_settle_receipts(world, &dear), ERR_INVALID, "by the adapter's prices it is 0.2");
    struct digest much = world_receipts(world, 1, 1, 100000, 100000, NULL, NULL);
    refused(world_settle_receipts(world, &much), ERR_FUNDS, "lease of 10 OPEN");
    struct digest none = {{9}};
    refused(world_settle_receipts(world, &none), ERR_NOT_FOUND, "cannot be read");
    struct digest early = world_shares(world, ids, 4, 1, 1);
    refused(world_settle_shares(world, &early), ERR_NOT_FOUND, "not settled yet");
    ledger_state_root(world->ledger, &after);
    ck_assert(digest_equal(&before, &after));

    accepted(world_settle_receipts(world, &batch));
    refused(world_settle_receipts(world, &batch), ERR_CONFLICT, "5 is next");
    balance_is(&world->ids[WORLD_PLATFORM], "300000000.08");
    balance_is(&world->ids[WORLD_DEV], "99999995.08"); /* paid 5 for the job, earned half of 0.16 */
    balance_is(&world->ids[WORLD_BASE], "99000000.08");
    ledger_stakers_pool_id(&pool);
    balance_is(&pool, "0.08"); /* for the stakers, when they claim or change their stake */
    char rewards[AMOUNT_TEXT_SIZE];
    ck_assert_str_eq(
        amount_format(ledger_rewards(world->ledger, &world->ids[WORLD_TRAINER]), rewards),
        "0.026666666666666666");
    ck_assert_str_eq(
        amount_format(ledger_rewards(world->ledger, &world->ids[WORLD_ATTRIBUTION]), rewards),
        "0.053333333333333332");
    ck_assert(ledger_receipt(world->ledger, &ids[0])->waiting);

    struct digest shares = world_shares(world, ids, 3, 250000000, 500000000);
    accepted(world_settle_shares(world, &shares));
    refused(world_settle_shares(world, &shares), ERR_CONFLICT, "has its shares");
    balance_is(&world->ids[WORLD_ALICE], "0.09"); /* 3 receipts, 0.12 each, a quarter */
    balance_is(&world->ids[WORLD_BOB], "0.18");
    ledger_treasury_id("net", &treasury);
    balance_is(&treasury, "0.09");
    ck_assert(!ledger_receipt(world->ledger, &ids[0])->waiting);
    ck_assert(ledger_receipt(world->ledger, &ids[3])->waiting);
    /* The fourth finds no shares until the deadline: three blocks. */
    uint64_t deadline = ledger_next_deadline(world->ledger);
    ck_assert_uint_eq(deadline, 4);
    for (int i = 0; i < 4; i++) {
        balance_is(&treasury, "0.09");
        accepted(world_seal(world));
    }
    balance_is(&treasury, "0.21");
    ck_assert_uint_eq(ledger_next_deadline(world->ledger), 0);
    refused(world_settle_shares(world, &early), ERR_CONFLICT, "too late");
    (void)ledger_supply(world->ledger);
}
END_TEST

START_TEST(test_batches_are_signed)
{
    struct digest ids[2];
    struct account_id stranger = world->ids[WORLD_BOB];
    world_setup(world);
    accepted(world_grant(world, "10"));
    (void)world_receipts(world, 1, 2, 10, 10, NULL, ids);
    struct buf *blob = &world->blobs[world->blob_count - 1];
    struct note note;
    struct ledger_head head;
    ledger_head(world->ledger, &head);
    for (int run = 0; run < 300; run++) { /* no changed byte of a batch verifies */
        size_t at = test_rand() % blob->size;
        uint8_t was = blob->data[at];
        Openledger__V1__ReceiptBatch *decoded = NULL;
        blob->data[at] ^= (uint8_t)(1U << (test_rand() % 8));
        ck_assert(ledger_receipt_batch_verify(buf_bytes(blob), &head.chain_id, &decoded, &note) !=
                  ERR_OK);
        blob->data[at] = was;
    }
    /* A blob store that gives a valid batch under another name. */
    struct digest name = {{0x99}};
    world->blob_names[world->blob_count - 1] = name;
    refused(world_settle_receipts(world, &name), ERR_CORRUPT, "another digest");
    /* A whole, well-formed batch by another key than the gateway's. */
    struct key_pair *gateway = world->keys[WORLD_GATEWAY];
    struct key_pair *attribution = world->keys[WORLD_ATTRIBUTION];
    world->keys[WORLD_GATEWAY] = world->keys[WORLD_BOB];
    struct digest forged = world_receipts(world, 1, 1, 10, 10, NULL, NULL);
    world->keys[WORLD_GATEWAY] = gateway;
    refused(world_settle_receipts(world, &forged), ERR_DENIED, "not signed by the grant's gateway");
    struct digest good = world_receipts(world, 1, 2, 10, 10, NULL, ids);
    accepted(world_settle_receipts(world, &good));
    world->keys[WORLD_ATTRIBUTION] = world->keys[WORLD_BOB];
    world->ids[WORLD_ATTRIBUTION] = stranger;
    forged = world_shares(world, ids, 2, 1, 1);
    world->keys[WORLD_ATTRIBUTION] = attribution;
    refused(world_settle_shares(world, &forged), ERR_DENIED, "bonded as attribution");
}
END_TEST

/* Random transactions, most of them nonsense: supply and roots always hold, refusals change nothing,
 * and a replay of what was accepted comes to the same roots. */
START_TEST(test_random_and_replay)
{
    struct digest ids[8];
    struct digest root;
    struct digest slow;
    struct digest before;
    uint64_t next = 1;
    world_setup(world);
    accepted(world_grant(world, "1000"));
    char amount[AMOUNT_TEXT_SIZE];
    for (int run = 0; run < 400; run++) {
        ledger_state_root(world->ledger, &before);
        enum world_who from = (enum world_who)(test_rand() % WORLD_COUNT);
        enum world_who to = (enum world_who)(test_rand() % WORLD_COUNT);
        (void)amount_format((struct amount){test_rand() % 4, test_rand()}, amount);
        enum err err = ERR_OK;
        struct digest batch;
        switch (test_rand() % 6) {
        case 0:
            err = world_transfer(world, from, to, amount);
            break;
        case 1:
            err = world_bond(world, from, LEDGER_ROLE_VALIDATOR, amount);
            break;
        case 2:
            err = world_seal(world);
            break;
        case 3:
            err = world_open(world, from);
            break;
        case 4:
            batch = world_receipts(world, next, 2, (uint32_t)(test_rand() % 100),
                                   (uint32_t)(test_rand() % 100), NULL, ids);
            err = world_settle_receipts(world, &batch);
            next += err == ERR_OK ? 2 : 0;
            break;
        case 5:
            if (next > 1) {
                batch = world_shares(world, ids, 2, (uint32_t)(test_rand() % 500000000),
                                     (uint32_t)(test_rand() % 500000000));
                err = world_settle_shares(world, &batch);
            }
            break;
        }
        world->now_ms += test_rand() % 2000;
        ledger_state_root(world->ledger, &root);
        ck_assert(err == ERR_OK || digest_equal(&root, &before));
        (void)ledger_supply(world->ledger);
        if (run % 50 == 0) {
            ledger_state_root_slow(world->ledger, &slow);
            ck_assert(digest_equal(&root, &slow));
        }
    }
    ck_assert_uint_gt(next, 10);
    struct ledger *replay = NULL;
    struct ledger_blobs blobs = world_blobs(world);
    struct ledger_head head;
    struct ledger_head replayed;
    struct note note;
    accepted(ledger_create(buf_bytes(&world->genesis), &replay, &note));
    for (size_t i = 0; i < world->entry_count; i++) {
        accepted(
            ledger_apply(replay, buf_bytes(&world->entries[i]), &blobs, &world->effects, &note));
    }
    ledger_state_root(replay, &slow);
    ck_assert(digest_equal(&root, &slow));
    ledger_head(world->ledger, &head);
    ledger_head(replay, &replayed);
    ck_assert(memcmp(&head, &replayed, sizeof head) == 0);
    ledger_destroy(replay);
}
END_TEST

START_TEST(test_snapshot)
{
    struct digest ids[4];
    struct buf snapshot;
    struct ledger *copy = NULL;
    struct note note;
    buf_init(&snapshot, 1U << 24);
    world_setup(world);
    accepted(world_grant(world, "10"));
    struct digest batch = world_receipts(world, 1, 4, 100, 50, NULL, ids);
    accepted(world_settle_receipts(world, &batch));
    ck_assert_int_eq(ledger_snapshot(world->ledger, &snapshot), ERR_CONFLICT);
    accepted(world_seal(world));
    accepted(ledger_snapshot(world->ledger, &snapshot));
    accepted(ledger_restore(buf_bytes(&world->genesis), buf_bytes(&snapshot), &copy, &note));
    /* Both go on alike: shares, expiry of ids, deadlines. */
    struct ledger *original = world->ledger;
    struct digest shares = world_shares(world, ids, 2, 1000, 0);
    struct ledger_blobs blobs = world_blobs(world);
    accepted(world_settle_shares(world, &shares));
    for (int i = 0; i < 5; i++) {
        world->now_ms += 400000;
        accepted(world_seal(world));
    }
    for (size_t i = world->entry_count - 6; i < world->entry_count; i++) {
        accepted(ledger_apply(copy, buf_bytes(&world->entries[i]), &blobs, &world->effects, &note));
    }
    struct ledger_head a;
    struct ledger_head b;
    ledger_head(original, &a);
    ledger_head(copy, &b);
    ck_assert(memcmp(&a, &b, sizeof a) == 0);
    ledger_destroy(copy);
    for (int run = 0; run < 200; run++) { /* a damaged snapshot never loads */
        size_t at = test_rand() % snapshot.size;
        uint8_t bit = (uint8_t)(1U << (test_rand() % 8));
        if (at >= 175 && at < 175 + 33 * 32) {
            continue; /* unused edge hashes of the headers' tree */
        }
        snapshot.data[at] ^= bit;
        copy = NULL;
        enum err err =
            ledger_restore(buf_bytes(&world->genesis), buf_bytes(&snapshot), &copy, &note);
        if (err == ERR_OK) { /* the head's numbers are checked against the log by whoever loads */
            ck_assert_uint_lt(at, 175);
        }
        ledger_destroy(copy);
        snapshot.data[at] ^= bit;
    }
    buf_deinit(&snapshot);
}
END_TEST

START_TEST(test_proofs)
{
    struct digest leaves[8];
    struct digest postings[16];
    struct digest header_leaves[3];
    struct buf header;
    struct buf posting;
    struct buf checkpoint;
    struct buf proof;
    struct note note;
    buf_init(&header, 4096);
    buf_init(&posting, 4096);
    buf_init(&checkpoint, 4096);
    buf_init(&proof, 65536);
    size_t posting_count = 0;
    for (int i = 0; i < 3; i++) {
        accepted(world_transfer(world, WORLD_PAYER, WORLD_BOB, "1.25"));
        for (size_t k = 0; k < world->effects.leg_count; k++) {
            buf_clear(&posting);
            accepted(ledger_posting_encode(world->effects.index, (uint32_t)k,
                                           &world->effects.legs[k], &posting));
            merkle_leaf(posting.data, posting.size, &postings[posting_count++]);
        }
    }
    accepted(world_seal(world));
    for (size_t i = 0; i < world->entry_count; i++) {
        merkle_leaf(world->entries[i].data, world->entries[i].size, &leaves[i]);
    }
    buf_append_bytes(&header, buf_bytes(&world->effects.header));
    merkle_leaf(header.data, header.size, &header_leaves[0]);
    for (int i = 1; i < 3; i++) {
        accepted(world_seal(world));
        merkle_leaf(world->effects.header.data, world->effects.header.size, &header_leaves[i]);
    }
    struct ledger_head head;
    ledger_head(world->ledger, &head);
    accepted(ledger_checkpoint_sign(&head.chain_id, head.height, &head.headers_root,
                                    world->sequencer, &checkpoint));
    struct ledger_trust trust;
    struct merkle_proof header_path;
    ledger_trust(world->ledger, &trust);
    accepted(merkle_prove((struct merkle_leaves){header_leaves, 3}, 0, &header_path));
    struct ledger_proof_parts parts = {.leaf = buf_bytes(&posting),
                                       .posting = true,
                                       .leaves = postings,
                                       .leaf_count = posting_count,
                                       .leaf_index = posting_count - 1,
                                       .header = buf_bytes(&header),
                                       .header_path = &header_path,
                                       .checkpoint = buf_bytes(&checkpoint)};
    struct ledger_proof_claim claim;
    accepted(ledger_proof_make(&parts, &proof, &note));
    enum err err = ledger_proof_verify(buf_bytes(&proof), &trust, &claim, &note);
    ck_assert_msg(err == ERR_OK, "%s", note.text);
    ck_assert(claim.posting && claim.credit && claim.height == 1 && claim.checkpoint.height == 3 &&
              claim.checkpoint.final);
    ck_assert(account_id_equal(&claim.account, &world->ids[WORLD_BOB]));
    for (size_t i = 0; i < proof.size; i++) { /* every byte counts */
        proof.data[i] ^= (uint8_t)(1U << (test_rand() % 8));
        err = ledger_proof_verify(buf_bytes(&proof), &trust, &claim, &note);
        ck_assert_msg(err != ERR_OK, "byte %zu of %zu", i, proof.size);
        buf_clear(&proof);
        accepted(ledger_proof_make(&parts, &proof, &note));
    }
    parts.leaf = buf_bytes(&world->entries[2]);
    parts.posting = false;
    parts.leaves = leaves;
    parts.leaf_count = 4;
    parts.leaf_index = 2;
    buf_clear(&proof);
    accepted(ledger_proof_make(&parts, &proof, &note));
    accepted(ledger_proof_verify(buf_bytes(&proof), &trust, &claim, &note));
    ck_assert(claim.index == 3 && !digest_is_zero(&claim.tx));
    trust.sequencer = *key_pair_public(world->keys[WORLD_BOB]);
    ck_assert_int_eq(ledger_proof_verify(buf_bytes(&proof), &trust, &claim, &note), ERR_DENIED);
    buf_deinit(&header);
    buf_deinit(&posting);
    buf_deinit(&checkpoint);
    buf_deinit(&proof);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("ledger");
    TCase *rules = tcase_create("rules");
    tcase_add_checked_fixture(rules, setup, teardown);
    tcase_set_timeout(rules, 60);
    tcase_add_test(rules, test_genesis);
    tcase_add_test(rules, test_transfer);
    tcase_add_test(rules, test_envelope);
    tcase_add_test(rules, test_entry_order);
    tcase_add_test(rules, test_settlement);
    tcase_add_test(rules, test_batches_are_signed);
    tcase_add_test(rules, test_random_and_replay);
    tcase_add_test(rules, test_snapshot);
    tcase_add_test(rules, test_proofs);
    suite_add_tcase(suite, rules);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed_count = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed_count == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
