/* test_ledger_evidence.c - reports of conflicts, contradictions and double checkpoints, and what is
 * slashed for them: each rule with its refusals, and random stake against an obvious sum. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#include "shared/base/check.h"
#include "shared/ledger/evidence.h"
#include "shared/ledger/proof.h"
#include "shared/ledger/stake.h"
#include "tests/harness/ledger_expect.h"
#include "tests/harness/seed.h"

static struct world *world;

static void setup(void)
{
    world = world_create();
    world_setup(world);
    ck_assert_int_eq(world_bond(world, WORLD_GATEWAY, LEDGER_ROLE_GATEWAY, "1000"), ERR_OK);
    ck_assert_int_eq(world_grant(world, "100"), ERR_OK);
}

static void teardown(void)
{
    world_destroy(world);
}

#define BODY(UPPER, member, Message, message)                                                      \
    static Openledger__V1__TxBody body;                                                            \
    static Openledger__V1__##Message action;                                                       \
    openledger__v1__##message##__init(&action);                                                    \
    openledger__v1__tx_body__init(&body);                                                          \
    body.action_case = OPENLEDGER__V1__TX_BODY__ACTION_##UPPER;                                    \
    body.member = &action

static struct bytes blob_of(const struct digest *digest)
{
    size_t i = 0;
    while (!digest_equal(&world->blob_names[i], digest)) {
        i++;
    }
    return buf_bytes(&world->blobs[i]);
}

static struct ledger_signed_item shown[2];

static void show(int which, struct digest batch, bool shares, uint32_t place)
{
    ck_assert_int_eq(
        ledger_signed_item(blob_of(&batch), shares, place, &shown[which], &world->note), ERR_OK);
}

static Openledger__V1__TxBody *conflict(bool shares)
{
    BODY(REPORT_CONFLICT, report_conflict, ReportConflict, report_conflict);
    action.shares = shares;
    action.first = &shown[0].message;
    action.second = &shown[1].message;
    return &body;
}

static Openledger__V1__TxBody *invalid(bool shares)
{
    BODY(REPORT_INVALID, report_invalid, ReportInvalid, report_invalid);
    action.shares = shares;
    action.item = &shown[0].message;
    return &body;
}

static Openledger__V1__TxBody *unbond(enum ledger_role role, const char *amount)
{
    BODY(UNBOND, unbond, Unbond, unbond);
    action.role = (Openledger__V1__Role)role;
    action.amount = world_text(amount);
    return &body;
}

static void expect_bond(const struct account_id *id, enum ledger_role role, const char *expected)
{
    char text[AMOUNT_TEXT_SIZE];
    ck_assert_str_eq(amount_format(ledger_bond(world->ledger, id, role), text), expected);
}

START_TEST(test_receipts)
{
    struct account_id escrow;
    struct digest batch = world_receipts(world, 1, 4, 100, 50, NULL, NULL);
    struct digest other = world_receipts(world, 3, 3, 100, 51, NULL, NULL);
    ledger_bond_escrow_id(&world->ids[WORLD_GATEWAY], LEDGER_ROLE_GATEWAY, &escrow);
    expect_ok(world, WORLD_GATEWAY, unbond(LEDGER_ROLE_GATEWAY, "400"));
    show(0, batch, false, 2);
    show(1, other, false, 1);
    expect_refused(world, WORLD_DEV, conflict(false), ERR_INVALID, "about different things");
    show(1, batch, false, 2);
    expect_refused(world, WORLD_DEV, conflict(false), ERR_INVALID, "are the same");
    show(1, other, false, 0);
    expect_refused(world, WORLD_GATEWAY, conflict(false), ERR_DENIED, "report itself");
    expect_refused(world, WORLD_DEV, conflict(true), ERR_DENIED, "does not fit");
    shown[1].message.place = 1;
    expect_refused(world, WORLD_DEV, conflict(false), ERR_INVALID, "not in the batch at place 1");
    show(1, other, false, 0);
    shown[1].message.first_number++;
    expect_refused(world, WORLD_DEV, conflict(false), ERR_DENIED, "does not fit");
    show(1, other, false, 0);
    shown[1].message.account = world_id_field(world, WORLD_DEV);
    expect_refused(world, WORLD_BASE, conflict(false), ERR_DENIED, "does not fit");
    show(1, other, false, 0);
    shown[1].message.path.len--;
    expect_refused(world, WORLD_DEV, conflict(false), ERR_INVALID, "path has");
    show(1, other, false, 0);
    shown[1].message.root.len--;
    expect_refused(world, WORLD_DEV, conflict(false), ERR_INVALID, "root has 31");
    show(1, other, false, 0);
    shown[1].message.grant.len = 0;
    expect_refused(world, WORLD_DEV, conflict(false), ERR_INVALID, "grant has 0");
    show(1, other, false, 0);
    shown[1].message.signature.len = 63;
    expect_refused(world, WORLD_DEV, conflict(false), ERR_INVALID, "signature malformed");
    Openledger__V1__TxBody *body = conflict(false);
    body->report_conflict->second = NULL;
    expect_refused(world, WORLD_DEV, body, ERR_INVALID, "an item is missing");

    show(1, other, false, 0);
    expect_ok(world, WORLD_DEV, conflict(false));
    expect_bond(&world->ids[WORLD_GATEWAY], LEDGER_ROLE_GATEWAY, "300");
    expect_balance(world, &escrow, "500"); /* with 200 on their way out */
    expect_balance(world, &world->ids[WORLD_DEV], "100000045");
    expect_refused(world, WORLD_BASE, conflict(false), ERR_CONFLICT, "reported already");
    /* Another number is another offence. */
    show(0, batch, false, 3);
    show(1, other, false, 1);
    expect_ok(world, WORLD_BASE, conflict(false));
    expect_bond(&world->ids[WORLD_GATEWAY], LEDGER_ROLE_GATEWAY, "150");
    const struct ledger_offence *offence = ledger_next_offence(world->ledger, NULL);
    ck_assert_uint_eq(offence->kind, LEDGER_OFFENCE_CONFLICT);
    ck_assert(account_id_equal(&offence->account, &world->ids[WORLD_GATEWAY]));
    expect_replays(world);
}
END_TEST

