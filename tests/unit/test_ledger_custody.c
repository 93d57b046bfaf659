/* test_ledger_custody.c - linked transfers, transfers in two phases, guardians: each rule with its refusals,
 * and random histories against an obvious model. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#include "shared/base/check.h"
#include "shared/ledger/custody.h"
#include "tests/harness/ledger_expect.h"
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

/* Applies action as sender, signed by the given keys for the given accounts. */
static enum err try_signed(enum world_who sender, const struct ledger_signer *signers, size_t count,
                           Openledger__V1__TxBody *action)
{
    uint8_t nonce[LEDGER_NONCE_SIZE] = {0};
    struct ledger_head head;
    struct buf body;
    struct buf signed_tx;
    ledger_head(world->ledger, &head);
    world->nonce++;
    memcpy(nonce, &world->nonce, sizeof world->nonce);
    struct ledger_tx tx = ledger_tx_at(&head.chain_id, &world->ids[sender], world->now_ms,
                                       LEDGER_TX_VALIDITY_MS, nonce);
    buf_init(&body, LEDGER_ENTRY_MAX);
    buf_init(&signed_tx, LEDGER_ENTRY_MAX);
    ck_assert_int_eq(ledger_tx_body(&tx, action, &body), ERR_OK);
    ck_assert_int_eq(ledger_tx_sign(&head.chain_id, buf_bytes(&body), signers, count, &signed_tx),
                     ERR_OK);
    enum err err = world_apply_signed(world, buf_bytes(&signed_tx));
    buf_deinit(&body);
    buf_deinit(&signed_tx);
    return err;
}

static struct ledger_signer signer_of(enum world_who who)
{
    return (struct ledger_signer){.account = &world->ids[who], .keys = world->keys[who]};
}

static void expect_roots(void)
{
    struct digest cached;
    struct digest slow;
    ledger_state_root(world->ledger, &cached);
    ledger_state_root_slow(world->ledger, &slow);
    ck_assert(digest_equal(&cached, &slow));
}

/* ---- linked transfers --------------------------------------------------------------------------- */

#define ITEMS_MAX (LEDGER_LINKED_MAX + 1)

static Openledger__V1__LinkedTransfer items[ITEMS_MAX];
static Openledger__V1__LinkedTransfer *item_list[ITEMS_MAX];

static void item_set(size_t i, enum world_who from, enum world_who to, const char *amount)
{
    openledger__v1__linked_transfer__init(&items[i]);
    items[i].from = world_id_field(world, from);
    items[i].to = world_id_field(world, to);
    items[i].amount = world_text(amount);
    item_list[i] = &items[i];
}

static Openledger__V1__TxBody *linked(size_t count)
{
    static Openledger__V1__TxBody body;
    static Openledger__V1__LinkedTransfers action;
    openledger__v1__linked_transfers__init(&action);
    action.transfers = item_list;
    action.n_transfers = count;
    openledger__v1__tx_body__init(&body);
    body.action_case = OPENLEDGER__V1__TX_BODY__ACTION_LINKED_TRANSFERS;
    body.linked_transfers = &action;
    return &body;
}

