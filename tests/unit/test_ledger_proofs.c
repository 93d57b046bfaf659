/* test_ledger_proofs.c - proofs of accounts, cosigned checkpoints, proof files: what a light client sees. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "shared/base/check.h"
#include "shared/crypto/signed_note.h"
#include "shared/ledger/account_proof.h"
#include "shared/ledger/postings.h"
#include "shared/ledger/tx.h"
#include "tests/harness/ledger_world.h"
#include "tests/harness/seed.h"

static struct world *world;
static struct note note;
static struct ledger_trust trust;
static struct buf header, checkpoint, path, proof;

static void accepted(enum err err)
{
    ck_assert_msg(err == ERR_OK, "%s: %s", err_name(err), note.text);
}

static void setup(void)
{
    world = world_create();
    ledger_trust(world->ledger, &trust);
    buf_init(&header, 4096);
    buf_init(&checkpoint, SIGNED_NOTE_MAX);
    buf_init(&path, 1U << 20);
    buf_init(&proof, 1U << 20);
}

static void teardown(void)
{
    buf_deinit(&header);
    buf_deinit(&checkpoint);
    buf_deinit(&path);
    buf_deinit(&proof);
    world_destroy(world);
}

/* Seals, and signs the log of this one header. */
static void seal(void)
{
    struct ledger_head head;
    accepted(world_seal(world));
    buf_clear(&header);
    buf_append_bytes(&header, buf_bytes(&world->effects.header));
    ledger_head(world->ledger, &head);
    ck_assert_uint_eq(head.height, 1);
    accepted(ledger_checkpoint_sign(&head.chain_id, 1, &head.headers_root, world->sequencer,
                                    &checkpoint));
}

static void prove(const struct account_id *id)
{
    const struct merkle_proof place = {.leaf_index = 0};
    buf_clear(&path);
    buf_clear(&proof);
    accepted(ledger_account_path(world->ledger, id, &path, &note));
    accepted(ledger_account_proof_make(buf_bytes(&path), buf_bytes(&header), &place,
                                       buf_bytes(&checkpoint), &proof, &note));
}

START_TEST(test_accounts)
{
    struct ledger_account_claim claim;
    accepted(world_transfer(world, WORLD_PAYER, WORLD_BOB, "12.5"));
    ck_assert_int_eq(ledger_account_path(world->ledger, &world->ids[WORLD_BOB], &path, &note),
                     ERR_UNAVAILABLE);
    seal();
    for (int who = 0; who < WORLD_COUNT; who++) { /* every account that there is */
        const struct ledger_account *account = ledger_account(world->ledger, &world->ids[who]);
        prove(&world->ids[who]);
        accepted(ledger_account_proof_verify(buf_bytes(&proof), &trust, &claim, &note));
        ck_assert(claim.exists == (account != NULL));
        ck_assert(account == NULL || amount_equal(claim.account.balance, account->balance));
        ck_assert(account_id_equal(&claim.id, &world->ids[who]));
        ck_assert_uint_eq(claim.height, 1);
        ck_assert(claim.checkpoint.final);
    }
    for (int i = 0; i < 200; i++) { /* and any that there is not */
        struct account_id id;
        for (size_t k = 0; k < ACCOUNT_ID_SIZE; k++) {
            id.bytes[k] = (uint8_t)test_rand();
        }
        prove(&id);
        accepted(ledger_account_proof_verify(buf_bytes(&proof), &trust, &claim, &note));
        ck_assert(!claim.exists);
    }
}
END_TEST