START_TEST(test_invalid_receipts)
{
    struct digest good = world_receipts(world, 1, 2, 100, 50, NULL, NULL);
    struct digest bad = world_receipts(world, 1, 2, 100, 50, "0.3", NULL);
    show(0, good, false, 1);
    expect_refused(world, WORLD_DEV, invalid(false), ERR_INVALID, "nothing contradicts");
    show(0, bad, false, 1);
    expect_ok(world, WORLD_DEV, invalid(false));
    expect_bond(&world->ids[WORLD_GATEWAY], LEDGER_ROLE_GATEWAY, "900");
    expect_refused(world, WORLD_DEV, invalid(false), ERR_CONFLICT, "reported already");
    /* An adapter that the ledger does not know, and a time that has not come, prove nothing. */
    world->adapter = "unknown";
    struct digest strange = world_receipts(world, 1, 1, 100, 50, "0.3", NULL);
    world->adapter = "adapter";
    show(0, strange, false, 0);
    expect_refused(world, WORLD_DEV, invalid(false), ERR_INVALID, "nothing contradicts");
    world->now_ms += 1000;
    struct digest early = world_receipts(world, 1, 1, 100, 50, "0.3", NULL);
    world->now_ms -= 1000;
    show(0, early, false, 0);
    expect_refused(world, WORLD_DEV, invalid(false), ERR_INVALID, "nothing contradicts");
    world->now_ms += 1000;
    expect_ok(world, WORLD_DEV, invalid(false));
    /* A number that its place does not give, and bytes that are no receipt. */
    struct ledger_head head;
    struct buf signed_batch;
    struct digest grant = world->grant;
    const struct bytes items[] = {bytes_of_text("no receipt"), blob_of(&good)};
    for (int i = 0; i < 2; i++) {
        ledger_head(world->ledger, &head);
        show(1, good, false, 1);
        const struct bytes item =
            i == 0 ? items[0] : ledger_bytes(shown[1].message.item); /* number 2 */
        const struct ledger_receipt_batch batch = {.chain_id = &head.chain_id,
                                                   .gateway = &world->ids[WORLD_GATEWAY],
                                                   .grant = &grant,
                                                   .lease = 1,
                                                   .first_number = 7,
                                                   .receipts = &item,
                                                   .count = 1};
        buf_init(&signed_batch, LEDGER_BATCH_BLOB_MAX);
        ck_assert_int_eq(
            ledger_receipt_batch_sign(&batch, world->keys[WORLD_GATEWAY], &signed_batch), ERR_OK);
        show(0, world_blob(world, buf_bytes(&signed_batch)), false, 0);
        buf_deinit(&signed_batch);
        expect_refused(world, WORLD_DEV, conflict(false), ERR_INVALID, "");
        expect_ok(world, WORLD_DEV, invalid(false));
    }
    expect_bond(&world->ids[WORLD_GATEWAY], LEDGER_ROLE_GATEWAY, "656.1");
    expect_refused(world, WORLD_ATTRIBUTION, invalid(true), ERR_DENIED, "does not fit");
    expect_replays(world);
}
END_TEST