START_TEST(test_linked)
{
    const struct ledger_signer both[] = {signer_of(WORLD_DEV), signer_of(WORLD_OWNER)};
    item_set(0, WORLD_DEV, WORLD_OWNER, "5");
    item_set(1, WORLD_OWNER, WORLD_DEV, "7");
    expect_refused(world, WORLD_DEV, linked(0), ERR_LIMIT, "0 linked transfers");
    expect_refused(world, WORLD_DEV, linked(2), ERR_DENIED, "transfer 1: account");
    ck_assert_int_eq(try_signed(WORLD_DEV, both, 2, linked(2)), ERR_OK);
    expect_roots();
    expect_balance(world, &world->ids[WORLD_DEV], "100000002");
    expect_balance(world, &world->ids[WORLD_OWNER], "9999998");
    /* The second cannot be paid: the first did not happen either. */
    items[1].amount = world_text("10000004");
    struct digest before;
    struct digest after;
    ledger_state_root(world->ledger, &before);
    ck_assert_int_eq(try_signed(WORLD_DEV, both, 2, linked(2)), ERR_FUNDS);
    ledger_state_root(world->ledger, &after);
    ck_assert(digest_equal(&before, &after));
    /* In order: what the first brings, the second may spend. */
    items[1].amount = world_text("10000003");
    ck_assert_int_eq(try_signed(WORLD_DEV, both, 2, linked(2)), ERR_OK);
    expect_balance(world, &world->ids[WORLD_OWNER], "0");
    /* An account without a key of its own cannot send. */
    struct account_id pool;
    ledger_stakers_pool_id(&pool);
    items[0].from = ledger_binary(pool.bytes, ACCOUNT_ID_SIZE);
    expect_refused(world, WORLD_DEV, linked(1), ERR_DENIED, "did not sign");
    item_set(0, WORLD_DEV, WORLD_DEV, "1");
    expect_refused(world, WORLD_DEV, linked(1), ERR_INVALID, "to oneself");
    item_set(0, WORLD_DEV, WORLD_OWNER, "0");
    expect_refused(world, WORLD_DEV, linked(1), ERR_INVALID, "amount is 0");
    item_set(0, WORLD_DEV, WORLD_OWNER, "1");
    items[0].memo = world_text("\x01");
    expect_refused(world, WORLD_DEV, linked(1), ERR_INVALID, "memo");
    for (size_t i = 0; i < ITEMS_MAX; i++) {
        item_set(i, WORLD_DEV, WORLD_OWNER, "1");
    }
    expect_refused(world, WORLD_DEV, linked(ITEMS_MAX), ERR_LIMIT, "65 linked");
    expect_ok(world, WORLD_DEV, linked(LEDGER_LINKED_MAX));
    expect_balance(world, &world->ids[WORLD_OWNER], "64");
    expect_replays(world);
}
END_TEST

/* ---- two phases --------------------------------------------------------------------------------- */

static struct digest hold_id;

static Openledger__V1__TxBody *hold_of(enum world_who to, const char *amount,
                                       enum world_who arbiter, uint64_t expires_ms)
{
    static Openledger__V1__TxBody body;
    static Openledger__V1__HoldTransfer action;
    openledger__v1__hold_transfer__init(&action);
    action.to = world_id_field(world, to);
    action.amount = world_text(amount);
    action.arbiter = world_id_field(world, arbiter);
    action.expires_ms = expires_ms;
    openledger__v1__tx_body__init(&body);
    body.action_case = OPENLEDGER__V1__TX_BODY__ACTION_HOLD_TRANSFER;
    body.hold_transfer = &action;
    return &body;
}

static Openledger__V1__TxBody *post_of(const char *amount)
{
    static Openledger__V1__TxBody body;
    static Openledger__V1__PostTransfer action;
    openledger__v1__post_transfer__init(&action);
    action.hold = expect_digest_field(&hold_id);
    action.amount = world_text(amount);
    openledger__v1__tx_body__init(&body);
    body.action_case = OPENLEDGER__V1__TX_BODY__ACTION_POST_TRANSFER;
    body.post_transfer = &action;
    return &body;
}

static Openledger__V1__TxBody *void_of(void)
{
    static Openledger__V1__TxBody body;
    static Openledger__V1__VoidTransfer action;
    openledger__v1__void_transfer__init(&action);
    action.hold = expect_digest_field(&hold_id);
    openledger__v1__tx_body__init(&body);
    body.action_case = OPENLEDGER__V1__TX_BODY__ACTION_VOID_TRANSFER;
    body.void_transfer = &action;
    return &body;
}