/* A proof of one account shows nothing of another, and no byte of it may change. */
START_TEST(test_hostile_account_proofs)
{
    struct ledger_account_claim claim;
    seal();
    prove(&world->ids[WORLD_PAYER]);
    struct buf copy;
    buf_init(&copy, 1U << 20);
    buf_append_bytes(&copy, buf_bytes(&proof));
    for (size_t i = 0; i < copy.size; i++) {
        uint8_t flip = (uint8_t)(1U << (test_rand() % 8));
        copy.data[i] ^= flip;
        enum err err = ledger_account_proof_verify(buf_bytes(&copy), &trust, &claim, &note);
        /* another account asked for: the same way shows, truly, that there is none */
        bool other = !claim.exists && !account_id_equal(&claim.id, &world->ids[WORLD_PAYER]);
        ck_assert_msg(err != ERR_OK || other, "byte %zu of %zu", i, copy.size);
        copy.data[i] ^= flip;
    }
    for (size_t size = 0; size < copy.size; size++) {
        ck_assert(ledger_account_proof_verify(bytes_of(copy.data, size), &trust, &claim, &note) !=
                  ERR_OK);
    }
    /* The way to one account passed off as the absence of another. */
    Openledger__V1__StateProof *forged =
        openledger__v1__state_proof__unpack(NULL, proof.size, proof.data);
    ck_assert_ptr_nonnull(forged);
    size_t refused = 0;
    for (int who = 0; who < WORLD_COUNT; who++) {
        if (who == WORLD_PAYER || ledger_account(world->ledger, &world->ids[who]) == NULL) {
            continue;
        }
        memcpy(forged->account.data, world->ids[who].bytes, ACCOUNT_ID_SIZE);
        buf_clear(&copy);
        accepted(ledger_pack(&forged->base, &copy));
        ck_assert_int_eq(ledger_account_proof_verify(buf_bytes(&copy), &trust, &claim, &note),
                         ERR_INVALID);
        refused++;
    }
    ck_assert_uint_gt(refused, 2);
    openledger__v1__state_proof__free_unpacked(forged, NULL);
    trust.chain_id.bytes[0] ^= 1; /* another chain's */
    ck_assert(ledger_account_proof_verify(buf_bytes(&proof), &trust, &claim, &note) != ERR_OK);
    buf_deinit(&copy);
}
END_TEST

/* ---- cosignatures ------------------------------------------------------------------------------- */

static void cosign(const char *name, const struct key_pair *keys)
{
    struct buf line;
    buf_init(&line, 4096);
    accepted(signed_note_cosign(buf_bytes(&checkpoint), name, keys, 1000, &line));
    buf_append_bytes(&checkpoint, buf_bytes(&line));
    buf_deinit(&line);
}

START_TEST(test_quorum)
{
    struct key_pair *keys[3];
    struct ledger_checkpoint found;
    trust.witnesses = (struct ledger_witnesses){.count = 3, .quorum = 2};
    for (int i = 0; i < 3; i++) {
        keys[i] = key_pair_create();
        (void)snprintf(trust.witnesses.items[i].name, LEDGER_WITNESS_NAME_MAX, "w%d.example", i);
        trust.witnesses.items[i].key = *key_pair_public(keys[i]);
    }
    seal();
    accepted(ledger_checkpoint_verify(buf_bytes(&checkpoint), &trust, &found, &note));
    ck_assert(found.cosignatures == 0 && !found.final && found.height == 1);
    cosign("w1.example", keys[1]);
    cosign("w1.example", keys[1]); /* the same one again counts once */
    cosign("w0.example", keys[2]); /* a name with another's key counts for nobody */
    accepted(ledger_checkpoint_verify(buf_bytes(&checkpoint), &trust, &found, &note));
    ck_assert(found.cosignatures == 1 && !found.final);
    cosign("w2.example", keys[2]);
    accepted(ledger_checkpoint_verify(buf_bytes(&checkpoint), &trust, &found, &note));
    ck_assert(found.cosignatures == 2 && found.final);
    buf_clear(&checkpoint); /* witnesses without the sequencer are nothing */
    struct ledger_head head;
    ledger_head(world->ledger, &head);
    accepted(ledger_checkpoint_sign(&head.chain_id, 1, &head.headers_root, keys[0], &checkpoint));
    cosign("w1.example", keys[1]);
    cosign("w2.example", keys[2]);
    ck_assert_int_eq(ledger_checkpoint_verify(buf_bytes(&checkpoint), &trust, &found, &note),
                     ERR_DENIED);
    for (int i = 0; i < 3; i++) {
        key_pair_destroy(keys[i]);
    }
}
END_TEST

/* ---- proof files -------------------------------------------------------------------------------- */