START_TEST(test_shares)
{
    struct digest ids[2];
    struct digest receipts = world_receipts(world, 1, 2, 100, 50, NULL, ids);
    struct digest first = world_shares(world, ids, 2, 400000000, 600000000);
    struct digest second = world_shares(world, ids, 2, 500000000, 500000000);
    struct digest files = world->files;
    world->files.bytes[0] ^= 1;
    struct digest other_index = world_shares(world, ids, 2, 400000000, 600000000);
    world->files = files;
    struct account_id alice = world->ids[WORLD_ALICE];
    world->ids[WORLD_ALICE] = world->ids[WORLD_DEV];
    struct digest stranger = world_shares(world, ids, 2, 400000000, 600000000);
    world->ids[WORLD_ALICE] = alice;
    show(0, other_index, true, 0);
    /* Nothing is known of the receipt yet. */
    expect_refused(world, WORLD_DEV, invalid(true), ERR_INVALID, "nothing contradicts");
    ck_assert_int_eq(world_settle_receipts(world, &receipts), ERR_OK);
    expect_ok(world, WORLD_DEV, invalid(true));
    expect_bond(&world->ids[WORLD_ATTRIBUTION], LEDGER_ROLE_ATTRIBUTION, "1800");
    show(0, stranger, true, 1);
    expect_ok(world, WORLD_DEV, invalid(true));
    expect_bond(&world->ids[WORLD_ATTRIBUTION], LEDGER_ROLE_ATTRIBUTION, "1620");
    show(0, first, true, 0);
    expect_refused(world, WORLD_DEV, invalid(true), ERR_INVALID, "nothing contradicts");
    show(1, second, true, 1);
    expect_refused(world, WORLD_DEV, conflict(true), ERR_INVALID, "about different things");
    show(1, second, true, 0);
    expect_ok(world, WORLD_DEV, conflict(true));
    expect_bond(&world->ids[WORLD_ATTRIBUTION], LEDGER_ROLE_ATTRIBUTION, "810");
    expect_refused(world, WORLD_DEV, conflict(true), ERR_CONFLICT, "reported already");
    expect_replays(world);
}
END_TEST

/* A key that was rotated away answers for what it signed, for as long as stake would be held. */
START_TEST(test_former_key)
{
    struct digest batch = world_receipts(world, 1, 4, 100, 50, NULL, NULL);
    struct digest other = world_receipts(world, 1, 4, 100, 51, NULL, NULL);
    uint8_t nonce[LEDGER_NONCE_SIZE] = {0x99};
    struct ledger_head head;
    struct buf body;
    struct buf signed_tx;
    const struct key_pair *fresh = world->keys[WORLD_BOB];
    const struct ledger_signer signers[] = {
        {&world->ids[WORLD_GATEWAY], world->keys[WORLD_GATEWAY]},
        {&world->ids[WORLD_GATEWAY], fresh}};
    Openledger__V1__RotateKey rotate = OPENLEDGER__V1__ROTATE_KEY__INIT;
    rotate.key = ledger_binary(key_pair_public(fresh)->bytes, PUBLIC_KEY_SIZE);
    WORLD_ACTION(action, ROTATE_KEY, rotate_key, &rotate);
    ledger_head(world->ledger, &head);
    struct ledger_tx tx = ledger_tx_at(&head.chain_id, &world->ids[WORLD_GATEWAY], world->now_ms,
                                       LEDGER_TX_VALIDITY_MS, nonce);
    buf_init(&body, LEDGER_ENTRY_MAX);
    buf_init(&signed_tx, LEDGER_ENTRY_MAX);
    ck_assert_int_eq(ledger_tx_body(&tx, &action, &body), ERR_OK);
    ck_assert_int_eq(ledger_tx_sign(&head.chain_id, buf_bytes(&body), signers, 2, &signed_tx),
                     ERR_OK);
    ck_assert_msg(world_apply_signed(world, buf_bytes(&signed_tx)) == ERR_OK, "%s",
                  world->note.text);
    buf_deinit(&body);
    buf_deinit(&signed_tx);
    world->now_ms += 59999; /* unbonding_ms is 60,000 */
    show(0, batch, false, 0);
    show(1, other, false, 0);
    expect_ok(world, WORLD_DEV, conflict(false));
    world->now_ms += 1;
    show(0, batch, false, 1);
    show(1, other, false, 1);
    expect_refused(world, WORLD_DEV, conflict(false), ERR_DENIED, "does not answer for that key");
    expect_replays(world);
}
END_TEST