START_TEST(test_hold)
{
    const uint64_t end = world->now_ms + 60000;
    expect_refused(world, WORLD_DEV, hold_of(WORLD_DEV, "5", WORLD_BASE, end), ERR_INVALID,
                   "to oneself");
    expect_refused(world, WORLD_DEV, hold_of(WORLD_OWNER, "0", WORLD_BASE, end), ERR_INVALID,
                   "amount is 0");
    expect_refused(world, WORLD_DEV, hold_of(WORLD_OWNER, "100000001", WORLD_BASE, end), ERR_FUNDS,
                   "can spend 100000000");
    expect_refused(world, WORLD_DEV, hold_of(WORLD_OWNER, "5", WORLD_BASE, world->now_ms),
                   ERR_RANGE, "expires at");
    expect_refused(world, WORLD_DEV,
                   hold_of(WORLD_OWNER, "5", WORLD_BASE, world->now_ms + LEDGER_GRANT_MS_MAX + 1),
                   ERR_RANGE, "expires at");
    expect_refused(world, WORLD_BASE, post_of(""), ERR_NOT_FOUND, "no hold");
    expect_refused(world, WORLD_BASE, void_of(), ERR_NOT_FOUND, "no hold");

    expect_ok(world, WORLD_DEV, hold_of(WORLD_OWNER, "5", WORLD_BASE, end));
    hold_id = world->tx;
    expect_balance(world, &world->ids[WORLD_DEV], "99999995");
    expect_refused(world, WORLD_DEV, post_of(""), ERR_DENIED, "arbiter");
    expect_refused(world, WORLD_OWNER, post_of(""), ERR_DENIED, "arbiter");
    expect_refused(world, WORLD_DEV, void_of(), ERR_DENIED, "arbiter and receiver");
    expect_refused(world, WORLD_BASE, post_of("5.1"), ERR_FUNDS, "the hold has 5 OPEN");
    expect_refused(world, WORLD_BASE, post_of("0"), ERR_INVALID, "amount is 0");
    expect_ok(world, WORLD_BASE, post_of("3.5"));
    expect_balance(world, &world->ids[WORLD_OWNER], "10000003.5");
    expect_balance(world, &world->ids[WORLD_DEV], "99999996.5");
    expect_refused(world, WORLD_BASE, post_of(""), ERR_CONFLICT, "posted already");
    expect_refused(world, WORLD_BASE, void_of(), ERR_CONFLICT, "posted already");

    expect_ok(world, WORLD_DEV, hold_of(WORLD_OWNER, "5", WORLD_BASE, end));
    hold_id = world->tx;
    expect_ok(world, WORLD_OWNER, void_of()); /* the receiver declines */
    expect_balance(world, &world->ids[WORLD_DEV], "99999996.5");
    expect_refused(world, WORLD_OWNER, void_of(), ERR_CONFLICT, "voided already");

    expect_ok(world, WORLD_DEV, hold_of(WORLD_OWNER, "5", WORLD_BASE, end));
    hold_id = world->tx;
    world->now_ms = end - 1;
    expect_refused(world, WORLD_PAYER, void_of(), ERR_DENIED, "arbiter and receiver");
    world->now_ms = end;
    expect_refused(world, WORLD_BASE, post_of(""), ERR_CONFLICT, "expired");
    expect_ok(world, WORLD_PAYER, void_of()); /* anyone */
    expect_balance(world, &world->ids[WORLD_DEV], "99999996.5");
    expect_replays(world);
}
END_TEST