START_TEST(test_proof_files)
{
    struct digest leaves[3];
    struct ledger_proof_claim claim;
    const struct merkle_proof place = {.leaf_index = 0};
    accepted(world_transfer(world, WORLD_PAYER, WORLD_BOB, "1"));
    accepted(world_transfer(world, WORLD_PAYER, WORLD_BOB, "2"));
    seal();
    ck_assert_uint_eq(world->entry_count, 3);
    for (size_t i = 0; i < 3; i++) {
        merkle_leaf(world->entries[i].data, world->entries[i].size, &leaves[i]);
    }
    const struct ledger_proof_parts parts = {.leaf = buf_bytes(&world->entries[1]),
                                             .leaves = leaves,
                                             .leaf_count = 3,
                                             .leaf_index = 1,
                                             .header = buf_bytes(&header),
                                             .header_path = &place,
                                             .checkpoint = buf_bytes(&checkpoint)};
    struct buf file;
    struct buf back;
    buf_init(&file, 1U << 20);
    buf_init(&back, 1U << 20);
    accepted(ledger_proof_make(&parts, &proof, &note));
    accepted(ledger_proof_export(buf_bytes(&proof), &file, &note));
    accepted(ledger_proof_import(buf_bytes(&file), &back, &note));
    ck_assert(bytes_equal(buf_bytes(&back), buf_bytes(&proof)));
    accepted(ledger_proof_verify(buf_bytes(&back), &trust, &claim, &note));
    ck_assert_uint_eq(claim.index, 2);
    for (size_t i = 0; i < file.size; i++) { /* any byte of the file */
        uint8_t flip = (uint8_t)(1U << (test_rand() % 8));
        file.data[i] ^= flip;
        buf_clear(&back);
        enum err err = ledger_proof_import(buf_bytes(&file), &back, &note);
        err = err ? err : ledger_proof_verify(buf_bytes(&back), &trust, &claim, &note);
        ck_assert_msg(err != ERR_OK, "byte %zu of %zu", i, file.size);
        file.data[i] ^= flip;
    }
    ck_assert_int_eq(ledger_proof_export(bytes_of_text("x"), &back, &note), ERR_INVALID);
    buf_deinit(&file);
    buf_deinit(&back);
}
END_TEST

/* A posting is written by hand, so it is compared with what protobuf-c makes of the same leg. */
START_TEST(test_postings)
{
    static const uint64_t INDEXES[] = {1, 127, 128, UINT64_MAX};
    static const uint32_t LEGS[] = {0, 1, 300, LEDGER_LEGS_MAX};
    static const struct amount AMOUNTS[] = {{0, 0}, {0, 1}, {UINT64_MAX, UINT64_MAX}};
    struct ledger_leg leg = {.reason = "transfer"};
    struct buf posting;
    buf_init(&posting, POSTING_MAX);
    memset(leg.account.bytes, 0xa5, ACCOUNT_ID_SIZE);
    for (uint32_t i = 0; i < 4 * 4 * 3 * 4; i++) {
        char amount[AMOUNT_TEXT_SIZE];
        char reason[] = "transfer";
        Openledger__V1__Posting same = OPENLEDGER__V1__POSTING__INIT;
        uint8_t packed[POSTING_MAX];
        leg.amount = AMOUNTS[i / 16 % 3];
        leg.credit = i / 48 % 2 == 0;
        leg.has_reference = i / 96 == 0;
        leg.reference.bytes[0] = (uint8_t)i;
        (void)amount_format(leg.amount, amount);
        same.index = INDEXES[i % 4];
        same.leg = LEGS[i / 4 % 4];
        same.account = ledger_binary(leg.account.bytes, ACCOUNT_ID_SIZE);
        same.credit = leg.credit;
        same.amount = amount;
        same.reason = reason;
        if (leg.has_reference) {
            same.reference = ledger_binary(leg.reference.bytes, DIGEST_SIZE);
        }
        buf_clear(&posting);
        accepted(ledger_posting_encode(same.index, same.leg, &leg, &posting));
        ck_assert_uint_eq(openledger__v1__posting__get_packed_size(&same), posting.size);
        ck_assert_uint_eq(openledger__v1__posting__pack(&same, packed), posting.size);
        ck_assert_mem_eq(posting.data, packed, posting.size);
    }
    buf_deinit(&posting);
}
END_TEST

int main(void)
{
    crypto_start();
    Suite *suite = suite_create("ledger proofs");
    TCase *rules = tcase_create("rules");
    tcase_set_timeout(rules, 60);
    tcase_add_checked_fixture(rules, setup, teardown);
    tcase_add_test(rules, test_accounts);
    tcase_add_test(rules, test_hostile_account_proofs);
    tcase_add_test(rules, test_quorum);
    tcase_add_test(rules, test_proof_files);
    tcase_add_test(rules, test_postings);
    suite_add_tcase(suite, rules);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed_count = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed_count == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