START_TEST(test_nothing_at_stake)
{
    struct digest batch = world_receipts(world, 1, 4, 100, 50, NULL, NULL);
    struct digest other = world_receipts(world, 1, 4, 100, 51, NULL, NULL);
    Openledger__V1__Release release = OPENLEDGER__V1__RELEASE__INIT;
    release.role = OPENLEDGER__V1__ROLE__ROLE_GATEWAY;
    WORLD_ACTION(body, RELEASE, release, &release);
    expect_ok(world, WORLD_GATEWAY, unbond(LEDGER_ROLE_GATEWAY, "1000"));
    world->now_ms += 60000;
    expect_ok(world, WORLD_GATEWAY, &body);
    show(0, batch, false, 0);
    show(1, other, false, 0);
    expect_refused(world, WORLD_DEV, conflict(false), ERR_CONFLICT, "nothing at stake");
}
END_TEST

/* ---- checkpoints, and validators with delegations ------------------------------------------------ */

static struct account_id sequencer_id;

static Openledger__V1__TxBody *delegate(const char *amount)
{
    BODY(DELEGATE, delegate, Delegate, delegate);
    action.validator = ledger_binary(sequencer_id.bytes, ACCOUNT_ID_SIZE);
    action.amount = world_text(amount);
    return &body;
}

static Openledger__V1__TxBody *undelegate(const char *amount)
{
    BODY(UNDELEGATE, undelegate, Undelegate, undelegate);
    action.validator = ledger_binary(sequencer_id.bytes, ACCOUNT_ID_SIZE);
    action.amount = world_text(amount);
    return &body;
}

/* The sequencer as an account with a validator's bond, under Bob's name in the cast. */
static void sequencer_bond(const char *amount)
{
    struct key_pair *keys = world->keys[WORLD_BOB];
    struct account_id id = world->ids[WORLD_BOB];
    account_id_from_key(key_pair_public(world->sequencer), &sequencer_id);
    world->keys[WORLD_BOB] = world->sequencer;
    world->ids[WORLD_BOB] = sequencer_id;
    ck_assert_int_eq(world_open(world, WORLD_BOB), ERR_OK);
    ck_assert_int_eq(world_transfer(world, WORLD_PAYER, WORLD_BOB, amount), ERR_OK);
    ck_assert_int_eq(world_bond(world, WORLD_BOB, LEDGER_ROLE_VALIDATOR, amount), ERR_OK);
    world->keys[WORLD_BOB] = keys;
    world->ids[WORLD_BOB] = id;
}

static struct buf notes[2];

static Openledger__V1__TxBody *checkpoints(uint64_t first, uint64_t second, uint8_t root)
{
    BODY(REPORT_CHECKPOINTS, report_checkpoints, ReportCheckpoints, report_checkpoints);
    const uint64_t heights[] = {first, second};
    struct ledger_head head;
    ledger_head(world->ledger, &head);
    for (int i = 0; i < 2; i++) {
        const struct digest at = {{i == 0 ? 1 : root}};
        buf_deinit(&notes[i]);
        buf_init(&notes[i], 4096);
        ck_assert_int_eq(
            ledger_checkpoint_sign(&head.chain_id, heights[i], &at, world->sequencer, &notes[i]),
            ERR_OK);
    }
    action.key = ledger_binary(key_pair_public(world->sequencer)->bytes, PUBLIC_KEY_SIZE);
    action.first = ledger_binary(notes[0].data, notes[0].size);
    action.second = ledger_binary(notes[1].data, notes[1].size);
    return &body;
}