/* Random holds, posts and voids against an array of them. */
START_TEST(test_hold_random)
{
    enum { HOLDS = 40, STEPS = 400 };
    struct {
        struct digest id;
        uint64_t amount, expires_ms;
        bool open;
    } model[HOLDS];
    uint64_t dev = 100000000;
    uint64_t owner = 10000000;
    size_t count = 0;
    for (int i = 0; i < STEPS; i++) {
        char text[32];
        size_t at = count == 0 ? 0 : (size_t)(test_rand() % count);
        world->now_ms += (test_rand() % 2000);
        switch ((test_rand() % 4)) {
        case 0:
        case 1:
            if (count == HOLDS) {
                break;
            }
            model[count].amount = 1 + (test_rand() % 1000);
            model[count].expires_ms = world->now_ms + 1 + (test_rand() % 20000);
            model[count].open = true;
            (void)snprintf(text, sizeof text, "%llu", (unsigned long long)model[count].amount);
            expect_ok(world, WORLD_DEV,
                      hold_of(WORLD_OWNER, text, WORLD_BASE, model[count].expires_ms));
            dev -= model[count].amount;
            model[count++].id = world->tx;
            break;
        case 2: {
            if (count == 0) {
                break;
            }
            uint64_t part = 1 + (test_rand() % 1200);
            bool good =
                model[at].open && world->now_ms < model[at].expires_ms && part <= model[at].amount;
            hold_id = model[at].id;
            (void)snprintf(text, sizeof text, "%llu", (unsigned long long)part);
            ck_assert_int_eq(world_try(world, WORLD_BASE, post_of(text)) == ERR_OK, good);
            if (good) {
                owner += part;
                dev += model[at].amount - part;
                model[at].open = false;
            }
            break;
        }
        default: {
            if (count == 0) {
                break;
            }
            enum world_who who = (test_rand() % 2) == 0 ? WORLD_PAYER : WORLD_OWNER;
            bool good =
                model[at].open && (who == WORLD_OWNER || world->now_ms >= model[at].expires_ms);
            hold_id = model[at].id;
            ck_assert_int_eq(world_try(world, who, void_of()) == ERR_OK, good);
            if (good) {
                dev += model[at].amount;
                model[at].open = false;
            }
            break;
        }
        }
        (void)snprintf(text, sizeof text, "%llu", (unsigned long long)dev);
        expect_balance(world, &world->ids[WORLD_DEV], text);
        (void)snprintf(text, sizeof text, "%llu", (unsigned long long)owner);
        expect_balance(world, &world->ids[WORLD_OWNER], text);
    }
    ck_assert_uint_gt(count, 20);
    expect_replays(world);
}
END_TEST

/* ---- guardians ---------------------------------------------------------------------------------- */

#define HOUR LEDGER_RECOVERY_MS_MIN

static const enum world_who GUARDS[] = {WORLD_DEV, WORLD_BASE, WORLD_OWNER};
static ProtobufCBinaryData guard_fields[LEDGER_GUARDIANS_MAX + 1];

static int by_id(const void *a, const void *b)
{
    const ProtobufCBinaryData *left = a;
    const ProtobufCBinaryData *right = b;
    return memcmp(left->data, right->data, ACCOUNT_ID_SIZE);
}

static Openledger__V1__TxBody *guardians_of(size_t count, uint32_t threshold, uint64_t delay_ms)
{
    static Openledger__V1__TxBody body;
    static Openledger__V1__SetGuardians action;
    for (size_t i = 0; i < count && i < 3; i++) {
        guard_fields[i] = world_id_field(world, GUARDS[i]);
    }
    qsort(guard_fields, count < 3 ? count : 3, sizeof guard_fields[0], by_id);
    openledger__v1__set_guardians__init(&action);
    action.guardians = guard_fields;
    action.n_guardians = count;
    action.threshold = threshold;
    action.delay_ms = delay_ms;
    openledger__v1__tx_body__init(&body);
    body.action_case = OPENLEDGER__V1__TX_BODY__ACTION_SET_GUARDIANS;
    body.set_guardians = &action;
    return &body;
}

static Openledger__V1__TxBody *approve(enum world_who account, const struct key_pair *keys)
{
    static Openledger__V1__TxBody body;
    static Openledger__V1__ApproveRecovery action;
    openledger__v1__approve_recovery__init(&action);
    action.account = world_id_field(world, account);
    action.key = ledger_binary(key_pair_public(keys)->bytes, PUBLIC_KEY_SIZE);
    openledger__v1__tx_body__init(&body);
    body.action_case = OPENLEDGER__V1__TX_BODY__ACTION_APPROVE_RECOVERY;
    body.approve_recovery = &action;
    return &body;
}

/* The payer's account takes these keys, signed by them alone. */
static enum err complete(const struct key_pair *keys)
{
    Openledger__V1__CompleteRecovery action = OPENLEDGER__V1__COMPLETE_RECOVERY__INIT;
    WORLD_ACTION(body, COMPLETE_RECOVERY, complete_recovery, &action);
    const struct ledger_signer signer = {.account = &world->ids[WORLD_PAYER], .keys = keys};
    action.key = ledger_binary(key_pair_public(keys)->bytes, PUBLIC_KEY_SIZE);
    return try_signed(WORLD_PAYER, &signer, 1, &body);
}

