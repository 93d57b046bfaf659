/* test_ledger_challenge.c - a completed job is challenged, validators attest: each rule with its refusals,
 * each outcome, and random votes against an obvious count. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#include "shared/base/check.h"
#include "shared/ledger/changes.h"
#include "shared/ledger/evidence.h"
#include "shared/ledger/stake.h"
#include "tests/harness/ledger_expect.h"
#include "tests/harness/seed.h"

static struct world *world;

static void setup(void)
{
    world = world_create();
    world_setup(world);
    ck_assert_int_eq(world_bond(world, WORLD_BASE, LEDGER_ROLE_VALIDATOR, "2000"), ERR_OK);
    ck_assert_int_eq(world_bond(world, WORLD_PAYER, LEDGER_ROLE_VALIDATOR, "1000"), ERR_OK);
    ck_assert_int_eq(world_bond(world, WORLD_SERVICE, LEDGER_ROLE_VALIDATOR, "1000"), ERR_OK);
    expect_seals(world, 1);
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

static Openledger__V1__TxBody *challenge(const struct digest *job)
{
    BODY(CHALLENGE_JOB, challenge_job, ChallengeJob, challenge_job);
    action.job = expect_digest_field(job);
    action.reason = world_text("step 7 differs");
    return &body;
}

static Openledger__V1__TxBody *attest(bool failed)
{
    BODY(ATTEST_JOB, attest_job, AttestJob, attest_job);
    action.job = expect_digest_field(&world->job);
    action.failed = failed;
    return &body;
}

static Openledger__V1__TxBody *close_of(void)
{
    BODY(CLOSE_CHALLENGE, close_challenge, CloseChallenge, close_challenge);
    action.job = expect_digest_field(&world->job);
    return &body;
}

static uint32_t outcome(void)
{
    return ledger_challenge(world->ledger, &world->job)->outcome;
}

START_TEST(test_refuted)
{
    const struct digest none = {{8}};
    struct account_id escrow;
    expect_refused(world, WORLD_BASE, attest(true), ERR_NOT_FOUND, "no open challenge");
    expect_refused(world, WORLD_BASE, close_of(), ERR_NOT_FOUND, "no open challenge");
    expect_refused(world, WORLD_BASE, challenge(&none), ERR_NOT_FOUND, "no job");
    expect_refused(world, WORLD_OWNER, challenge(&world->job), ERR_DENIED, "no bond as validator");
    Openledger__V1__TxBody *bad = challenge(&world->job);
    bad->challenge_job->reason = world_text("\x05");
    expect_refused(world, WORLD_BASE, bad, ERR_INVALID, "reason");
    expect_ok(world, WORLD_PAYER, challenge(&world->job));
    struct digest id = world->tx;
    ledger_challenge_escrow_id(&id, &escrow);
    expect_balance(world, &escrow, "100");
    expect_refused(world, WORLD_BASE, challenge(&world->job), ERR_CONFLICT, "challenged already");
    expect_refused(world, WORLD_BASE, attest(true), ERR_CONFLICT, "count in blocks");
    expect_refused(world, WORLD_BASE, close_of(), ERR_CONFLICT, "open until");
    expect_seals(world, 1);
    /* Who bonds after the snapshot has no say. */
    ck_assert_int_eq(world_bond(world, WORLD_DEV, LEDGER_ROLE_VALIDATOR, "90000"), ERR_OK);
    expect_refused(world, WORLD_DEV, attest(false), ERR_DENIED, "no stake as validator");
    expect_ok(world, WORLD_BASE, attest(true));
    ck_assert_uint_eq(outcome(), LEDGER_CHALLENGE_OPEN);
    expect_refused(world, WORLD_BASE, attest(false), ERR_CONFLICT, "attested already");
    struct ledger_head head;
    ledger_head(world->ledger, &head);
    expect_ok(world, WORLD_SERVICE, attest(true)); /* 3,000 of 4,000 */
    ck_assert_uint_eq(outcome(), LEDGER_CHALLENGE_REFUTED);
    ck_assert_uint_eq(ledger_job(world->ledger, &world->job)->state, LEDGER_JOB_REFUTED);
    expect_balance(world, &escrow, "0");
    /* The trainer loses 500: 50 for the challenger, its fee of 5 to the developer, the rest to stakers. */
    char text[AMOUNT_TEXT_SIZE];
    ck_assert_str_eq(
        amount_format(ledger_bond(world->ledger, &world->ids[WORLD_TRAINER], LEDGER_ROLE_TRAINER),
                      text),
        "500");
    expect_balance(world, &world->ids[WORLD_DEV], "99910000");
    const struct ledger_adapter *adapter = ledger_adapter(world->ledger, "adapter");
    ck_assert(!ledger_adapter_revoked(adapter, world->now_ms));
    ck_assert(ledger_adapter_revoked(adapter, world->now_ms + 600000));
    expect_refused(world, WORLD_PAYER, attest(true), ERR_NOT_FOUND, "no open challenge");
    expect_refused(world, WORLD_PAYER, challenge(&world->job), ERR_CONFLICT, "refuted already");
    expect_replays(world);
}
END_TEST