START_TEST(test_checkpoints)
{
    char text[AMOUNT_TEXT_SIZE];
    expect_refused(world, WORLD_DEV, checkpoints(5, 5, 2), ERR_CONFLICT, "nothing at stake");
    sequencer_bond("1000");
    expect_ok(world, WORLD_DEV, delegate("2000"));
    expect_ok(world, WORLD_PAYER, delegate("900"));
    expect_ok(world, WORLD_PAYER, undelegate("400"));
    expect_seals(world, 1);
    expect_refused(world, WORLD_DEV, checkpoints(5, 6, 2), ERR_INVALID, "do not contradict");
    expect_refused(world, WORLD_DEV, checkpoints(5, 5, 1), ERR_INVALID, "do not contradict");
    Openledger__V1__TxBody *body = checkpoints(5, 5, 2);
    body->report_checkpoints->key =
        ledger_binary(key_pair_public(world->keys[WORLD_BASE])->bytes, PUBLIC_KEY_SIZE);
    expect_refused(world, WORLD_DEV, body, ERR_DENIED, "neither the sequencer's");
    body = checkpoints(5, 5, 2);
    body->report_checkpoints->second.data[body->report_checkpoints->second.len - 8] ^= 1;
    ck_assert_int_ne(world_try(world, WORLD_DEV, body), ERR_OK);
    body = checkpoints(5, 5, 2);
    body->report_checkpoints->first.len = 3;
    ck_assert_int_ne(world_try(world, WORLD_DEV, body), ERR_OK);

    expect_ok(world, WORLD_BASE, checkpoints(5, 5, 2));
    expect_bond(&sequencer_id, LEDGER_ROLE_VALIDATOR, "500");
    ck_assert_str_eq(
        amount_format(
            ledger_delegation(world->ledger, &world->ids[WORLD_DEV], &sequencer_id)->amount, text),
        "1000");
    ck_assert_str_eq(amount_format(ledger_next_unbonding(world->ledger, NULL)->amount, text),
                     "200");
    /* 3,900 were at stake: 195 for the reporter, 1,755 for the stakers. */
    expect_balance(world, &world->ids[WORLD_BASE], "99000195");
    struct account_id escrow;
    ledger_bond_escrow_id(&sequencer_id, LEDGER_ROLE_VALIDATOR, &escrow);
    expect_balance(world, &escrow, "1950");
    ck_assert_uint_eq(ledger_power_at(world->ledger, LEDGER_SERIES_VALIDATORS, &sequencer_id, 2),
                      1750 * LEDGER_STAKE_GRAIN);
    expect_refused(world, WORLD_DEV, checkpoints(5, 5, 2), ERR_CONFLICT, "reported already");
    expect_refused(world, WORLD_DEV, checkpoints(5, 5, 3), ERR_CONFLICT, "reported already");
    expect_ok(world, WORLD_DEV, checkpoints(6, 6, 3));
    expect_bond(&sequencer_id, LEDGER_ROLE_VALIDATOR, "250");
    expect_replays(world);
    buf_deinit(&notes[0]);
    buf_deinit(&notes[1]);
}
END_TEST