static void expect_incomplete(const struct key_pair *keys, enum err expected, const char *words)
{
    struct digest before;
    struct digest after;
    ledger_state_root(world->ledger, &before);
    enum err err = complete(keys);
    ledger_state_root(world->ledger, &after);
    ck_assert_msg(err == expected, "%s: %s", err_name(err), world->note.text);
    ck_assert_msg(strstr(world->note.text, words) != NULL, "note: %s", world->note.text);
    ck_assert(digest_equal(&before, &after));
}

static Openledger__V1__TxBody *cancel(void)
{
    static Openledger__V1__TxBody body;
    static Openledger__V1__CancelRecovery action;
    openledger__v1__cancel_recovery__init(&action);
    openledger__v1__tx_body__init(&body);
    body.action_case = OPENLEDGER__V1__TX_BODY__ACTION_CANCEL_RECOVERY;
    body.cancel_recovery = &action;
    return &body;
}

START_TEST(test_guardians_refused)
{
    expect_refused(world, WORLD_PAYER, guardians_of(9, 2, HOUR), ERR_LIMIT, "9 guardians");
    expect_refused(world, WORLD_PAYER, guardians_of(3, 4, HOUR), ERR_RANGE, "threshold 4 of 3");
    expect_refused(world, WORLD_PAYER, guardians_of(3, 0, HOUR), ERR_RANGE, "threshold 0 of 3");
    expect_refused(world, WORLD_PAYER, guardians_of(0, 1, 0), ERR_RANGE, "threshold 1 of 0");
    expect_refused(world, WORLD_PAYER, guardians_of(3, 2, HOUR - 1), ERR_RANGE, "delay 3599999");
    expect_refused(world, WORLD_PAYER, guardians_of(3, 2, LEDGER_RECOVERY_MS_MAX + 1), ERR_RANGE,
                   "delay 7776000001");
    expect_refused(world, WORLD_PAYER, guardians_of(0, 0, HOUR), ERR_RANGE, "delay");
    expect_refused(world, WORLD_DEV, guardians_of(3, 2, HOUR), ERR_INVALID, "guard itself");
    Openledger__V1__TxBody *body = guardians_of(3, 2, HOUR);
    guard_fields[1] = guard_fields[0];
    expect_refused(world, WORLD_PAYER, body, ERR_INVALID, "ascend");
    expect_refused(world, WORLD_DEV, approve(WORLD_PAYER, world->keys[WORLD_ALICE]), ERR_DENIED,
                   "no guardian");
    expect_refused(world, WORLD_PAYER, cancel(), ERR_NOT_FOUND, "no guardian has approved");
    expect_incomplete(world->keys[WORLD_ALICE], ERR_NOT_FOUND, "has no guardians");
}
END_TEST