START_TEST(test_sound)
{
    expect_ok(world, WORLD_PAYER, challenge(&world->job));
    expect_seals(world, 1);
    char before[AMOUNT_TEXT_SIZE];
    (void)world_balance(world, &world->ids[WORLD_TRAINER], before);
    ck_assert_str_eq(before, "9999005");
    expect_ok(world, WORLD_SERVICE, attest(false)); /* 75 % are left: still possible */
    ck_assert_uint_eq(outcome(), LEDGER_CHALLENGE_OPEN);
    expect_ok(world, WORLD_BASE, attest(false));
    ck_assert_uint_eq(outcome(), LEDGER_CHALLENGE_SOUND);
    expect_balance(world, &world->ids[WORLD_TRAINER], "9999105");
    ck_assert_uint_eq(ledger_job(world->ledger, &world->job)->state, LEDGER_JOB_COMPLETED);
    expect_refused(world, WORLD_BASE, challenge(&world->job), ERR_CONFLICT, "was found sound");
    expect_replays(world);
}
END_TEST

START_TEST(test_undecided)
{
    expect_ok(world, WORLD_PAYER, challenge(&world->job));
    expect_seals(world, 1);
    expect_ok(world, WORLD_BASE, attest(true));
    expect_seals(world, 5);
    expect_refused(world, WORLD_SERVICE, attest(true), ERR_CONFLICT, "count in blocks");
    expect_ok(world, WORLD_OWNER, close_of());
    ck_assert_uint_eq(outcome(), LEDGER_CHALLENGE_UNDECIDED);
    expect_balance(world, &world->ids[WORLD_PAYER], "300999000");
    /* It may be challenged again; what was attested then does not count now. */
    expect_ok(world, WORLD_SERVICE, challenge(&world->job));
    expect_seals(world, 1);
    expect_ok(world, WORLD_SERVICE, attest(true));
    ck_assert_uint_eq(outcome(), LEDGER_CHALLENGE_OPEN);
    expect_ok(world, WORLD_BASE, attest(true));
    ck_assert_uint_eq(outcome(), LEDGER_CHALLENGE_REFUTED);
    expect_replays(world);
}
END_TEST

START_TEST(test_window)
{
    uint64_t completed = ledger_job(world->ledger, &world->job)->completed_ms;
    ck_assert_uint_ne(completed, 0);
    world->now_ms = completed + 100000;
    expect_refused(world, WORLD_BASE, challenge(&world->job), ERR_CONFLICT, "could be challenged");
    world->now_ms = completed + 99999;
    expect_ok(world, WORLD_BASE, challenge(&world->job));
}
END_TEST

/* A trainer that has taken all its stake home: the verdict stands all the same. */
START_TEST(test_trainer_left)
{
    Openledger__V1__Unbond unbond = OPENLEDGER__V1__UNBOND__INIT;
    Openledger__V1__Release release = OPENLEDGER__V1__RELEASE__INIT;
    unbond.role = release.role = OPENLEDGER__V1__ROLE__ROLE_TRAINER;
    unbond.amount = world_text("1000");
    WORLD_ACTION(body, UNBOND, unbond, &unbond);
    WORLD_ACTION(body2, RELEASE, release, &release);
    expect_ok(world, WORLD_TRAINER, &body);
    world->now_ms += 60000;
    expect_ok(world, WORLD_TRAINER, &body2);
    expect_ok(world, WORLD_PAYER, challenge(&world->job));
    expect_seals(world, 1);
    expect_ok(world, WORLD_PAYER, attest(true));
    expect_ok(world, WORLD_BASE, attest(true));
    ck_assert_uint_eq(outcome(), LEDGER_CHALLENGE_REFUTED);
    expect_replays(world);
}
END_TEST

/* Whoever attests what, in any order: the outcome is what the stakes add up to. */
START_TEST(test_random)
{
    static const enum world_who WHO[] = {WORLD_BASE, WORLD_PAYER, WORLD_SERVICE};
    static const unsigned STAKE[] = {2000, 1000, 1000};
    for (int round = 0; round < 12; round++) {
        unsigned failed = 0;
        unsigned sound = 0;
        bool done[3] = {false};
        teardown();
        setup();
        expect_ok(world, WHO[test_rand() % 3], challenge(&world->job));
        expect_seals(world, 1);
        for (int i = 0; i < 12; i++) {
            unsigned who = (unsigned)(test_rand() % 3);
            bool vote = test_rand() % 2 == 0;
            bool decided = failed * 10000 >= 6667 * 4000 || (4000 - sound) * 10000 < 6667 * 4000;
            enum err expected = decided ? ERR_NOT_FOUND : done[who] ? ERR_CONFLICT : ERR_OK;
            ck_assert_int_eq(world_try(world, WHO[who], attest(vote)), expected);
            if (expected == ERR_OK) {
                done[who] = true;
                *(vote ? &failed : &sound) += STAKE[who];
            }
        }
        enum ledger_challenge_outcome wanted =
            failed * 10000 >= 6667 * 4000          ? LEDGER_CHALLENGE_REFUTED
            : (4000 - sound) * 10000 < 6667 * 4000 ? LEDGER_CHALLENGE_SOUND
                                                   : LEDGER_CHALLENGE_OPEN;
        ck_assert_uint_eq(outcome(), wanted);
        expect_replays(world);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("ledger challenge");
    TCase *tcase = tcase_create("all");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_set_timeout(tcase, 120);
    tcase_add_test(tcase, test_refuted);
    tcase_add_test(tcase, test_sound);
    tcase_add_test(tcase, test_undecided);
    tcase_add_test(tcase, test_window);
    tcase_add_test(tcase, test_trainer_left);
    tcase_add_test(tcase, test_random);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