/* The escrow always holds exactly what its bond, delegations and unbondings say. */
START_TEST(test_slash_random)
{
    static const enum world_who WHO[] = {WORLD_DEV, WORLD_PAYER, WORLD_BASE};
    struct account_id escrow;
    uint64_t height = 10;
    sequencer_bond("5000");
    ledger_bond_escrow_id(&sequencer_id, LEDGER_ROLE_VALIDATOR, &escrow);
    for (int i = 0; i < 150; i++) {
        char text[AMOUNT_TEXT_SIZE];
        enum world_who who = WHO[test_rand() % 3];
        (void)snprintf(text, sizeof text, "%llu.%llu1",
                       (unsigned long long)(100 + test_rand() % 900),
                       (unsigned long long)(test_rand() % 1000000));
        uint64_t which = test_rand() % 8;
        world->now_ms += 5000;
        if (which == 0) {
            height++;
            enum err err = world_try(world, WORLD_OWNER, checkpoints(height, height, 2));
            ck_assert_msg(err == ERR_OK, "%s", world->note.text);
        } else { /* refused when there is too little, or too much on its way out */
            (void)world_try(world, who, which < 5 ? delegate(text) : undelegate(text));
        }
        struct amount sum = ledger_bond(world->ledger, &sequencer_id, LEDGER_ROLE_VALIDATOR);
        const struct ledger_delegation *item = NULL;
        uint32_t holders = 0;
        while ((item = ledger_next_delegation(world->ledger, item)) != NULL) {
            holders += amount_is_zero(item->amount) ? 0 : 1;
            ck_assert_int_eq(amount_add(sum, item->amount, &sum), ERR_OK);
        }
        const struct ledger_unbonding *out = NULL;
        while ((out = ledger_next_unbonding(world->ledger, out)) != NULL) {
            ck_assert_int_eq(amount_add(sum, out->amount, &sum), ERR_OK);
        }
        char expected[AMOUNT_TEXT_SIZE];
        expect_balance(world, &escrow, amount_format(sum, expected));
        ck_assert_uint_eq(
            ledger_bond_record(world->ledger, &sequencer_id, LEDGER_ROLE_VALIDATOR)->delegations,
            holders);
        (void)ledger_supply(world->ledger);
    }
    expect_replays(world);
    buf_deinit(&notes[0]);
    buf_deinit(&notes[1]);
}
END_TEST

/* As many as may delegate: one more is refused, and one entry slashes them all. */
START_TEST(test_many_delegators)
{
    struct key_pair *bob = world->keys[WORLD_BOB];
    struct account_id bob_id = world->ids[WORLD_BOB];
    uint8_t seed[KEY_SEED_SIZE] = {0x55};
    sequencer_bond("1000");
    for (unsigned i = 0; i <= LEDGER_DELEGATIONS_MAX; i++) {
        seed[1] = (uint8_t)i;
        seed[2] = (uint8_t)(i >> 8);
        world->keys[WORLD_BOB] = key_pair_from_seed(seed);
        account_id_from_key(key_pair_public(world->keys[WORLD_BOB]), &world->ids[WORLD_BOB]);
        ck_assert_int_eq(world_open(world, WORLD_BOB), ERR_OK);
        ck_assert_int_eq(world_transfer(world, WORLD_PAYER, WORLD_BOB, "200"), ERR_OK);
        enum err err = world_try(world, WORLD_BOB, delegate("100"));
        if (i < LEDGER_DELEGATIONS_MAX) {
            ck_assert_msg(err == ERR_OK, "%s", world->note.text);
        } else {
            expect_refused(world, WORLD_BOB, delegate("100"), ERR_LIMIT, "1024 accounts delegate");
        }
        key_pair_destroy(world->keys[WORLD_BOB]);
    }
    world->keys[WORLD_BOB] = bob;
    world->ids[WORLD_BOB] = bob_id;
    expect_ok(world, WORLD_OWNER, checkpoints(5, 5, 2));
    struct account_id escrow;
    ledger_bond_escrow_id(&sequencer_id, LEDGER_ROLE_VALIDATOR, &escrow);
    expect_balance(world, &escrow, "51700"); /* half of 1,000 and of 1,024 times 100 */
    ck_assert_uint_lt(world->effects.leg_count, LEDGER_LEGS_MAX);
    buf_deinit(&notes[0]);
    buf_deinit(&notes[1]);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("ledger evidence");
    TCase *tcase = tcase_create("all");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_set_timeout(tcase, 120);
    tcase_add_test(tcase, test_receipts);
    tcase_add_test(tcase, test_invalid_receipts);
    tcase_add_test(tcase, test_shares);
    tcase_add_test(tcase, test_former_key);
    tcase_add_test(tcase, test_nothing_at_stake);
    tcase_add_test(tcase, test_checkpoints);
    tcase_add_test(tcase, test_slash_random);
    tcase_add_test(tcase, test_many_delegators);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