START_TEST(test_recovery)
{
    const struct key_pair *fresh = world->keys[WORLD_ALICE];
    const struct key_pair *other = world->keys[WORLD_BOB];
    expect_ok(world, WORLD_PAYER, guardians_of(3, 2, HOUR));
    expect_refused(world, WORLD_TRAINER, approve(WORLD_PAYER, fresh), ERR_DENIED, "no guardian");
    expect_ok(world, WORLD_DEV, approve(WORLD_PAYER, fresh));
    expect_refused(world, WORLD_DEV, approve(WORLD_PAYER, fresh), ERR_CONFLICT, "already");
    expect_incomplete(fresh, ERR_DENIED, "fewer than 2");
    /* Two guardians who want different keys are not two for one key. */
    expect_ok(world, WORLD_BASE, approve(WORLD_PAYER, other));
    world->now_ms += HOUR;
    expect_incomplete(fresh, ERR_DENIED, "fewer than 2");
    /* The delay counts from the approval that makes the threshold. */
    expect_ok(world, WORLD_BASE, approve(WORLD_PAYER, fresh));
    world->now_ms += HOUR - 1;
    expect_incomplete(fresh, ERR_CONFLICT, "can be completed from");
    /* The owner objects: all begins again. */
    expect_ok(world, WORLD_PAYER, cancel());
    world->now_ms += 1;
    expect_incomplete(fresh, ERR_DENIED, "fewer than 2");
    expect_ok(world, WORLD_OWNER, approve(WORLD_PAYER, fresh));
    expect_ok(world, WORLD_BASE, approve(WORLD_PAYER, fresh));
    world->now_ms += HOUR;
    /* A further approval does not delay it again. */
    expect_ok(world, WORLD_DEV, approve(WORLD_PAYER, fresh));
    expect_incomplete(other, ERR_DENIED, "fewer than 2");
    expect_incomplete(world->keys[WORLD_PAYER], ERR_CONFLICT, "key already");
    ck_assert_int_eq(complete(fresh), ERR_OK);
    expect_roots();
    expect_incomplete(fresh, ERR_CONFLICT, "key already");
    /* The old key speaks for the account no more, the new one does, once for all approvals. */
    ck_assert_int_eq(world_transfer(world, WORLD_PAYER, WORLD_DEV, "1"), ERR_DENIED);
    world->keys[WORLD_ALICE] = world->keys[WORLD_PAYER];
    world->keys[WORLD_PAYER] = (struct key_pair *)(uintptr_t)fresh;
    ck_assert_int_eq(world_transfer(world, WORLD_PAYER, WORLD_DEV, "1"), ERR_OK);
    expect_refused(world, WORLD_PAYER, cancel(), ERR_NOT_FOUND, "no guardian has approved");
    /* Another set of guardians forgets approvals; none switches recovery off. */
    expect_ok(world, WORLD_DEV, approve(WORLD_PAYER, other));
    expect_ok(world, WORLD_PAYER, guardians_of(2, 1, HOUR));
    world->now_ms += HOUR;
    expect_incomplete(other, ERR_DENIED, "fewer than 1");
    expect_ok(world, WORLD_PAYER, guardians_of(0, 0, 0));
    expect_refused(world, WORLD_DEV, approve(WORLD_PAYER, other), ERR_DENIED, "no guardian");
    expect_replays(world);
}
END_TEST

/* CompleteRecovery is the one action besides OpenAccount whose sender need not sign with its current
 * key: a key that is not stated, or a signature by another, must not do. */
START_TEST(test_recovery_signatures)
{
    const struct key_pair *fresh = world->keys[WORLD_ALICE];
    expect_ok(world, WORLD_PAYER, guardians_of(1, 1, HOUR));
    expect_ok(world, WORLD_DEV, approve(WORLD_PAYER, fresh));
    world->now_ms += HOUR;
    Openledger__V1__CompleteRecovery action = OPENLEDGER__V1__COMPLETE_RECOVERY__INIT;
    WORLD_ACTION(body, COMPLETE_RECOVERY, complete_recovery, &action);
    const struct ledger_signer dev = signer_of(WORLD_DEV);
    const struct ledger_signer old = signer_of(WORLD_PAYER);
    const struct ledger_signer bob = {.account = &world->ids[WORLD_PAYER],
                                      .keys = world->keys[WORLD_BOB]};
    action.key = ledger_binary(key_pair_public(fresh)->bytes, PUBLIC_KEY_SIZE);
    ck_assert_int_eq(try_signed(WORLD_PAYER, &dev, 1, &body), ERR_DENIED);
    ck_assert_int_eq(try_signed(WORLD_PAYER, &old, 1, &body), ERR_DENIED);
    ck_assert_int_eq(try_signed(WORLD_PAYER, &bob, 1, &body), ERR_DENIED);
    action.key.len--;
    ck_assert_int_eq(try_signed(WORLD_PAYER, &old, 1, &body), ERR_INVALID);
    ck_assert_int_eq(complete(fresh), ERR_OK);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("ledger custody");
    TCase *tcase = tcase_create("all");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_set_timeout(tcase, 120);
    tcase_add_test(tcase, test_linked);
    tcase_add_test(tcase, test_hold);
    tcase_add_test(tcase, test_hold_random);
    tcase_add_test(tcase, test_guardians_refused);
    tcase_add_test(tcase, test_recovery);
    tcase_add_test(tcase, test_recovery_signatures);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
